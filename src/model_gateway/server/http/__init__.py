"""The HTTP door, on a protocol of its own over httptools."""
