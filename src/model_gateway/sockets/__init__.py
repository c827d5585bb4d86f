"""Listening sockets: how connections are accepted, alone or together with other processes."""
