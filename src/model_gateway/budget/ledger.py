"""The ledger: one row per request, in SQLite. Decides when rows are written and what happens when they cannot be.

Never blocks a request and never reads a Record before its request has ended: `append` only queues; a thread turns
records into rows and writes them, a batch per flush interval. What a crash can lose is exactly what was not yet
flushed (ledger.flushInterval, 200 ms by default); what was flushed survives a killed process, and write-ahead logging
keeps the file whole.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from itertools import chain
from pathlib import Path

import msgspec
import structlog
from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError
from sqlalchemy.schema import CreateIndex, CreateTable

from model_gateway.budget.schema import SCHEMA_VERSION, ledger_version, metadata, requests
from model_gateway.config.errors import StartupError
from model_gateway.config.schema import LedgerConfig
from model_gateway.domain.record import Record
from model_gateway.domain.usage import Usage

Value = str | int | float | None
Row = tuple[Value, ...]

CAPACITY = 100_000
"""Rows waiting at most (about 100 MB). Beyond it new rows are dropped, counted and reported: memory has an end."""

FLUSH_ROWS = 500
_BATCH_ROWS = 1_000
_RETRY_S = 0.5
_BUSY_TIMEOUT_S = 1.0
_MAX_INT = 2**63 - 1
_NO_USAGE = Usage()
_BAD_VALUE = (UnicodeError, OverflowError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.IntegrityError)

# Rows per INSERT. SQLite releases the interpreter lock once per statement: a statement per row would hand it to the
# event loop and wait for it again for every row. Few sizes, so that each is compiled once and stays cached.
_CHUNKS = (100, 10, 1)

_log = structlog.get_logger(__name__)


class Ledger:
    """Lifecycle: `start()`, any number of `append(record)` from the event loop, `close()`."""

    def __init__(self, config: LedgerConfig) -> None:
        self.enabled = config.enabled
        self._path = Path(config.path)
        self._interval_s = config.flush_interval / 1000
        self._queue: deque[Record] = deque()
        self._room = 0  # 0 until started and after close: nothing is accepted
        self._rows: list[Row] = []  # the batch being written; kept until it is committed
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._deadline = 0.0
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None
        self._last_error = ""
        self.dropped = 0

    def start(self) -> None:
        """Create folder and file where they are missing, check the schema, start the writer.

        Raises StartupError where the path cannot be written, is no ledger, or was written by a newer version.
        """
        if not self.enabled:
            return
        self._engine = open_ledger(self._path)
        self._room = CAPACITY
        self._thread = threading.Thread(target=self._write_until_closed, name="ledger-writer", daemon=True)
        self._thread.start()

    def append(self, record: Record) -> None:
        """Queue the row of an ended request; the record must not change any more. Never blocks, never raises."""
        queue = self._queue
        waiting = len(queue)
        if waiting >= self._room:
            self._drop(1, "the queue is full" if self._room else "the ledger is not open")
            return
        queue.append(record)
        if waiting == FLUSH_ROWS:
            self._wake.set()

    @property
    def pending(self) -> int:
        """Rows not yet written."""
        return len(self._queue) + len(self._rows)

    @property
    def healthy(self) -> bool:
        """False while rows cannot be written or were dropped since the last successful write."""
        return not self._last_error and (self._thread is None or self._thread.is_alive())

    @property
    def last_error(self) -> str:
        """Why `healthy` is false, else ""."""
        return self._last_error

    def close(self, timeout_s: float = 5.0) -> int:
        """Write all rows and stop, within about `timeout_s` seconds. Returns how many rows were lost."""
        thread, self._thread = self._thread, None
        if thread is None:
            return 0
        self._room = 0
        self._deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self._wake.set()
        thread.join(timeout_s + 2 * _BUSY_TIMEOUT_S)
        lost = self.pending
        if lost:
            self._drop(lost, "not written before the gateway stopped")
        return lost

    def _drop(self, rows: int, why: str) -> None:
        if self.enabled:
            self.dropped += rows
            self._report(self._last_error or f"rows dropped: {why}")

    def _report(self, error: str) -> None:
        if error and not self._last_error:
            _log.error("ledger cannot be written", path=str(self._path), error=error, dropped=self.dropped)
        elif self._last_error and not error:
            _log.warning("ledger is written again", path=str(self._path), dropped=self.dropped)
        self._last_error = error

    def _write_until_closed(self) -> None:
        engine = self._engine
        assert engine is not None  # noqa: S101  start() sets it before this thread runs
        while True:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            stopping = self._stopping.is_set()  # read before writing: what came before close() is written
            written = self._flush(engine)
            if stopping and (written or time.monotonic() >= self._deadline):
                break
            if not written:
                time.sleep(min(_RETRY_S, max(self._deadline - time.monotonic(), 0.01)) if stopping else _RETRY_S)
        engine.dispose()

    def _flush(self, engine: Engine) -> bool:
        """Write everything queued, a transaction per batch. False: the batch is kept for the next try."""
        queue, rows = self._queue, self._rows
        while queue or rows:
            while queue and len(rows) < _BATCH_ROWS:
                record = queue.popleft()
                try:
                    rows.append(row_of(record))
                except Exception as error:  # noqa: BLE001 (one odd record must not end the thread that writes the rest)
                    self.dropped += 1
                    self._report(f"a record could not be written: {type(error).__name__}")
            try:
                with engine.connect() as connection:
                    try:
                        _insert(connection, rows)
                        rows.clear()
                    except _BAD_VALUE:
                        self._insert_each(connection, rows)
            except (sqlite3.Error, DatabaseError) as error:
                self._report(str(error))
                return False
            self._report("")
        return True

    def _insert_each(self, connection: Connection, rows: list[Row]) -> None:
        """The slow path: one odd value must not hold up all other rows. It is made to fit, or its row is dropped."""
        while rows:
            try:
                _insert(connection, [_storable(rows[0])])
            except _BAD_VALUE as error:
                self._drop(1, str(error))
            del rows[0]


def open_ledger(path: Path) -> Engine:
    """An engine on the ledger at `path`, created if missing. Raises StartupError naming the path and the remedy."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(
            f"ledger.path: the folder {path.parent} cannot be created: {error.strerror}",
            "set ledger.path to a place this user may write, or ledger.enabled to false",
        ) from error
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare)
    try:
        with engine.begin() as connection:
            for table in metadata.sorted_tables:  # IF NOT EXISTS: several workers may start at once
                connection.execute(CreateTable(table, if_not_exists=True))
                for index in table.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))
            versions = connection.execute(select(ledger_version.c.version)).scalars().all()
            if not versions:
                connection.execute(insert(ledger_version).values(version=SCHEMA_VERSION))
    except DatabaseError as error:
        raise StartupError(
            f"ledger.path: {path} cannot be used: {error.orig}",
            "check that it is a writable SQLite file that nothing else locks, or set ledger.path to another place",
        ) from error
    if versions and max(versions) != SCHEMA_VERSION:
        raise StartupError(
            f"ledger.path: {path} has schema version {max(versions)}, this gateway writes version {SCHEMA_VERSION}",
            "run the gateway version that wrote it, or set ledger.path to another place",
        )
    return engine


def _prepare(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # in WAL mode a power cut may lose the last batches, never the file
    cursor.close()


def _insert(connection: Connection, rows: list[Row]) -> None:
    """All rows in one transaction, through the driver: SQLAlchemy's executemany costs more than the rest together."""
    driver = connection.connection
    cursor = driver.cursor()
    try:
        start, total = 0, len(rows)
        for size in _CHUNKS:
            statement = _STATEMENTS[size]
            while total - start >= size:
                cursor.execute(statement, tuple(chain.from_iterable(rows[start : start + size])))
                start += size
        driver.commit()
    except BaseException:
        driver.rollback()
        raise
    finally:
        cursor.close()


_COLUMNS = tuple(column.name for column in requests.columns if column.name != "id")
_PLACES = "(" + ",".join("?" * len(_COLUMNS)) + ")"
_STATEMENTS = {
    size: f"INSERT INTO {requests.name} ({','.join(_COLUMNS)}) VALUES {','.join([_PLACES] * size)}"  # noqa: S608  names of our own schema
    for size in _CHUNKS
}


def row_of(record: Record) -> Row:
    """The record's values in the order of the table's columns, `id` left out."""
    usage = record.usage or _NO_USAGE
    return (
        record.request_id,
        record.started_at,
        record.door,
        record.tenant,
        record.key_name,
        record.asked_model,
        record.stream,
        record.status,
        record.error,
        record.provider,
        record.model,
        record.asked_tier,
        record.tier,
        record.route_reason,
        record.score if record.score >= 0 else None,
        record.cache,
        len(record.attempts),
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.reasoning_tokens,
        usage.estimated,
        record.cost_nano,
        record.estimate_nano,
        record.first_token_s * 1000 if record.first_token_s else None,
        record.duration_s * 1000,
        _labels(record.labels),
    )


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return "{}"
    try:
        return msgspec.json.encode(labels).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode({_text(name): _text(value) for name, value in labels.items()}).decode()


def _storable(row: Row) -> Row:
    """The same row, made to fit SQLite: huge integers are cut, halves of surrogate pairs replaced."""
    return tuple(
        _text(value)
        if isinstance(value, str)
        else max(min(value, _MAX_INT), -_MAX_INT)
        if isinstance(value, int)
        else value
        for value in row
    )


def _text(value: str) -> str:
    return value.encode(errors="replace").decode()
