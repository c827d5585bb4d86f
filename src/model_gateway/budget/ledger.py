"""The ledger: one row per request. Decides when rows are written and what happens when they cannot be.

The event loop only notes (in the journal, and in a queue); one thread writes, a batch per flush interval or as soon as
somebody waits for money. Rows are journaled before a provider is asked and again when the request has ended: a killed
process loses none, and what it left is written by the next one. While the database is away rows wait in memory, then in
the journal alone. `when_unavailable` says what happens to requests whose intent cannot even be journaled.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from model_gateway.budget import funds, leasing, rows
from model_gateway.budget.booking import Book, is_bad_value, store
from model_gateway.budget.charges import shares_of
from model_gateway.budget.claims import Claims
from model_gateway.budget.funds import Claim, Verdict
from model_gateway.budget.journal import Journal, Row, Segment, folder_of, left_behind, owned, read
from model_gateway.budget.leases import Leases
from model_gateway.config.errors import StartupError
from model_gateway.config.schema import LedgerConfig
from model_gateway.domain.errors import Overloaded
from model_gateway.domain.record import Record
from model_gateway.domain.route import Target
from model_gateway.storage import keys
from model_gateway.storage.database import open_database
from model_gateway.storage.keys import StoredKey
from model_gateway.storage.patience import PATIENCE_S, make_patient, patience
from model_gateway.threads import give_way

T = TypeVar("T")

CAPACITY = 100_000
"""Rows in memory at most (about 100 MB). Beyond it they are in the journal only, and read from there later."""

FLUSH_ROWS = 64
"""So many are written at once, and as many again while more than REST_S have passed since the last batch."""

REST_S = 0.02
"""Each batch has its price: a busy process writes larger ones rather than more."""

_BATCH_ROWS = 1_000
_RETRY_S = 0.5
_ORPHANS_S = 5.0  # between two looks for what dead processes have left
_CLAIMS_S = 0.02  # between two looks whether others have given money back, while somebody waits for it

_log = structlog.get_logger(__name__)


class _Entry(NamedTuple):
    """A row to be written, and where it and its intent are journaled."""

    row: Row
    segments: tuple[Segment, ...]


class Ledger:
    """Lifecycle: `start()`; `intend`, `append` and `hold` from the event loop; `close()`. `book` is to be set first."""

    def __init__(self, config: LedgerConfig) -> None:
        self.enabled = config.enabled
        self._config = config
        self._shown = "ledger.url" if config.url else config.path
        self._folder = folder_of(config.path)
        self._interval_s = config.flush_interval / 1000
        self._queue: deque[_Entry] = deque()
        self._room = 0  # 0 until started and after close: nothing is accepted
        self._batch: list[_Entry] = []  # being written; kept until it is committed
        self._leases = Leases(time.monotonic)
        self._overflow: deque[Segment] = deque()  # a segment for every row that is in the journal alone
        self._journal: Journal | None = None
        self._wake = threading.Event()
        self._claims = Claims(self._leases, self._wake.set, lambda: self.pending)
        self._stopping = threading.Event()
        self._deadline = 0.0
        self._next_orphans = 0.0
        self._spends_from = 0.0
        self._rest_until = 0.0
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None
        self._last_error = ""
        self.dropped = 0
        self.book: Book | None = None
        self.reachable = True  # did the database answer the last time?

    def start(self) -> None:
        """Open or create the database, take over what dead processes have left, start the writer.

        Raises StartupError where a path cannot be written, is no ledger, or was written by a newer version.
        """
        if not self.enabled:
            return
        self._engine = open_database(self._config)
        make_patient(self._engine)  # not before: a migration may take its time
        try:
            self._journal = Journal(self._folder)
        except OSError as error:
            raise StartupError(
                f"ledger.path: the folder {self._folder} cannot be written: {error.strerror}",
                "set ledger.path to a place this user may write, or ledger.enabled to false",
            ) from error
        self._claims.owner = leasing.owner(self._journal.name)
        self._room = CAPACITY
        self._spends_from = time.monotonic() + leasing.RENEW_S
        self._thread = threading.Thread(target=self._write_until_closed, name="ledger-writer", daemon=True)
        self._thread.start()

    # --- on the event loop -----------------------------------------------------------------------------------------

    def intend(self, record: Record, target: Target) -> None:
        """Note that `target` is about to be asked. Raises Overloaded where that cannot be noted and must be."""
        self._note(record, rows.intent_of(record, target))

    def _note(self, record: Record, row: Row) -> None:
        journal = self._journal
        if journal is None:
            return
        segment = journal.write(row)
        if segment is not None:
            record.journaled = (*record.journaled, segment)
            return
        self._report(f"the journal {self._folder} cannot be written: {journal.last_error}")
        if self._config.when_unavailable == "fail_closed":
            raise Overloaded("the ledger cannot be written, and nothing is asked without it", retry_after_s=5)

    def append(self, record: Record) -> None:
        """Note the row of an ended request; the record must not change any more. Never blocks, never raises."""
        try:
            self._append(record)
        finally:
            if record.hold_nano:  # its row waits by now: what it held is free for others
                self._leases.close(record.uid, record.cost_nano, shares_of(record))

    def _append(self, record: Record) -> None:
        journal, queue = self._journal, self._queue
        if journal is None or not self._room:
            self._drop(1, "the ledger is not open")
            return
        try:
            row = rows.row_of(record)
        except Exception as error:  # noqa: BLE001 (one odd record must not end its request)
            self._drop(1, f"a record could not be read: {type(error).__name__}")
            return
        segment = journal.write(row) or journal.write(rows.storable(row))
        segments = record.journaled if segment is None else (*record.journaled, segment)
        if len(queue) < self._room or (segment is None and record.hold_nano < rows.UNHELD):  # it must be booked
            queue.append(_Entry(row, segments))
            # Money is given back at once to those who wait; who comes later wakes the writer, which books this first.
            full = not len(queue) % FLUSH_ROWS and time.monotonic() >= self._rest_until
            if full or (record.hold_nano and self._claims.waiting):
                self._wake.set()
        elif segment is not None:
            self._overflow.extend(segments)
            self._report(self._last_error or "more rows wait than memory may hold; they are in the journal")
        else:
            self._drop(1, "the queue is full")

    def hold_leased(self, record: Record, claim: Claim) -> bool:
        """Is the money held from what this process has leased? Else ask the database: `hold`."""
        journal = self._journal
        if journal is None or journal.last_error or not self._leases.take(claim):
            return False
        record.hold_nano = rows.leased(claim.amount_nano)
        return True

    async def hold(self, record: Record, claim: Claim, wait_s: float) -> Verdict:
        """Reserve money, waiting up to `wait_s` seconds while others hold what they may not need.

        Raises Overloaded where the database does not answer in that time.
        """
        # From here on until a refusal money may be held: whatever ends this request, its row gives it back.
        record.hold_nano = claim.amount_nano
        self._note(record, rows.claim_of(record))
        try:
            verdict = await self._claims.ask(claim, wait_s)
        except TimeoutError:
            self._leases.close(record.uid, 0, {})  # should it have been granted in that very moment
            self.reachable = False  # the writer waits for it, and says when it is back: nobody else need wait as well
            raise Overloaded("the budgets' database does not answer", retry_after_s=5) from None
        record.hold_nano = rows.leased(verdict.granted_nano) if verdict.leased else verdict.granted_nano
        return verdict

    def balances(self, periods: Collection[str]) -> list[tuple[str, str, int]]:
        """What each account has spent in these periods, in nano-USD. Blocks and raises as `run`."""
        return self.run(lambda connection: [row[:3] for row in funds.accounts_in(connection, periods)])

    def stored_keys(self) -> Sequence[StoredKey]:
        """The callers' keys that commands have made. Blocks and raises as `run`."""
        return self.run(keys.every)

    def run(self, what: Callable[[Connection], T], patience_s: float = PATIENCE_S) -> T:
        """`what`, in a transaction of its own. Blocks: not for the event loop. Raises OSError: no database answers."""
        if self._engine is None:
            raise OSError("the ledger is not open")
        try:
            with patience(patience_s), self._engine.begin() as connection:
                return what(connection)
        except (DBAPIError, PoolTimeout) as error:
            raise OSError(str(getattr(error, "orig", error))) from error

    @property
    def pending(self) -> int:
        """Rows not yet written."""
        return len(self._queue) + len(self._batch) + len(self._overflow)

    @property
    def healthy(self) -> bool:
        """False while rows cannot be written or were dropped since the last successful write."""
        return not self._last_error and (self._thread is None or self._thread.is_alive())

    @property
    def last_error(self) -> str:
        """Why `healthy` is false, else ""."""
        return self._last_error

    def close(self, timeout_s: float = 5.0) -> int:
        """Write all rows and stop, within about `timeout_s` seconds. Returns how many are in no file at all.

        Rows that could not be written in that time are in the journal, for the next start.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return 0
        self._room = 0
        self._deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self._wake.set()
        thread.join(timeout_s + 3.0)
        lost = sum(not entry.segments for entry in (*self._queue, *self._batch))
        if lost:
            self._drop(lost, "not written before the gateway stopped")
        if self._journal is not None:
            self._journal.close(kept=self._leases.open)
            self._journal = None
        return lost

    # --- on the writer's thread ------------------------------------------------------------------------------------

    def _write_until_closed(self) -> None:
        engine = self._engine
        assert engine is not None  # noqa: S101  start() sets it before this thread runs
        give_way()
        while True:
            self._wake.wait(_CLAIMS_S if self._claims.waiting else self._interval_s)
            self._wake.clear()
            stopping = self._stopping.is_set()  # read before writing: what came before close() is written
            written = self._guarded(self._write, engine)
            self._rest_until = time.monotonic() + REST_S
            if stopping and (written or time.monotonic() >= self._deadline):
                break
            if not written:
                time.sleep(min(_RETRY_S, max(self._deadline - time.monotonic(), 0.01)) if stopping else _RETRY_S)
        engine.dispose()

    def _guarded(self, work: Callable[[Engine], None], engine: Engine) -> bool:
        """False: the database cannot be written now; what was to be written is kept."""
        try:
            work(engine)
        except (engine.dialect.loaded_dbapi.Error, DBAPIError, PoolTimeout, OSError) as error:  # its driver's too
            if not self.reachable and engine.dialect.name != "sqlite":
                self._claims.give_up()  # whoever waits for money. A lock on SQLite's file ends; a server may stay away
            self.reachable = False
            self._leases.doubt()
            self._spends_from = time.monotonic() + leasing.RENEW_S
            self._report(str(getattr(error, "orig", None) or error))
            return False
        except Exception as error:  # noqa: BLE001 (the thread must live on: without it nothing is ever written)
            _log.exception("the ledger's writer failed")
            self._leases.doubt()
            self._report(f"{type(error).__name__}: {error}")
            return False
        self.reachable = True
        self._report(self._journal.last_error if self._journal is not None else "")
        return True

    def _write(self, engine: Engine) -> None:
        now = time.monotonic()
        if now >= self._next_orphans:
            self._next_orphans = now + _ORPHANS_S
            self._take_over(engine)
        while self._queue or self._batch:
            while self._queue and len(self._batch) < _BATCH_ROWS:
                self._batch.append(self._queue.popleft())
            self._store_batch(engine)
            # Few that came meanwhile wait for more, as every batch has its price; not where money is to be decided on.
            if len(self._queue) < FLUSH_ROWS and not (self._stopping.is_set() or self._claims.due):
                break
        if self._overflow:
            self._store_overflow(engine)
        if self._journal is not None:
            self._journal.sweep()
        stopping = self._stopping.is_set()
        self._claims.lease(engine, closing=stopping)
        self._claims.serve(engine, stopping=stopping)

    def _store_batch(self, engine: Engine) -> None:
        batch = self._batch
        try:
            self._book(engine, [entry.row for entry in batch], self._claims.owner)
        except Exception as error:
            if not is_bad_value(error):
                raise
            for entry in batch:
                self._store_odd(engine, entry.row, self._claims.owner)
        for entry in batch:
            for segment in entry.segments:
                segment.stored += 1
        batch.clear()

    def _book(self, engine: Engine, found: Sequence[Row], owner: str) -> None:
        for place, gone_nano in store(engine, found, self.book, owner).items():
            self._leases.seen(place, gone_nano)

    def _store_odd(self, engine: Engine, row: Row, owner: str) -> None:
        """The slow path: one odd value must not hold up all other rows. It is made to fit, or its row is dropped."""
        try:
            self._book(engine, [rows.storable(row)], owner)
        except Exception as error:
            if not is_bad_value(error):
                raise
            self._drop(1, str(error))

    def _store_overflow(self, engine: Engine) -> None:
        """Rows that memory had no room for, from the journal. Those that are stored already change nothing."""
        marks = [self._overflow.popleft() for _ in range(len(self._overflow))]
        try:
            for segment in dict.fromkeys(marks):
                for row in read(segment.path):
                    if row[rows.STATUS] != rows.INTERRUPTED:
                        self._store_odd(engine, row, self._claims.owner)
        except BaseException:
            self._overflow.extend(marks)
            raise
        for segment in marks:
            segment.stored += 1

    def _take_over(self, engine: Engine) -> None:
        """What dead processes have left: their rows, and the money that nobody will settle any more."""
        with left_behind(self._folder) as found:
            for name, left in found.items():
                for row in left:
                    self._store_odd(engine, row, leasing.owner(name))
                with engine.begin() as connection:
                    leasing.end(connection, leasing.owner(name))
        count = sum(map(len, found.values()))
        if count:
            interrupted = sum(row[rows.STATUS] == rows.INTERRUPTED for left in found.values() for row in left)
            _log.warning("rows of a stopped gateway were written", rows=count, interrupted=interrupted)
        now = time.time()
        with engine.begin() as connection:
            for uid in funds.expired(connection, now):
                if uid == self._claims.owner:
                    leasing.renew(connection, uid, now)  # the machine was asleep
                elif leasing.is_lease(uid):
                    # Its owner may live: beside us, or as long without the database as we were.
                    if time.monotonic() < self._spends_from or owned(self._folder, leasing.journal_of(uid)):
                        continue
                    _log.warning("a lease without an owner is spent", nano_usd=leasing.forfeit(connection, uid, now))
                else:
                    _log.warning("a hold without an owner is spent", uid=uid, nano_usd=funds.forfeit(connection, uid))

    def _drop(self, count: int, why: str) -> None:
        if self.enabled:
            self.dropped += count
            self._report(self._last_error or f"rows dropped: {why}")

    def _report(self, error: str) -> None:
        if error and not self._last_error:
            _log.error("ledger cannot be written", path=self._shown, error=error, dropped=self.dropped)
        elif self._last_error and not error:
            _log.warning("ledger is written again", path=self._shown, dropped=self.dropped)
        self._last_error = error
