"""The command line: arguments in, exit code out. Decides nothing about requests."""
