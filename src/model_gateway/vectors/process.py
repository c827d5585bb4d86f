"""The vectors of texts, from one child process: who asks waits no longer than the time limit, whatever happens there.

Decides when the process starts (with a configuration that needs it), restarts (when it died or hangs, with a back-off)
and stops; which texts it is given; and when nobody asks it for a while, because it answers too late too often.
Remembers the newest vectors. Never blocks the event loop, on which all of this belongs.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from operator import mul
from typing import Final

import msgspec
import structlog

from model_gateway.vectors.engine import prepared

DIMENSIONS: Final = 384
REMEMBERED: Final = 2_048
"""Vectors: 3 MB."""
MOST_WAITING: Final = 16
"""Texts; at 10 ms each, which is a fast core, whoever came later would be late."""
START_TIMEOUT_S: Final = 30.0
HANG_S: Final = 5.0
"""A text of 160 bytes takes 37 ms on a free core, and 500 where ten programs want two."""
BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
STABLE_S: Final = 30.0

LATE_STEP: Final = 0.2
LATE_MOST: Final = 0.6
LATE_AFTER_REST: Final = 0.5
REST_S: Final = 10.0
"""Five late ones in a row, or most of many, and it rests for so long; two late ones then, and it rests again."""

_BYTES = 4 * DIMENSIONS
_SQUARES = (0.9, 1.1)  # of a vector of unit length, summed

_log = structlog.get_logger("model_gateway.vectors")


class Wanted(msgspec.Struct, frozen=True):
    """What a configuration needs: vectors of that engine, within `timeout_s`."""

    engine: str
    timeout_s: float


class _Gone(Exception):
    """The process has ended, or it hangs, or says what is no vector."""


class _Job(msgspec.Struct, eq=False):
    """One text, and all who wait for it."""

    key: int
    text: str
    waiters: list[asyncio.Future[str]]


class Vectors:
    """`counts`: the dictionary to count results into. `command` of the child."""

    def __init__(
        self,
        counts: Callable[[], dict[str, int]],
        clock: Callable[[], float] = time.monotonic,
        command: Sequence[str] = (sys.executable, "-P", "-m", "model_gateway.vectors.child"),
    ) -> None:
        self._counts = counts
        self._clock = clock
        self._command = command
        self._wanted: Wanted | None = None
        self._known: dict[int, array[float]] = {}
        self._jobs: dict[int, _Job] = {}
        self._waiting: deque[_Job] = deque()
        self._due: deque[tuple[float, asyncio.Future[str]]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._process: asyncio.subprocess.Process | None = None
        self._lateness = 0.0
        self._rests_until = 0.0
        self._complaint = ""

    @property
    def pid(self) -> int | None:
        """Of the process that is ready now."""
        return None if self._process is None else self._process.pid

    def adopt(self, wanted: Wanted | None) -> None:
        """From now on these are wanted; None: none. What goes on being wanted goes on being there."""
        before, self._wanted = self._wanted, wanted
        if wanted is None or (before is not None and before.engine != wanted.engine):
            self._end()
            self._known.clear()
        elif before is not None and before.timeout_s != wanted.timeout_s:
            self._answer_all_due()
            self._lateness = self._rests_until = 0.0
        if wanted is not None and self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Leaves no process behind."""
        self._wanted = None
        self._end()
        self._answer_all_due()
        while self._ending:
            await asyncio.wait(self._ending)

    def recall(self, text: str) -> Sequence[float] | None:
        """Its vector, where it has been fetched."""
        return self._known.get(hash(text))

    async def fetch(self, text: str) -> None:
        """Have its vector known, if that is possible within the time limit."""
        key = hash(text)
        if key in self._known:
            self._known[key] = self._known.pop(key)  # the newest again
            self._count("known")
        elif self._wanted is None or not self._has_room(key):
            self._count("skipped")
        else:
            result = await self._asked(key, text, self._wanted.timeout_s)
            self._count(result)
            self._judge(result != "ok")

    def _has_room(self, key: int) -> bool:
        if self._process is None or self._clock() < self._rests_until:
            return False
        return key in self._jobs or len(self._waiting) < MOST_WAITING

    # --- who waits -------------------------------------------------------------------------------------------------

    async def _asked(self, key: int, text: str, timeout_s: float) -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job(key, prepared(text), [])
            self._waiting.append(job)
            self._wake.set()
        job.waiters.append(answer)
        deadline = loop.time() + timeout_s
        self._due.append((deadline, answer))
        if self._alarm is None:
            self._alarm = loop.call_at(deadline, self._expire)
        return await answer

    def _expire(self) -> None:
        """One timer for all who wait: they all wait equally long, so that who came first is due first."""
        loop = asyncio.get_running_loop()
        due, now = self._due, loop.time()
        while due and (due[0][1].done() or due[0][0] <= now):
            _answer(due.popleft()[1], "late")
        self._alarm = loop.call_at(due[0][0], self._expire) if due else None

    def _answer_all_due(self) -> None:
        """Another limit holds from now on, and who waits by the old one would be in the way of those who come."""
        for _, answer in self._due:
            _answer(answer, "late")
        self._due.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _judge(self, bad: bool) -> None:
        self._lateness += LATE_STEP * (bad - self._lateness)
        if self._lateness > LATE_MOST:
            self._lateness = LATE_AFTER_REST
            self._rests_until = self._clock() + REST_S

    def _count(self, result: str) -> None:
        counts = self._counts()
        counts[result] = counts.get(result, 0) + 1

    # --- the process -----------------------------------------------------------------------------------------------

    def _end(self) -> None:
        runner, self._runner, self._process = self._runner, None, None
        if runner is not None:
            self._ending.add(runner)
            runner.add_done_callback(self._ending.discard)
            runner.cancel()
        self._fail_all()

    async def _run(self) -> None:
        """Until it is cancelled."""
        crashes = 0
        while True:
            begun = self._clock()
            try:
                await self._live()
            except Exception as error:  # noqa: BLE001 (whatever it is: requests go on, and it is tried again)
                crashes = 1 if self._clock() - begun >= STABLE_S else crashes + 1
                self._complain(str(error) or type(error).__name__)
            await asyncio.sleep(BACKOFF_S[min(crashes, len(BACKOFF_S)) - 1])

    async def _live(self) -> None:
        """One process, from its start to its end."""
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        ended = asyncio.ensure_future(process.wait())
        ended.add_done_callback(lambda _: self._wake.set())
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await _vector_from(process)
            self._process = process
            await self._serve(process, ended)
        finally:
            if self._process is process:
                self._process = None
                self._fail_all()
            await _ended(process, ended)

    async def _serve(self, process: asyncio.subprocess.Process, ended: asyncio.Future[int]) -> None:
        assert process.stdin is not None  # noqa: S101 (it is a pipe)
        while True:
            while not self._waiting:
                if ended.done():
                    raise _Gone(f"it ended with status {ended.result()}")
                self._wake.clear()
                await self._wake.wait()
            job = self._waiting.popleft()
            if all(waiter.done() for waiter in job.waiters):
                del self._jobs[job.key]  # nobody waits any longer
                continue
            text = job.text.encode()
            process.stdin.write(len(text).to_bytes(4, "little") + text)
            async with asyncio.timeout(HANG_S):
                vector = await _vector_from(process)
            del self._jobs[job.key]
            self._remember(job.key, vector)
            for waiter in job.waiters:
                _answer(waiter, "ok")

    def _remember(self, key: int, vector: array[float]) -> None:
        known = self._known
        if len(known) >= REMEMBERED:
            del known[next(iter(known))]
        known[key] = vector

    def _fail_all(self) -> None:
        for job in self._jobs.values():
            for waiter in job.waiters:
                _answer(waiter, "failed")
        self._jobs.clear()
        self._waiting.clear()

    def _complain(self, what: str) -> None:
        """Once, until something else is wrong. What it says is of the process, never of a text."""
        if what != self._complaint:
            self._complaint = what
            _log.warning("the process that embeds has failed; it is started again", error=what)


def _answer(waiter: asyncio.Future[str], result: str) -> None:
    if not waiter.done():
        waiter.set_result(result)


async def _vector_from(process: asyncio.subprocess.Process) -> array[float]:
    assert process.stdout is not None  # noqa: S101 (it is a pipe)
    vector = array("f", await process.stdout.readexactly(_BYTES))
    if sys.byteorder == "big":
        vector.byteswap()
    if not _SQUARES[0] < sum(map(mul, vector, vector)) < _SQUARES[1]:  # nor is it where one of them is no number
        raise _Gone("what it says is no vector")
    return vector


async def _ended(process: asyncio.subprocess.Process, ended: asyncio.Future[int]) -> None:
    """Nothing of it is kept: it need not be asked."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await ended
