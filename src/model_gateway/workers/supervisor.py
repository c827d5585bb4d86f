"""The composition root of several processes: what they share, who oversees them, and their end.

Decides the order: ports, ledger, control plane, workers; and backwards at the end. Serves no request itself: when it
dies its workers end as if told to, and when one of them dies it starts another.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from model_gateway.budget.budgets import Budgets
from model_gateway.budget.ledger import Ledger
from model_gateway.config.errors import StartupError
from model_gateway.config.schema import GatewayConfig
from model_gateway.control.health import Health
from model_gateway.domain.errors import UpstreamConnectError
from model_gateway.operations import Operations
from model_gateway.providers.embedded import EmbeddedServer
from model_gateway.server.http.server import BACKLOG, listen
from model_gateway.storage.audit import SIGNAL
from model_gateway.tasks import cancel
from model_gateway.telemetry import logs
from model_gateway.workers import messages
from model_gateway.workers.board import Board
from model_gateway.workers.fleet import Fleet


class Supervisor:
    """`async with Supervisor(config, workers) as gateway:` serves until the block ends. Raises StartupError."""

    def __init__(self, config: GatewayConfig, workers: int, *, text_logs: bool = False) -> None:
        self._config = config
        self._workers = workers
        self._text_logs = text_logs
        self._whole = AsyncExitStack()
        self._watching: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    @property
    def config(self) -> GatewayConfig:
        return self.fleet.config

    @property
    def control_port(self) -> int:
        return self.operations.control_port

    def health(self) -> Health:
        return self.operations.health()

    async def __aenter__(self) -> Self:
        # The first worker answers, and /health/ready says so, while others still start: it must not be cut off then.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        async with self._whole as stack:
            await self._start(stack)
            self._whole = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._whole.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        config, server = self._config, self._config.server
        logs.configure(config.logging, text=self._text_logs)
        stack.callback(logs.shutdown)
        listener = listen(server.host, server.http_port, "HTTP", "HTTP_PORT or server.httpPort")
        stack.callback(listener.close)
        listener.listen(BACKLOG)
        self.http_port = int(listener.getsockname()[1])
        reserved = reserve(server.host, server.port)
        stack.callback(reserved.close)
        self.grpc_port = int(reserved.getsockname()[1])
        board = Board.made()
        stack.callback(board.close)
        ledger = self._ledger = Ledger(config.ledger) if config.ledger.enabled else None
        if ledger is not None:
            ledger.book = Budgets(config.budgets, hedged=config.routing.hedge.enabled).book
            ledger.start()
            stack.push_async_callback(asyncio.to_thread, ledger.close)
        self._model = EmbeddedServer()
        stack.push_async_callback(self._end_model)
        self.fleet = Fleet(
            config,
            self._workers,
            listener=listener,
            grpc_port=self.grpc_port,
            board=board,
            ledger=ledger,
            model=self._model_at,
            text_logs=self._text_logs,
        )
        self.operations = Operations(self.fleet, ledger)
        stack.push_async_callback(self.operations.stop)
        await self.operations.start()
        stack.push_async_callback(self.fleet.stop)
        await self.fleet.start()

    def heed_signals(self) -> None:
        """From now on SIGHUP and SIGUSR2 replace all workers. SIGINT and SIGTERM ask to stop since the start."""
        operations = self.operations
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGUSR2):
            loop.add_signal_handler(number, lambda: operations.soon(self.restart()))

    async def run_until_signal(self) -> None:
        """Serve until a signal asks to stop."""
        await self._stop.wait()

    async def restart(self) -> None:
        """New workers with the configuration as it is now. Raises StartupError, and then the old ones go on."""
        if self.operations.reload is not None:
            await self.operations.reload_now("restart of the workers", SIGNAL)
        try:
            await self.fleet.replace_all()
        except StartupError as error:
            logs.log_problem(f"a worker could not be replaced: {error.message}")
            raise

    async def _model_at(self, timeout_s: float) -> tuple[int, str]:
        try:
            address = await self._model.ensure_ready(timeout_s)
        except UpstreamConnectError as error:
            raise StartupError(error.message) from None
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch_model())
        return address

    async def _watch_model(self) -> None:
        await self._model.gone()
        await self.fleet.tell_all(messages.MODEL_GONE)

    async def _end_model(self) -> None:
        if self._watching is not None:
            await cancel(self._watching)
        await self._model.stop()


def reserve(host: str, port: int) -> socket.socket:
    """The gRPC port, for this gateway's processes and for nobody else. Raises StartupError where it is taken."""
    option = "PORT or server.port"
    with listen(host, port, "gRPC", option) as probe:  # says why not; and a second gateway must not join in
        family, port = probe.family, int(probe.getsockname()[1])
    holder = socket.socket(family, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
    except OSError as error:
        holder.close()
        raise StartupError(f"cannot reserve {host}:{port} for gRPC: {error.strerror}", f"set {option}") from None
    return holder
