"""May this text pass? Never changes it."""
