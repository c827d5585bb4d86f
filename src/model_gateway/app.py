"""The composition root: GatewayConfig → running application. The only place where parts are wired together.

Decides the order of starting (ledger before doors) and of stopping (doors before ledger), and when one configuration
gives way to another. What such a configuration is made of: generation.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from model_gateway import __version__
from model_gateway.admission.gate import Gate
from model_gateway.admission.keys import KeyRing
from model_gateway.budget.budgets import Budgets
from model_gateway.budget.ledger import Ledger
from model_gateway.budget.once import Once
from model_gateway.config.errors import ConfigError, StartupError
from model_gateway.config.schema import GatewayConfig
from model_gateway.control.admin import Admin, Reload
from model_gateway.control.app import ControlPlane
from model_gateway.control.health import Check, Configuration, Health, ProviderHealth, Reloaded
from model_gateway.generation import Generation, Lasting, admin_token, key_secret
from model_gateway.pipeline import Gateway
from model_gateway.providers.embedded import EmbeddedServer
from model_gateway.providers.registry import Registry
from model_gateway.providers.upstream import Upstream
from model_gateway.server.grpc.server import GrpcServer
from model_gateway.server.http.errors import refusal
from model_gateway.server.http.routes import Routes
from model_gateway.server.http.server import HttpServer
from model_gateway.telemetry import logs
from model_gateway.telemetry.metrics import Metrics

# Collections of the oldest generation walk all modules, prices and descriptors: with the interpreter's thresholds they
# cost 13 µs a request and pauses of 20 ms. What exists after the start lives as long as the process, so it is frozen.
GC_THRESHOLDS = (50_000, 20, 50)


KEYS_S = 1.0
"""Between two looks whether keys were made or revoked."""


class App:
    """`async with App(config) as app:` serves until the block ends. Raises StartupError when it cannot start."""

    def __init__(self, config: GatewayConfig, *, text_logs: bool = False) -> None:
        self.grpc_port = 0
        self.http_port = 0
        self.control_port = 0
        self.ready = False
        self._config = config
        self._text_logs = text_logs
        self._started_at = time.time()
        self.configuration = Configuration(loaded_at=self._started_at)
        self.reload: Reload | None = None
        self._stack = AsyncExitStack()
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def config(self) -> GatewayConfig:
        return self._config

    @property
    def gateway(self) -> Gateway:
        return self.generation.gateway

    @property
    def registry(self) -> Registry:
        return self.generation.registry

    @property
    def keys(self) -> KeyRing:
        return self.generation.keys

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        self.ready = True
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ready = False
        await self._stack.aclose()

    async def _start(self) -> None:
        config, stack = self._config, self._stack
        loop = asyncio.get_running_loop()
        logs.configure(config.logging, text=self._text_logs)
        stack.callback(logs.shutdown)

        self.ledger = Ledger(config.ledger) if config.ledger.enabled else None
        if self.ledger is not None:
            # Before the start, which books what was left behind.
            self.ledger.book = Budgets(config.budgets, hedged=config.routing.hedge.enabled).book
            self.ledger.start()
            stack.push_async_callback(asyncio.to_thread, self.ledger.close)

        self.once = self._started_once()
        self.metrics = Metrics()
        upstream, server = Upstream(loop), EmbeddedServer()
        stack.push_async_callback(server.stop)
        stack.callback(upstream.close)
        gate = Gate(KeyRing(()), time.monotonic, time.time)
        self._lasting = Lasting(upstream, server, self.metrics, self.ledger, self.once, gate)
        self.generation = Generation(config, self._lasting)
        self.generation.begin()
        stack.push_async_callback(self._close_generations)

        render = self.metrics.render if config.monitoring.enabled else None
        control = ControlPlane(config.server, self.health, render, self._admin())
        self.control_port = await control.start()
        stack.push_async_callback(control.stop)  # after the doors: probes are answered while they drain
        self._background(self._tick())
        self._background(self._watch_keys())

        self._http = HttpServer(config.server, Routes(self.gateway, int(self._started_at)), refusal)
        self._grpc = GrpcServer(self.gateway, config.server)
        stack.push_async_callback(self._close_doors)
        self.http_port = await self._http.start()
        self.grpc_port = await self._grpc.start()

    # --- one configuration gives way to another --------------------------------------------------------------------

    async def apply(self, config: GatewayConfig) -> None:
        """Prepare and adopt. Raises StartupError, and then nothing has changed."""
        self.adopt(await self.prepare(config))

    async def prepare(self, config: GatewayConfig) -> Generation:
        """All that `adopt` needs, built beside what runs. Raises StartupError where it cannot work."""
        if config.logging != self._config.logging:
            logs.check(config.logging)
        try:
            return await asyncio.to_thread(Generation, config, self._lasting, self.generation)
        except OSError as error:
            raise ConfigError(f"the ledger's database does not answer: {error}", "try again when it does") from None

    def adopt(self, generation: Generation) -> None:
        """From the next request on this one counts. Requests under way end in the one that they began in."""
        before, config = self.generation, generation.config
        if config.logging != self._config.logging:
            try:
                logs.configure(config.logging, text=self._text_logs)
            except StartupError as error:  # it could be written a moment ago
                logs.log_problem(error.message)
        self.generation, self._config = generation, config
        generation.begin()
        self._http.adopt(config.server, Routes(generation.gateway, int(self._started_at)))
        self._grpc.adopt(generation.gateway)
        task = asyncio.get_running_loop().create_task(before.retire(generation))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _reload(self, reason: str) -> Reloaded:
        if self.reload is None:
            raise StartupError("this gateway was started without a file to reload")
        return await self.reload(reason)

    def _reload_soon(self) -> None:
        async def work() -> None:
            with contextlib.suppress(StartupError):  # told
                await self._reload("SIGHUP")

        task = asyncio.get_running_loop().create_task(work())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _close_doors(self) -> None:
        self.ready = False
        grace_s = self._config.server.shutdown_grace / 1000
        await asyncio.gather(self._http.stop(grace_s), self._grpc.stop(grace_s))

    async def _close_generations(self) -> None:
        for task in tuple(self._retiring):
            await _cancel(task)
        await self.gateway.close()

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        self._stack.push_async_callback(_cancel, asyncio.get_running_loop().create_task(work))

    def _started_once(self) -> Once | None:
        if self.ledger is None:
            return None
        once = Once(self.ledger, time.time, float(self._config.ledger.idempotency_ttl))
        self._stack.push_async_callback(once.close)
        self._background(once.run())
        return once

    async def _refresh_keys(self) -> None:
        """What commands have made or revoked meanwhile. While it cannot be read, what was known goes on."""
        if self.ledger is not None:
            with contextlib.suppress(OSError):  # /health says that the database cannot be read
                stored = await asyncio.to_thread(self.ledger.stored_keys)
                try:
                    self.keys.replace(stored)
                except ConfigError as error:
                    logs.log_problem(error.message)

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(KEYS_S)
            await self._refresh_keys()
            purse = self.generation.purse
            if purse is not None and self._config.budgets.when_unavailable == "local_share":
                with contextlib.suppress(OSError):  # what was known counts
                    await purse.refresh()

    def _admin(self) -> Admin | None:
        config = self._config
        if self.ledger is None:
            return None
        return Admin(
            self.ledger,
            lambda: self.generation.budgets,
            token=admin_token(config),
            secret=key_secret(config),
            refresh=self._refresh_keys,
            configuration=lambda: self.configuration,
            reload=self._reload,
            own_budgets=lambda: self.keys.budgets(),
        )

    async def _tick(self) -> None:
        """Alerts are evaluated beside the requests, never inside one."""
        ledger = self.ledger
        while True:
            await asyncio.sleep(self._config.monitoring.metrics_interval / 1000)
            generation = self.generation
            for event in generation.alerts.tick():
                logs.log_alert(event)
            if self._config.budgets.limits and ledger is not None:
                now, watch = time.time(), generation.watch
                with contextlib.suppress(OSError):  # /health says that the ledger cannot be read
                    balances = await asyncio.to_thread(ledger.balances, watch.periods(now))
                    for event in watch.tick(balances, now):
                        logs.log_alert(event)

    async def run_until_signal(self) -> None:
        """Serve until SIGINT or SIGTERM asks to stop. SIGHUP reloads."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, AttributeError):  # Windows
            loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt
                loop.add_signal_handler(number, stop.set)
        await stop.wait()

    def health(self) -> Health:
        """Healthy: all parts work. Degraded: it answers, but something needs attention."""
        ledger = self.ledger
        checks = {"ledger": Check(ledger is None or ledger.healthy, (ledger and ledger.last_error) or "")}
        providers = {
            name: ProviderHealth(status=provider.status, reason=provider.status_reason)
            for name, provider in self.registry.providers.items()
        }
        error = self.configuration.error
        checks["configuration"] = Check(not error, error and f"refused, the last good one goes on: {error}")
        usable = any(provider.status == "online" for provider in providers.values())
        checks["providers"] = Check(usable, "" if usable else "no provider is online")
        working = all(check.ok for check in checks.values())
        status = "healthy" if working else "degraded" if usable else "unhealthy"
        return Health(
            status=status,
            ready=self.ready and usable,
            version=__version__,
            uptime_s=time.time() - self._started_at,
            configuration=self.configuration,
            checks=checks,
            providers=providers,
        )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
