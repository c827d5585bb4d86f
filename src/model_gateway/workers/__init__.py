"""Processes that serve, and what changes under them while they do: supervision and reload."""
