"""`ledger current`, `upgrade`, `downgrade`: the layout of the ledger's database, looked at and changed by hand.

Decides who may be in the way of a change: a gateway that serves, and rows that a killed one has left in its journal.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from model_gateway import __version__
from model_gateway.budget.journal import folder_of, owned, read
from model_gateway.cli.output import CommandFailed, warn
from model_gateway.config.load import load
from model_gateway.config.schema import LedgerConfig
from model_gateway.storage.audit import operator
from model_gateway.storage.database import HEAD, engine_of, open_database, reading, version_of
from model_gateway.storage.stepping import downgrade as step_down

_OTHERS = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


def current(path: Path | None) -> None:
    """Raises CommandFailed where this version cannot serve with it."""
    ledger = _ledger(path)
    with _opened(ledger) as engine, reading(engine) as connection:
        version, kind = version_of(connection), connection.dialect.name
    typer.echo(f"layout {version or 'none'} ({kind}); model-gateway {__version__} has layout {HEAD}")
    if version is not None and version > HEAD:
        raise CommandFailed(
            f"a newer gateway has written it: this one knows layouts up to {HEAD}",
            f"run that version; or have it go back first: model-gateway ledger downgrade {HEAD}",
        )
    if version != HEAD:
        typer.echo("the next start brings it there, and so does `model-gateway ledger upgrade`")


def upgrade(path: Path | None) -> None:
    """As a start of the gateway does. Raises StartupError."""
    ledger = _ledger(path)
    with _opened(ledger) as engine, reading(engine) as connection:
        before = version_of(connection)
    open_database(ledger).dispose()
    typer.echo(
        f"layout {HEAD} already: nothing to do" if before == HEAD else f"layout {before or 'none'} is {HEAD} now"
    )


def downgrade(path: Path | None, revision: str, *, force: bool) -> None:
    """Raises StartupError; nothing is changed then."""
    ledger = _ledger(path)
    with _opened(ledger) as engine:
        in_the_way = [*_in_the_way(ledger, engine)]
        if in_the_way and not force:
            raise CommandFailed("\n".join(in_the_way), "stop what uses it; --force goes on all the same")
        step = step_down(engine, revision, operator(), time.time(), force=force)
    warn([*in_the_way, *(f"lost: {each}" for each in step.lost)])
    typer.echo(f"layout {step.was} is {step.now} now: start the older gateway, this one would bring it back to {HEAD}")


def _ledger(path: Path | None) -> LedgerConfig:
    ledger = load(path, os.environ, Path.cwd()).config.ledger
    if not ledger.enabled:
        raise CommandFailed("ledger.enabled is false: there is no database", "enable it")
    if ledger.url is None and not Path(ledger.path).exists():
        raise CommandFailed(f"there is no ledger at {ledger.path}", "start the gateway once, or pass --config")
    return ledger


@contextmanager
def _opened(ledger: LedgerConfig) -> Generator[Engine]:
    engine = engine_of(ledger)
    try:
        yield engine
    except DBAPIError as error:
        option = "ledger.url" if ledger.url else "ledger.path"
        raise CommandFailed(
            f"{option}: {error.orig}", "`model-gateway doctor` says what is wrong with the database"
        ) from None
    finally:
        engine.dispose()


def _in_the_way(ledger: LedgerConfig, engine: Engine) -> Iterator[str]:
    folder = folder_of(ledger.path)
    if owned(folder):
        yield f"a gateway that is running uses {ledger.path}"
    else:
        rows = sum(1 for path in folder.glob("*.journal") for _ in read(path))
        if rows:
            yield f"{rows} rows of a killed gateway wait in {folder}: start this version once, and stop it"
    if ledger.url is not None:
        with reading(engine) as connection:
            others = connection.execute(_OTHERS).scalar_one()
        if others:
            yield f"ledger.url: {others} other connections use the database"
