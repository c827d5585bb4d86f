"""The way back: a database in an older layout again, for an older version of the package.

Decides what would be lost on the way, and that nothing is unless it is meant so. One transaction: whoever is killed in
it has changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from sqlalchemy import Connection, Engine, inspect, text

from model_gateway.config.errors import StartupError
from model_gateway.storage import audit
from model_gateway.storage.audit import Act, Actor
from model_gateway.storage.database import HEAD, migrate, preparing, version_of

_STAMPS = frozenset(("alembic_version", "ledger_version"))


class StepRefused(StartupError):
    """The layout stays as it is."""


class Step(msgspec.Struct, frozen=True):
    """`was` and `now` are layouts; `lost`: in words, what the older one has no place for."""

    was: str
    now: str
    lost: Sequence[str]


def layouts() -> Sequence[str]:
    """All that this version knows, oldest first."""
    folder = Path(__file__).parent / "migrations" / "versions"
    return sorted(path.name[:4] for path in folder.glob("[0-9]*_*.py"))


def downgrade(engine: Engine, revision: str, by: Actor, now: float, *, force: bool) -> Step:
    """Raises StepRefused: no such layout, or `force` is missing and something would be lost."""
    known = layouts()
    with preparing(engine) as connection, connection.begin():
        was = version_of(connection)
        if was is None or was > HEAD or revision not in known or revision >= was:
            older = [each for each in known if was and each < was <= HEAD]
            raise StepRefused(
                f"the database has layout {was or 'none'}, and {revision} is not an older one that is known here",
                f"one of {', '.join(older)}; `model-gateway ledger current` says more"
                if older
                else "run the version that wrote it"
                if was and was > HEAD
                else "there is nothing to go back to",
            )
        before = _held(connection)
        if audit.kept_in(connection):
            act = Act("ledger.downgraded", revision, detail={"from": was, "forced": force})
            audit.append(connection, by, act, now)
        migrate(connection, revision)
        lost = [*_lost(before, _held(connection))]
        if lost and not force:
            raise StepRefused(
                f"layout {revision} has no place for {'; '.join(lost)}. Nothing is changed",
                "take a backup, then say --force",
            )
    return Step(was, revision, lost)


class _Table(msgspec.Struct, frozen=True):
    rows: int
    columns: frozenset[str]


def _held(connection: Connection) -> Mapping[str, _Table]:
    looking = inspect(connection)
    found: dict[str, _Table] = {}
    for name in looking.get_table_names():
        if name not in _STAMPS:
            rows = connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()  # noqa: S608 - its own name
            found[name] = _Table(rows, frozenset(column["name"] for column in looking.get_columns(name)))
    return found


def _lost(before: Mapping[str, _Table], after: Mapping[str, _Table]) -> Sequence[str]:
    lost: list[str] = []
    for name, table in before.items():
        if table.rows and name not in after:
            lost.append(f"{table.rows} {'row' if table.rows == 1 else 'rows'} of {name}")
        elif table.rows and (gone := table.columns - after[name].columns):
            lost.append(f"{', '.join(sorted(gone))} of {table.rows} {name}")
    return lost
