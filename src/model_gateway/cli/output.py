"""What commands print besides their result: error lines, warnings, and an assessment's factors.

Decides wording and alignment only. Without typer, which `serve` does not load.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from model_gateway.config.errors import StartupError


class CommandFailed(StartupError):
    """A command could not do its work: `message` is one line, `remedy` what to do."""


def echo(text: str, *, err: bool = False) -> None:
    """A line on stdout or stderr, at once: typer's `echo` where typer is not loaded."""
    stream = sys.stderr if err else sys.stdout
    stream.write(f"{text}\n")
    stream.flush()


def report(error: StartupError) -> None:
    """`error: …` for each line of the message, then the remedy, on stderr."""
    for line in error.message.splitlines():
        echo(f"error: {line}", err=True)
    if error.remedy:
        echo(f"hint: {error.remedy}", err=True)


def warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        echo(f"warning: {warning}", err=True)


def factor_lines(factors: Iterable[tuple[str, float, float, str]]) -> Iterator[str]:
    """One line for each (name, value 0–1, contribution to the score, detail)."""
    for name, value, contribution, detail in factors:
        shown = round(contribution, 3) + 0.0  # not -0.000
        yield f"{name:<22} {value:>5.2f}  {shown:>+6.3f}  {detail}".rstrip()


def client_host(listening: str) -> str:
    """The host to write into a URL for a server of this machine that listens at this address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listening, listening)  # noqa: S104 - compared, not bound
    return f"[{host}]" if ":" in host else host
