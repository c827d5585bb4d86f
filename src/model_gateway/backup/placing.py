"""Puts a restored ledger in its place: an SQLite file, or the tables of a PostgreSQL database.

Decides what must not be overwritten, and how what was there is kept: the file under another name, the tables in a
schema of their own. Either all of the new is there afterwards, or none of it.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine, func, insert, inspect, select, text
from sqlalchemy.exc import DatabaseError

from model_gateway.backup import snapshot
from model_gateway.backup.archive import BackupError, sync_folder
from model_gateway.budget.journal import folder_of, owned
from model_gateway.config.schema import LedgerConfig
from model_gateway.storage.database import engine_of, prepare, version_of
from model_gateway.storage.schema import audit, metadata

KEPT = ".before-restore"
_SIDES = ("", "-wal", "-shm")
_STAMPS = ("alembic_version", "ledger_version")
_NO_OBSTACLES = (*_STAMPS, audit.name)  # a gateway that has only been started has that much; it is kept all the same
_OTHERS = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


def obstacles(config: LedgerConfig) -> Iterator[str]:
    """Why nothing should be restored here without force, each in words. Raises BackupError: no database answers."""
    if owned(folder_of(config.path)):
        yield f"a gateway that is running uses {config.path}"
    if config.url is None:
        path = Path(config.path)
        if path.exists() and path.stat().st_size:
            yield from _of_file(path)
        return
    engine = engine_of(config)
    try:
        with engine.connect() as connection:
            others = connection.execute(_OTHERS).scalar_one()
            if others:
                yield f"ledger.url: {others} other connections use the database"
            if _filled(connection, _NO_OBSTACLES):
                yield "ledger.url: the database has a ledger with rows"
    except DatabaseError as error:
        raise BackupError(f"ledger.url: {error.orig}", "check address, user, password") from error
    finally:
        engine.dispose()


def place(staged: Path, config: LedgerConfig, now: datetime) -> str:
    """Returns where the old one is now; empty: there was none. Raises BackupError, and OSError for this disk."""
    if config.url is None:
        return _place_file(staged, Path(config.path))
    engine = engine_of(config)
    try:
        with engine.begin() as connection:
            return _place_tables(staged, connection, f"before_restore_{now:%Y%m%d_%H%M%S}")
    except DatabaseError as error:
        raise BackupError(
            f"ledger.url: the ledger cannot be restored, and is as it was: {error.orig}",
            "the user needs the right to make tables and schemas; nobody else may hold the tables",
        ) from error
    finally:
        engine.dispose()


def put(source: Path, target: Path) -> str:
    """A single file, whole or not at all; one that is there is kept. Returns where, as `place`."""
    kept = _keep(target, ("",))
    target.parent.mkdir(parents=True, exist_ok=True)
    _move(source, target)
    return kept


def _of_file(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(path, timeout=0.2, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN IMMEDIATE")  # refused as long as anybody else has the file open
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            if any(_has_rows(connection, name) for name in tables if name not in _NO_OBSTACLES):
                yield f"{path} has rows"
        except sqlite3.OperationalError as error:
            yield f"{path} is in use: {error}"
        except sqlite3.DatabaseError as error:
            yield f"{path} cannot be read: {error}"


def _has_rows(connection: sqlite3.Connection, table: str) -> bool:
    quoted = table.replace('"', '""')
    return connection.execute(f'SELECT 1 FROM "{quoted}" LIMIT 1').fetchone() is not None  # noqa: S608  a name from it


def _filled(connection: Connection, besides: tuple[str, ...] = ()) -> bool:
    there = inspect(connection).get_table_names()
    return any(
        connection.execute(select(1).select_from(table).limit(1)).first() is not None
        for table in metadata.sorted_tables
        if table.name in there and table.name not in besides
    )


def _place_file(staged: Path, path: Path) -> str:
    snapshot.settle(staged)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = _keep(path, _SIDES)
    try:
        _move(staged, path)
    except OSError:
        for side in _SIDES:
            if kept and Path(f"{kept}{side}").exists():
                Path(f"{kept}{side}").rename(f"{path}{side}")
        raise
    return kept


def _keep(path: Path, sides: tuple[str, ...]) -> str:
    """Give what is there another name: its write-ahead log too, which must not meet the new file."""
    if not any(Path(f"{path}{side}").exists() for side in sides):
        return ""
    names = (f"{path}{KEPT}", *(f"{path}{KEPT}-{number}" for number in range(2, 1000)))
    kept = next(name for name in names if not any(Path(f"{name}{side}").exists() for side in sides))
    for side in sides:
        if Path(f"{path}{side}").exists():
            Path(f"{path}{side}").rename(f"{kept}{side}")
    return kept


def _move(source: Path, target: Path) -> None:
    """Under its new name only when all of it is on the disk."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        near = target.with_name(f".{target.name}.restoring")
        shutil.copyfile(source, near)
        near.chmod(0o600)
        _move(near, target)
        return
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # the gateway itself may be another user
        owner = target.parent.stat()
        os.chown(target, owner.st_uid, owner.st_gid)
    sync_folder(target.parent)


def _place_tables(staged: Path, connection: Connection, schema: str) -> str:
    connection.execute(text("SET LOCAL lock_timeout = '10s'"))
    kept = ""
    there = [name for name in inspect(connection).get_table_names() if name in {*metadata.tables, *_STAMPS}]
    if _filled(connection):
        taken = inspect(connection).get_schema_names()
        schema = next(name for name in (schema, *(f"{schema}_{n}" for n in range(2, 1000))) if name not in taken)
        kept = f"schema {schema}"
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        for name in there:
            connection.execute(text(f"ALTER TABLE {name} SET SCHEMA {schema}"))
    else:
        for name in there:
            connection.execute(text(f"DROP TABLE {name}"))
    prepare(connection, "the database", "ledger.url")
    with snapshot.opened(staged) as source:
        for table in metadata.sorted_tables:
            _copy_table(source, connection, table.name)
    highest = connection.execute(select(func.max(metadata.tables["requests"].c.id))).scalar()
    if highest is not None:
        connection.execute(text("SELECT setval(pg_get_serial_sequence('requests', 'id'), :id)"), {"id": highest})
    if version_of(connection) is None:
        raise BackupError("ledger.url: the restored ledger has no layout", "report this; the database is as it was")
    return kept


def _copy_table(source: Engine, target: Connection, name: str) -> None:
    table = metadata.tables[name]
    with source.connect() as reader:
        rows = reader.execution_options(yield_per=snapshot.BATCH_ROWS).execute(select(table))
        for batch in rows.mappings().partitions(snapshot.BATCH_ROWS):
            target.execute(insert(table), [{str(key): _fit(value) for key, value in row.items()} for row in batch])


def _fit(value: object) -> object:
    """SQLite holds texts with a NUL, PostgreSQL does not."""
    return value.replace("\0", "?") if isinstance(value, str) else value
