"""The program's entry. `serve` starts without typer, which would stay for as long as it serves.

Decides only who reads the arguments: what is not plainly options of `serve` is left to typer, mistakes and --help too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

_CONFIG: Final = ("--config", "-c")
_TEXT_LOGS: Final = "--text-logs"
_WORKERS: Final = "--workers"
MOST_WORKERS: Final = 120


class Serve(NamedTuple):
    """The options of `serve`, whose meaning app.py tells."""

    config: Path | None = None
    text_logs: bool = False
    workers: str | None = None


def main() -> None:
    """The entry point of the `model-gateway` script."""
    wanted = plainly_serve(sys.argv[1:])
    if wanted is None:
        from model_gateway.cli.app import app

        app()
    else:
        _serve(wanted)


def plainly_serve(arguments: Sequence[str]) -> Serve | None:
    """What `serve` was asked for; None where another command was, or where typer has something to say."""
    if not arguments or arguments[0] != "serve":
        return None
    wanted, rest = Serve(), iter(arguments[1:])
    for name in rest:
        if name == _TEXT_LOGS:
            wanted = wanted._replace(text_logs=True)
            continue
        option, joined, value = name.partition("=")
        if option in ("-c", _TEXT_LOGS) and joined:
            return None
        if not joined:
            value = next(rest, "")
        if not value or value.startswith("-"):
            return None
        if option in _CONFIG:
            wanted = wanted._replace(config=Path(value))
        elif option == _WORKERS and possible(value):
            wanted = wanted._replace(workers=value)
        else:
            return None
    return wanted


def possible(workers: str) -> bool:
    """Is it a number of processes, or max?"""
    return workers == "max" or (workers.isdecimal() and 0 < int(workers) <= MOST_WORKERS)


def _serve(wanted: Serve) -> None:
    from model_gateway.cli.output import report
    from model_gateway.cli.serve import serve
    from model_gateway.config.errors import StartupError

    try:
        serve(wanted.config, text_logs=wanted.text_logs, workers=wanted.workers)
    except StartupError as error:
        report(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # before it could be asked to stop
        sys.exit(130)
