"""Reads closed records: metrics, log lines, alerts. Never called from inside a step."""
