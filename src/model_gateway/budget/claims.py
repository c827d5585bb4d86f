"""Claims for money: who waits for it, and how the ledger's writer serves them.

A claim that fits into what this process has leased is granted at once. Any other is decided by the database, together
with all that wait at that moment: first leases get what busy accounts need, then each claim is held from a lease or by
a hold of its own; one that must wait, because others hold what they may not need, is asked again. Decides the order;
whether the money is there is told by `funds`, and what is leased by `leases`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from model_gateway.budget import funds, leasing
from model_gateway.budget.funds import Claim, Verdict
from model_gateway.budget.leases import Change, Leases

_REST = 20
"""So many times what a plan took, none is made: thousands of accounts that are seldom asked must not cost much."""

_REST_S = 0.5
_CALM_S = 0.1  # between two plans while nobody waits for money


class _Waiting(NamedTuple):
    """Somebody who waits for money. `deadline`: of the monotonic clock."""

    claim: Claim
    future: asyncio.Future[Verdict]
    loop: asyncio.AbstractEventLoop
    deadline: float


class Claims:
    """`ask` is for the event loop, the rest for the writer, which `wake` wakes. `pending`: rows that wait for it."""

    def __init__(self, leases: Leases, wake: Callable[[], None], pending: Callable[[], int]) -> None:
        self.owner = ""
        """Of the leases, in the database; to be set before anybody asks."""
        self._leases = leases
        self._wake = wake
        self._pending = pending
        self._new: deque[_Waiting] = deque()
        self._waiting: list[_Waiting] = []
        self._doubtful = False  # the database went while they were served: some may hold money
        self._unused: deque[str] = deque()  # uids of holds that nobody waited for any more
        self._renewed = 0.0
        self._next_plan = 0.0
        self._calm_until = 0.0

    @property
    def any(self) -> bool:
        return bool(self._new or self._waiting)

    @property
    def waiting(self) -> bool:
        """Does somebody wait for what others hold?"""
        return bool(self._waiting)

    @property
    def due(self) -> bool:
        """Is anything to be decided, about claims or leases, for which all rows had better be booked?"""
        return self.any or time.monotonic() >= self._calm_until

    async def ask(self, claim: Claim, wait_s: float) -> Verdict:
        """Raises TimeoutError where the database does not answer."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(claim, loop.create_future(), loop, time.monotonic() + wait_s)
        self._new.append(waiting)
        self._wake()
        async with asyncio.timeout(wait_s + 2.0):
            return await waiting.future

    # --- on the writer's thread -------------------------------------------------------------------------------------

    def lease(self, engine: Engine, *, closing: bool) -> None:
        """Bring the leases to what busy accounts need, and give back what they do not."""
        begun = time.monotonic()
        if begun < (self._next_plan if self.any else self._calm_until) and not closing:
            return
        changes = self._leases.plan(self._pending, closing=closing)
        ended = time.monotonic()
        self._next_plan = ended + min(_REST * (ended - begun), _REST_S)
        self._calm_until = max(self._next_plan, ended + _CALM_S)
        now = time.time()
        done: list[Change] = []
        found: list[tuple[Change, int]] = []
        if changes:
            with engine.begin() as connection:
                for change in sorted(changes):
                    if change.exact:
                        found.append((change, leasing.exactly(connection, self.owner, change)))
                        continue
                    if change.amount_nano > 0:
                        enough = leasing.more(connection, self.owner, change, now)
                        if enough is None:
                            self._leases.lost(change.place)
                        elif not enough:
                            self._leases.short(change.place)
                        if not enough:
                            continue
                    else:
                        leasing.less(connection, self.owner, change)
                    done.append(change)
        for change in done:  # once it is there for certain
            self._leases.changed(change)
        for change, held_nano in found:
            self._leases.found(change, held_nano)
        if not 0 <= now - self._renewed < leasing.RENEW_S and self._leases.open:  # or the clock was set back
            with engine.begin() as connection:
                leasing.renew(connection, self.owner, now)
            self._renewed = now
            self._leases.doubt()  # whatever has made a difference, it goes

    def serve(self, engine: Engine, *, stopping: bool) -> None:
        """Whoever can be served; the others stay."""
        while self._unused:
            with engine.begin() as connection:
                funds.settle(connection, self._unused[0], "", "", 0)
            self._unused.popleft()
        if not self.any:
            return
        waiting, self._waiting = self._waiting, []
        while self._new:
            waiting.append(self._new.popleft())
        now = time.monotonic()
        answers: list[tuple[_Waiting, Verdict]] = []
        doubtful, self._doubtful = self._doubtful, False
        try:
            with engine.begin() as connection:
                asked = {place for each in waiting if not each.future.done() for place in each.claim.places()}
                funds.lock(connection, asked, opened=asked)
                for each in waiting:
                    if each.future.done():
                        continue
                    if doubtful:
                        funds.settle(connection, each.claim.uid, "", "", 0)
                    last = now >= each.deadline or stopping
                    verdict = self._hold(connection, each.claim, last=last)
                    if verdict.waiting and not last:
                        self._waiting.append(each)
                    else:
                        answers.append((each, verdict))
        except BaseException:
            for each, verdict in answers:
                if verdict.leased:
                    self._leases.close(each.claim.uid, 0, {})
            self._waiting, self._doubtful = waiting, True
            raise
        for each, verdict in answers:
            try:
                each.loop.call_soon_threadsafe(self._answer, each, verdict)
            except RuntimeError:  # its loop has been closed
                self._forget(each, verdict)

    def give_up(self) -> None:
        """The database is away: nobody is to wait for it. The new ones neither: rows that cannot be stored keep them
        from their first try.
        """
        for each in (*self._waiting, *[self._new.popleft() for _ in range(len(self._new))]):
            with contextlib.suppress(RuntimeError):  # its loop has been closed
                each.loop.call_soon_threadsafe(self._refuse, each.future)
        self._waiting = []

    def _hold(self, connection: Connection, claim: Claim, *, last: bool) -> Verdict:
        if self._leases.take(claim, again=True):
            return Verdict(claim.amount_nano, [True] * len(claim.targets), leased=True)
        verdict = funds.take(connection, claim)
        if not verdict.waiting:
            return verdict
        back = self._leases.free(claim)
        for change in sorted(back):
            leasing.less(connection, self.owner, change)
        return funds.take(connection, claim, last=last) if back or last else verdict

    @staticmethod
    def _refuse(future: asyncio.Future[Verdict]) -> None:
        if not future.done():
            future.set_exception(TimeoutError())

    def _answer(self, waiting: _Waiting, verdict: Verdict) -> None:
        """On the event loop. Money for somebody who has gone is given back."""
        if not waiting.future.done():
            waiting.future.set_result(verdict)
        elif verdict.granted_nano:
            self._forget(waiting, verdict)

    def _forget(self, waiting: _Waiting, verdict: Verdict) -> None:
        """A hold that nobody will use: settled as a request that cost nothing."""
        if verdict.leased:
            self._leases.close(waiting.claim.uid, 0, {})
            return
        self._unused.append(waiting.claim.uid)
        self._wake()
