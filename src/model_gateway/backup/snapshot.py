"""The database as it was at one moment, as an SQLite file, while others go on writing to it.

Decides how such a moment is held: a read transaction of SQLite (in WAL mode it keeps nobody waiting), a repeatable read
of PostgreSQL. The file has the layout that the database has; nothing is migrated here and nothing is changed there.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, MetaData, create_engine, func, insert, inspect, select
from sqlalchemy.exc import DatabaseError

from model_gateway.backup.archive import BackupError
from model_gateway.config.schema import LedgerConfig
from model_gateway.storage.database import HEAD, engine_of, migrate, open_database, version_of
from model_gateway.storage.schema import metadata

BATCH_ROWS = 1_000
_STAMPS = frozenset(("alembic_version", "ledger_version"))
_LOCKED_S = 5.0
_NO_ROOM = 256 * 1024


def take(config: LedgerConfig, target: Path, held: Callable[[], None]) -> str:
    """Copy the database to the new file `target`. Returns the step of its layout.

    `held` is called as soon as the moment is fixed, before the copying, which may take long. Raises BackupError, and
    OSError where `target` cannot be written.
    """
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        if config.url is None:
            _copy_file(Path(config.path), target, held)
            return revision_of(target)
        return _copy_rows(config, target, held)
    except (sqlite3.Error, DatabaseError) as error:
        option = "ledger.url" if config.url else "ledger.path"
        reason = getattr(error, "orig", None) or error
        full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        if full or shutil.disk_usage(target.parent).free < _NO_ROOM:  # SQLite may call it an I/O error
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise BackupError(
            f"{option}: the ledger cannot be copied: {reason}", "`model-gateway doctor` says what is wrong with it"
        ) from error


def revision_of(path: Path) -> str:
    """The step of a file's layout; empty: it has none of our tables."""
    with opened(path) as engine, engine.connect() as connection:
        return version_of(connection) or ""


def counts(path: Path) -> dict[str, int]:
    """Rows by table."""
    with opened(path) as engine, engine.connect() as connection:
        found = MetaData()
        found.reflect(connection)
        return {
            str(table.name): connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in found.sorted_tables
            if table.name not in _STAMPS
        }


@contextmanager
def opened(path: Path) -> Generator[Engine]:
    """A copy of ours, which stays one file: no write-ahead log."""
    engine = create_engine(f"sqlite:///{path}")
    try:
        yield engine
    finally:
        engine.dispose()


def settle(path: Path) -> None:
    """One file instead of three: what is in the write-ahead log goes into it. Nobody else may have it open."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def _copy_file(path: Path, target: Path, held: Callable[[], None]) -> None:
    if not path.exists():
        raise BackupError(f"there is no ledger at {path}", "start the gateway once, or pass --config")
    address = f"file:{quote(str(path.resolve()))}?mode=rw"
    with closing(sqlite3.connect(address, uri=True, timeout=_LOCKED_S, isolation_level=None)) as source:
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # now the moment is fixed
        held()
        with closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            problem = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problem != "ok":
        raise BackupError(f"{path} is damaged: {problem}", "restore an earlier backup; keep the file to look into it")


def _copy_rows(config: LedgerConfig, target: Path, held: Callable[[], None]) -> str:
    engine = engine_of(config)
    try:
        with engine.connect() as plain:
            source = plain.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            revision = version_of(source)  # now the moment is fixed
            if revision is None:
                raise BackupError("ledger.url: the database has no ledger", "start the gateway once")
            if revision > HEAD:
                raise BackupError(
                    f"ledger.url: the database has layout {revision}, this gateway knows {HEAD}",
                    "take the backup with the gateway version that wrote it",
                )
            held()
            _make(target, revision)
            with opened(target) as copy:
                for table in (each.name for each in metadata.sorted_tables):
                    if table in inspect(source).get_table_names():
                        _copy_table(source, copy, table)
    finally:
        engine.dispose()
    settle(target)
    return revision


def _make(target: Path, revision: str) -> None:
    """An empty file of that layout."""
    empty = open_database(LedgerConfig(path=str(target)))
    try:
        if revision != HEAD:
            with empty.begin() as connection:
                migrate(connection, revision)
    finally:
        empty.dispose()


def _copy_table(source: Connection, copy: Engine, name: str) -> None:
    found = MetaData()
    found.reflect(copy, only=[name])
    table = found.tables[name]
    rows = source.execution_options(yield_per=BATCH_ROWS).execute(select(table))
    with copy.begin() as connection:
        for batch in rows.mappings().partitions(BATCH_ROWS):
            connection.execute(insert(table), [{str(key): value for key, value in row.items()} for row in batch])
