"""May this caller enter now? Never looks at what it asks."""
