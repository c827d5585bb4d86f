"""One worker, seen from its supervisor: its process, what it last said, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from model_gateway.config.errors import StartupError
from model_gateway.control.health import WorkerHealth
from model_gateway.telemetry.counts import Counts
from model_gateway.telemetry.families import WorkerFigures
from model_gateway.workers import messages
from model_gateway.workers.board import Board
from model_gateway.workers.channel import Channel, ChannelClosed
from model_gateway.workers.messages import Order, Report

START_S: Final = 60.0
FROZEN_S: Final = 10.0
"""Without a word for so long a worker answers nobody, and is killed."""


class Member:
    """`start`, then `serve`; `ended` is set when its process has gone, whatever the reason."""

    def __init__(
        self,
        slot: int,
        board: Board,
        model: Callable[[float], Awaitable[tuple[int, str]]],
        reported: Callable[[Report], None],
    ) -> None:
        self.slot = slot
        self.state = "starting"
        self.served = False
        self.drained_s: float | None = None
        self.report: Report | None = None
        self.ended = asyncio.Event()
        self.exit_code: int | None = None
        self.started_s = time.monotonic()
        self._started_at = time.time()
        self._heard_s = self.started_s
        self._board = board
        self._model = model
        self._reported = reported
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, listener: socket.socket) -> None:
        """The process. `listener`: the HTTP door's."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.channel = Channel(ours, self._handle)
        descriptors = (theirs.fileno(), listener.fileno(), *self._board.descriptors)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a module of the working directory must not be taken for one of ours
            "-m",
            "model_gateway.workers.worker",
            *map(str, descriptors),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=descriptors,
        )
        theirs.close()
        await self.channel.open()
        self._reading = asyncio.create_task(self.channel.run())
        self._waiting = asyncio.create_task(self._wait(self._process))

    async def serve(self, order: Order) -> None:
        """Returns when it does. Raises StartupError where it cannot, and then its process has gone."""
        try:
            await self.channel.ask(messages.SERVE, order, START_S)
        except ChannelClosed:
            self.kill()
            await self.ended.wait()
            raise StartupError(f"a worker ended while it started (exit code {self.exit_code})") from None
        except StartupError:
            self.kill()
            await self.ended.wait()
            raise
        if self.state == "starting":
            self.state, self.served = "serving", True

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def frozen(self) -> bool:
        return time.monotonic() - self._heard_s > (FROZEN_S if self.served else START_S)

    def drain(self, leaving_s: float = 0.0) -> None:
        """It shall end when its last request has. `leaving_s`: others serve, and clients have so long to move there."""
        self.state, self.drained_s = "draining", time.monotonic() + leaving_s
        self.channel.tell(messages.LEAVE if leaving_s else messages.DRAIN)

    def kill(self) -> None:
        if self._process is not None and not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    async def counts(self) -> Counts | None:
        """Its counts of now, or the last ones that are known."""
        with contextlib.suppress(ChannelClosed, StartupError):
            found = await self.channel.ask(messages.COUNTS, timeout_s=1.0)
            if found is not None and self.report is not None:
                self.report.counts = found  # what was told once is told for ever, should it die now
        return self.report.counts if self.report is not None else None

    def health(self) -> WorkerHealth:
        return WorkerHealth(
            pid=self.pid,
            state=self.state,
            started_at=self._started_at,
            connections=self._board.connections(self.slot),
            in_flight=self.report.in_flight if self.report is not None else 0,
        )

    def figures(self) -> WorkerFigures:
        resident_bytes, cpu_s = _used(self.pid)
        return WorkerFigures(self.slot, self._board.connections(self.slot), resident_bytes, cpu_s)

    async def _handle(self, what: str, content: Any) -> Any:
        self._heard_s = time.monotonic()
        if what == messages.REPORT:
            self.report = content
            self._reported(content)
        elif what == messages.MODEL:
            return await self._model(content)
        return None

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        self.exit_code = await process.wait()
        # What it has said last may still be on its way.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._reading
        self._reading.cancel()
        self.state = "ended"
        self.ended.set()


def _used(pid: int) -> tuple[int, float]:
    """Resident bytes and CPU seconds of a process; 0 where there is no /proc."""
    try:
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except (OSError, IndexError, ValueError):
        return 0, 0.0
    return resident, (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
