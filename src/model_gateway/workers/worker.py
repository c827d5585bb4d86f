"""One of several processes that serve: `python -m model_gateway.workers.worker` and descriptors, see `main`.

Decides nothing: it does what its supervisor says, and when the supervisor has gone it ends as if told to. Signals of
the terminal are the supervisor's; SIGTERM ends this one process, and it is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from typing import Any

if __name__ == "__main__":  # before all else is imported, which takes a while
    for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(_number, signal.SIG_IGN)

import uvloop

import model_gateway.lean  # noqa: F401 # pyright: ignore[reportUnusedImport]  before what imports structlog
from model_gateway.config.errors import StartupError
from model_gateway.domain.errors import UpstreamConnectError
from model_gateway.generation import Generation
from model_gateway.serving import Place, Serving
from model_gateway.workers import messages
from model_gateway.workers.board import Board
from model_gateway.workers.channel import Channel, ChannelClosed
from model_gateway.workers.messages import Order, Report


class SharedModel:
    """The supervisor's embedded model: asked for its address once, and again when it has gone."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._address: tuple[int, str] | None = None

    async def ensure_ready(self, timeout_s: float) -> tuple[int, str]:
        """Port and key of the live server. Raises UpstreamConnectError."""
        if self._address is not None:
            return self._address
        try:
            address: tuple[int, str] = await self._channel.ask(messages.MODEL, timeout_s, timeout_s + 1)
        except StartupError as error:
            raise UpstreamConnectError(error.message) from None
        except ChannelClosed:
            raise UpstreamConnectError("the gateway is stopping") from None
        self._address = address
        return address

    def forget(self) -> None:
        self._address = None

    async def stop(self) -> None:
        """It is not this process's to stop."""


class Worker:
    """`run` serves until told to end, and returns when the last request has."""

    def __init__(self, end: socket.socket, listener: socket.socket, board: Board) -> None:
        self._channel = Channel(end, self._handle)
        self._listener = listener
        self._board = board
        self._model = SharedModel(self._channel)
        self._serving: Serving | None = None
        self._prepared: Generation | None = None
        self._end = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        await self._channel.open()
        reading = asyncio.create_task(self._channel.run())
        reading.add_done_callback(lambda _: self._stop())
        reporting = asyncio.create_task(self._report())
        await self._end.wait()
        serving = self._serving
        if serving is not None:
            await serving.close(self._hurry)
            self._tell(serving)
            await serving.end()
        for task in (reporting, reading):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _stop(self) -> None:
        self._hurry.set()
        self._end.set()

    async def _handle(self, what: str, content: Any) -> Any:
        if what == messages.SERVE:
            return await self._serve(content)
        serving = self._serving
        if serving is None:
            return None
        if what == messages.PREPARE:
            self._prepared = await serving.prepare(content)
        elif what == messages.COMMIT and self._prepared is not None:
            serving.adopt(self._prepared)
            self._prepared = None
        elif what == messages.ABORT:
            self._prepared = None
        elif what == messages.REFRESH:
            await serving.refresh_keys()
        elif what == messages.COUNTS:
            return serving.metrics.counts_for_scrape()
        elif what == messages.RENEW:
            return await serving.renew_certificates()
        elif what == messages.EXPLAIN:
            return await serving.explain(content)
        elif what == messages.RECALL:
            return await serving.recall(content)
        elif what == messages.MODEL_GONE:
            self._model.forget()
        elif what == messages.DRAIN:
            self._stop()
        elif what == messages.LEAVE:
            self._end.set()
        return None

    async def _serve(self, order: Order) -> None:
        slot, board = order.slot, self._board
        place = Place(
            self._listener, order.grpc_port, board.sharing(slot), self._model, board.rooms(slot), board.sessions()
        )
        serving = Serving(order.config, text_logs=order.text_logs, place=place)
        try:
            await serving.begin()
            await serving.open()
        except BaseException:
            await serving.close()
            await serving.end()
            raise
        self._serving = serving
        self._tell(serving)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(messages.REPORT_S)
            if self._serving is not None:
                self._tell(self._serving)

    def _tell(self, serving: Serving) -> None:
        gateway = serving.gateway
        report = Report(serving.condition(), serving.alerts.take(), serving.metrics.counts(), gateway.in_flight)
        self._channel.tell(messages.REPORT, report)


def main() -> None:
    """Descriptors: of the channel, the HTTP listener, and the board's three."""
    channel, listener, *board = (int(word) for word in sys.argv[1:])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Worker(socket.socket(fileno=channel), socket.socket(fileno=listener), Board(*board)).run())


if __name__ == "__main__":
    main()
