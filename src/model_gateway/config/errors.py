"""Mistakes a user can make before the gateway serves: each is one line saying what is wrong and what to do."""

from __future__ import annotations


class StartupError(Exception):
    """The gateway cannot start. The CLI prints `message` and `remedy` and exits with `exit_code`."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class ConfigError(StartupError):
    """The configuration is wrong: `message` names the file, the path inside it and the nearest valid option."""

    exit_code = 2
