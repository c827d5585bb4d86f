"""Schemas and framing of the protocols. No behaviour, no I/O."""
