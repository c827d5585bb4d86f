"""`audit`: what the audit log says, and whether it is whole. And how other commands write to it.

Decides options and wording; what an entry is and how the chain is checked: storage/audit.py.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from model_gateway.cli.output import CommandFailed, warn
from model_gateway.config.errors import StartupError
from model_gateway.config.load import load
from model_gateway.config.schema import LedgerConfig
from model_gateway.storage import audit
from model_gateway.storage.audit import Act, Entry, operator
from model_gateway.storage.database import engine_of, reading

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NO_LOG = "start the gateway once, run `model-gateway ledger upgrade`, or pass --config"


def show(path: Path | None, since: str | None, action: str, limit: int, *, as_json: bool) -> None:
    """The newest entries, in the order of time. Raises CommandFailed."""
    begin = _moment(since) if since else 0.0
    with _reading(path) as connection:
        found = [*reversed(audit.entries(connection, begin, action, None, limit))]
    if as_json:
        typer.echo(json.dumps([audit.facts(each) for each in found], ensure_ascii=False, indent=2))
        return
    if not found:
        typer.echo("no such entry")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("no.", "time (UTC)", "who", "from", "action", "on", "outcome", "detail"):
        table.add_column(column, justify="right" if column == "no." else "left")
    for each in found:
        table.add_row(
            str(each.seq), audit.moment(each.at)[:19], each.actor, each.source, each.action, each.target, each.outcome,
            _detail(each),
        )  # fmt: skip
    Console(soft_wrap=True, width=240, markup=False, highlight=False).print(table)


def verify(path: Path | None, known: str, *, as_json: bool) -> None:
    """Raises CommandFailed where the log was tampered with."""
    if known and not _DIGEST.fullmatch(known):
        raise CommandFailed(f"--known {known}: not a digest", "64 hexadecimal digits, as `audit --verify` prints them")
    with _reading(path) as connection:
        checked = audit.verify(connection, known)
    if as_json:
        typer.echo(msgspec.json.encode(checked).decode())
    if checked.fault:
        raise CommandFailed(
            f"the audit log was tampered with: {checked.fault}",
            "a backup from before has the log as it was: `model-gateway restore FILE --extract FOLDER`",
        )
    if not as_json:
        typer.echo(f"ok: {checked.count} entries, none changed, removed or put in between")
        if checked.last:
            typer.echo(f"last digest, to be kept elsewhere and asked for with --known: {checked.last}")


def note(config: LedgerConfig, *acts: Act) -> None:
    """What a command has done that needs no database itself. Where it cannot be written a warning says so."""
    if not config.enabled or (config.url is None and not Path(config.path).exists()):
        return
    now, by = time.time(), operator()
    try:
        engine = engine_of(config)
        try:
            with engine.begin() as connection:
                if audit.kept_in(connection):
                    for act in acts:
                        audit.append(connection, by, act, now)
        finally:
            engine.dispose()
    except (StartupError, DBAPIError, PoolTimeout) as error:
        reason = getattr(error, "orig", None) or error
        warn([f"the audit log could not be written ({reason}): {', '.join(act.action for act in acts)} is not in it"])


@contextmanager
def _reading(path: Path | None) -> Generator[Connection]:
    config = load(path, os.environ, Path.cwd()).config.ledger
    option = "ledger.url" if config.url else "ledger.path"
    if config.url is None and not Path(config.path).exists():
        raise CommandFailed(f"there is no ledger at {config.path}", _NO_LOG)
    engine = engine_of(config)
    try:
        with reading(engine) as connection:
            if not audit.kept_in(connection):
                raise CommandFailed(f"{option}: the database has no audit log yet", _NO_LOG)
            yield connection
    except DBAPIError as error:
        raise CommandFailed(
            f"{option}: the ledger cannot be read: {error.orig}", "`model-gateway doctor` says what is wrong with it"
        ) from None
    finally:
        engine.dispose()


def _detail(entry: Entry) -> str:
    told = msgspec.json.decode(entry.detail, type=dict[str, object])
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in told.items()
        if value not in ("", None, [], {})
    )


def _moment(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CommandFailed(
            f"--since {text}: not a day or time", "write 2026-11-01 or 2026-11-01T08:00:00Z (UTC)"
        ) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
