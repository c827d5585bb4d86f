"""What an option means and which mistakes are errors. Never opens a connection."""
