"""The composition root of one process: GatewayConfig → running application, served and overseen in one event loop.

Decides the order: the control plane answers probes from before the doors open until after they have closed. What serves
is wired in serving.py, what oversees it in operations.py. Several processes: workers/supervisor.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from model_gateway.config.schema import GatewayConfig
from model_gateway.control.health import Health
from model_gateway.operations import Operations
from model_gateway.serving import Serving
from model_gateway.storage.audit import SIGNAL
from model_gateway.telemetry.around import Around
from model_gateway.telemetry.scraping import rendered


class App(Serving):
    """`async with App(config) as app:` serves until the block ends. Raises StartupError when it cannot start."""

    def __init__(self, config: GatewayConfig, *, text_logs: bool = False) -> None:
        super().__init__(config, text_logs=text_logs)
        self._whole = AsyncExitStack()
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        async with self._whole as stack:
            stack.push_async_callback(self.end)
            await self.begin()
            self.operations = Operations(self, self.ledger)
            stack.push_async_callback(self.operations.stop)
            await self.operations.start()
            stack.push_async_callback(self.close)
            await self.open()
            self._whole = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._whole.aclose()

    @property
    def control_port(self) -> int:
        return self.operations.control_port

    async def apply(self, config: GatewayConfig) -> None:
        """Prepare and adopt. Raises StartupError, and then nothing has changed."""
        self.adopt(await self.prepare(config))

    async def render(self, around: Around) -> tuple[bytes, str]:
        return await rendered(self.metrics.counts_for_scrape(), around)

    def health(self) -> Health:
        return self.operations.health()

    def heed_signals(self) -> None:
        """From now on SIGINT and SIGTERM ask to stop, and SIGHUP reloads. As soon as it is ready somebody may."""
        operations = self.operations
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, AttributeError):  # Windows
            loop.add_signal_handler(signal.SIGHUP, lambda: operations.soon(operations.reload_now("SIGHUP", SIGNAL)))
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt
                loop.add_signal_handler(number, self._stop.set)

    async def run_until_signal(self) -> None:
        """Serve until a signal asks to stop."""
        await self._stop.wait()
