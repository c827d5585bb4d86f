"""model-gateway: judges how hard each query is, sends it to the right model, and accounts for it."""

__version__ = "0.1.0"
