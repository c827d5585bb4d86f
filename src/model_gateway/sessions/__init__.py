"""Which requests are one conversation, and what is remembered of it: a tier and a target, never a word."""
