"""The nouns of the gateway as plain data. Imports nothing of ours and does no I/O."""
