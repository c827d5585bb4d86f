"""Trying targets until one answers."""
