"""Backups: one file of what a running gateway knows, and the way back."""
