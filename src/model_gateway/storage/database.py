"""Opens the database and brings it to this version's layout. Decides what may be opened; reads and writes no rows.

A new database is made from `schema.py` at once, an SQLite file readable by its owner alone. An older one is migrated
(Alembic, loaded only then), by one process while others wait; one that a newer gateway has written is refused, as this
one would not know what it means.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlalchemy.schema import CreateIndex, CreateTable

from model_gateway.config.errors import StartupError
from model_gateway.config.schema import LedgerConfig
from model_gateway.storage import audit
from model_gateway.storage.audit import Act
from model_gateway.storage.schema import GIVEN_IDS, GUARDS, metadata

HEAD = "0005"
"""The newest step of migrations/versions."""

BUSY_TIMEOUT_S = 1.0
MIGRATION_WAIT_S = 120.0
"""How long to wait while another process brings the database to its layout."""
_PREPARES = "prepares"
_READS = "reads"
_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_201_501  # of PostgreSQL, an arbitrary number of ours: one instance migrates at a time


def open_database(config: LedgerConfig) -> Engine:
    """An engine on a database of this version's layout. Raises StartupError naming the option and the remedy."""
    option = "ledger.url" if config.url else "ledger.path"
    engine = engine_of(config)
    shown = engine.url.render_as_string() if config.url else config.path  # the password as ***
    try:
        if not _is_current(engine):
            with preparing(engine) as connection, connection.begin():
                prepare(connection, shown, option)
    except DatabaseError as error:
        engine.dispose()
        raise StartupError(
            f"{option}: {shown} cannot be used: {error.orig}",
            "check that it is a writable SQLite file that nothing else locks, or set ledger.path to another place"
            if config.url is None
            else "check address, user, password and that the database exists",
        ) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def migrate(connection: Connection, revision: str) -> None:
    """Up or down to a step. The caller's transaction; only the Alembic of this package is asked."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    now = version_of(connection) or ""
    if now and revision < now:
        command.downgrade(config, revision)
    else:
        command.upgrade(config, revision)


def version_of(connection: Connection) -> str | None:
    """The step it stands at; None for a database without our tables."""
    names = inspect(connection).get_table_names()
    if "alembic_version" in names:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return "0001" if "ledger_version" in names else None


def stamp(connection: Connection, revision: str) -> None:
    connection.execute(
        text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    )
    connection.execute(text("DELETE FROM alembic_version"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})


def _is_current(engine: Engine) -> bool:
    """Then nothing is to be prepared, and nobody need wait for anybody."""
    with reading(engine) as connection:
        return version_of(connection) == HEAD


def reading(engine: Engine) -> Connection:
    """A connection that only looks: it keeps no writer waiting, and waits for none."""
    return engine.connect().execution_options(**{_READS: True})


def preparing(engine: Engine) -> Connection:
    """A connection that changes the layout, and waits while another one does."""
    return engine.connect().execution_options(**{_PREPARES: True})


def prepare(connection: Connection, shown: str, option: str) -> None:
    """Make the tables, or bring them to this version's layout. `shown` and `option` are for the error."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    version = version_of(connection)
    if version is None:
        for table in metadata.sorted_tables:  # IF NOT EXISTS: several workers may start at once
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))
        for statement in (GIVEN_IDS, *GUARDS[connection.dialect.name]):
            connection.exec_driver_sql(statement)
        stamp(connection, HEAD)
    elif version > HEAD:
        raise StartupError(
            f"{option}: {shown} has layout {version}, this gateway knows {HEAD}",
            "run the version that wrote it; or have that one go back first: `model-gateway ledger downgrade "
            f"{HEAD}` (docs/upgrade.md)",
        )
    elif version < HEAD:
        if "alembic_version" not in inspect(connection).get_table_names():
            stamp(connection, version)
        migrate(connection, HEAD)
        audit.append(connection, audit.GATEWAY, Act("ledger.upgraded", HEAD, detail={"from": version}), time.time())


def engine_of(config: LedgerConfig) -> Engine:
    """An engine on whatever is there, which is not looked at. Raises StartupError naming the option and the remedy."""
    if config.url is None:
        path = Path(config.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartupError(
                f"ledger.path: the folder {path.parent} cannot be created: {error.strerror}",
                "set ledger.path to a place this user may write, or ledger.enabled to false",
            ) from error
        _make_private(path)
        engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        url = make_url(config.url.get_secret_value())
        if url.drivername in ("postgres", "postgresql"):
            url = url.set(drivername="postgresql+psycopg")
        return create_engine(
            url,
            pool_size=8,
            max_overflow=0,
            pool_timeout=BUSY_TIMEOUT_S,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 3},
        )
    except (ArgumentError, NoSuchModuleError) as error:
        raise StartupError(
            f"ledger.url cannot be read: {error}", "write postgresql://USER:PASSWORD@HOST:5432/DATABASE"
        ) from None
    except ModuleNotFoundError as error:
        raise StartupError(
            f"ledger.url needs the package {error.name}", 'install it: pip install "model-gateway[postgres]"'
        ) from None


def _prepare_sqlite(connection: DBAPIConnection, _: object) -> None:
    # We say BEGIN ourselves: the driver's own begins only at the first write, and would then find its view outdated.
    connection.isolation_level = None  # pyright: ignore[reportAttributeAccessIssue]
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # in WAL mode a power cut may lose the last batches, never the file
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    wish = connection.get_execution_options()
    if wish.get(_READS):
        connection.exec_driver_sql("BEGIN")  # takes no lock that a writer would wait for, and waits for none
        return
    if not wish.get(_PREPARES):
        try:
            connection.connection.cursor().execute("BEGIN IMMEDIATE")  # a third of what `exec_driver_sql` costs
        except sqlite3.Error as error:
            raise OperationalError("BEGIN IMMEDIATE", None, error) from error
        return
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {MIGRATION_WAIT_S * 1000:.0f}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")


def _make_private(path: Path) -> None:
    """A new file is its owner's alone: it tells who asked what, and when. SQLite gives its siblings the same rights."""
    with contextlib.suppress(OSError):  # it is there already, or cannot be made: SQLite will say so
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
