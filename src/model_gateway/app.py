"""The composition root: GatewayConfig → running application. The only place where parts are wired together.

Decides the order of starting (ledger before doors) and of stopping (doors before ledger), and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from model_gateway import __version__
from model_gateway.admission.gate import Gate
from model_gateway.admission.keys import KeyRing
from model_gateway.assess.features import FeatureAssessor
from model_gateway.budget.budgets import Budgets
from model_gateway.budget.ledger import Ledger
from model_gateway.budget.once import Once
from model_gateway.budget.prices import price_of
from model_gateway.budget.pricing import estimate_nano
from model_gateway.budget.purse import Purse
from model_gateway.budget.watch import BudgetWatch
from model_gateway.cache.memory import MemoryCache
from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import GatewayConfig
from model_gateway.control.admin import Admin
from model_gateway.control.app import ControlPlane
from model_gateway.control.health import Check, Health, ProviderHealth
from model_gateway.dispatch.dispatcher import Dispatcher
from model_gateway.domain.record import Record
from model_gateway.domain.route import Target
from model_gateway.domain.usage import usd_from_nano
from model_gateway.guard.guard import Guard
from model_gateway.pipeline import Gateway
from model_gateway.providers.adapters import features_of
from model_gateway.providers.registry import Registry
from model_gateway.providers.upstream import Upstream
from model_gateway.routing.catalog import build_targets
from model_gateway.routing.router import Router
from model_gateway.server.grpc.server import GrpcServer
from model_gateway.server.http.errors import refusal
from model_gateway.server.http.routes import Routes
from model_gateway.server.http.server import HttpServer
from model_gateway.storage.keys import secret_of, secret_path
from model_gateway.telemetry import logs
from model_gateway.telemetry.alerts import AlertWatch
from model_gateway.telemetry.metrics import Metrics
from model_gateway.tls.door import Tls

_log = structlog.get_logger("model_gateway.app")

# Collections of the oldest generation walk all modules, prices and descriptors: with the interpreter's thresholds they
# cost 13 µs a request and pauses of 20 ms. What exists after the start lives as long as the process, so it is frozen.
GC_THRESHOLDS = (50_000, 20, 50)


KEYS_S = 1.0
"""Between two looks whether keys were made or revoked."""

HOLD_GRACE_S = 60.0
"""Seconds after a request's deadline at which its money, if still held, is taken for spent by somebody who is dead."""


class App:
    """`async with App(config) as app:` serves until the block ends. Raises StartupError when it cannot start."""

    def __init__(self, config: GatewayConfig, *, text_logs: bool = False) -> None:
        self.config = config
        self.grpc_port = 0
        self.http_port = 0
        self.control_port = 0
        self.ready = False
        self._text_logs = text_logs
        self._started_at = time.time()
        self._stack = AsyncExitStack()

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
        self.gateway.draining = True
        await self._stack.aclose()

    async def _start(self) -> None:
        config, stack = self.config, self._stack
        loop = asyncio.get_running_loop()
        logs.configure(config.logging, text=self._text_logs)
        stack.callback(logs.shutdown)
        self.tls = Tls.of(config.server)

        self.purse: Purse | None = None
        self.ledger = Ledger(config.ledger) if config.ledger.enabled else None
        if self.ledger is not None:
            self.purse = self._purse()  # before the start, which books what was left behind
            self.ledger.start()
            stack.push_async_callback(asyncio.to_thread, self.ledger.close)

        self.once = self._started_once()
        self.keys = self._keyring()
        self.registry = registry = Registry(config, Upstream(loop))
        stack.push_async_callback(registry.close)
        self.gateway = self._build_gateway(registry)
        stack.push_async_callback(self.gateway.close)

        grace_s = config.server.shutdown_grace / 1000
        http = HttpServer(config.server, Routes(self.gateway, int(self._started_at)), refusal, self.tls.data)
        self.http_port = await http.start()
        stack.push_async_callback(http.stop, grace_s)
        grpc = GrpcServer(self.gateway, config.server, self.tls.data)
        self.grpc_port = await grpc.start()
        stack.push_async_callback(grpc.stop, grace_s)
        render = self.metrics.render if config.monitoring.enabled else None
        control = ControlPlane(config.server, self.health, render, self._admin(), self.tls.control)
        self.control_port = await control.start()
        stack.push_async_callback(control.stop)
        ticker = loop.create_task(self._tick(), name="alerts")
        stack.push_async_callback(_cancel, ticker)
        stack.push_async_callback(_cancel, loop.create_task(self._watch_keys(), name="keys"))
        stack.push_async_callback(_cancel, loop.create_task(self.tls.watch(), name="certificates"))

    def _build_gateway(self, registry: Registry) -> Gateway:
        config = self.config
        targets = build_targets(config, price_of, features_of)
        _warn_of_unknown_prices(targets)
        dispatcher = Dispatcher(registry.providers, targets, config.routing, time.monotonic)
        statuses = {name: provider.status for name, provider in registry.providers.items()}
        self.alerts = AlertWatch(config.monitoring, time.monotonic)
        self.metrics = Metrics(
            models=[target.model for target in targets],
            in_flight=lambda: {name: load.in_flight for name, load in dispatcher.loads.items()},
            expiries=self.tls.expiries,
        )
        observers: list[Callable[[Record], None]] = [logs.log_request]
        if config.monitoring.enabled:
            observers += [self.metrics.observe, self.alerts.observe]
        if self.ledger is not None:
            observers.append(self.ledger.append)
        if self.purse is not None:
            observers.append(self.purse.close)
        return Gateway(
            gate=Gate(self.keys, time.monotonic, time.time),
            guard=Guard(config.security),
            cache=MemoryCache(config.cache, time.monotonic) if config.cache.enabled else None,
            assessor=FeatureAssessor(config.complexity),
            router=Router(targets, config.routing, statuses, estimate_nano),
            dispatcher=dispatcher,
            targets=targets,
            observers=observers,
            clock=time.monotonic,
            wall_clock=time.time,
            timeout_s=config.server.timeout / 1000,
            max_in_flight=config.server.max_in_flight,
            default_max_tokens=config.routing.default_max_tokens,
            shadow=config.routing.shadow,
            intend=self.ledger.intend if self.ledger is not None else None,
            purse=self.purse,
            once=self.once,
        )

    def _started_once(self) -> Once | None:
        if self.ledger is None:
            return None
        once = Once(self.ledger, time.time, float(self.config.ledger.idempotency_ttl))
        self._stack.push_async_callback(once.close)
        self._stack.push_async_callback(_cancel, asyncio.get_running_loop().create_task(once.run(), name="once"))
        return once

    def _keyring(self) -> KeyRing:
        config, ledger = self.config, self.ledger
        tls = config.server.tls
        ring = KeyRing(
            config.keys,
            config.limits,
            secret=b"" if ledger is None else self._key_secret(),
            demanded=config.server.require_keys,
            unlisted=tls.client_identity != "none" and tls.unlisted_identity == "admit",
        )
        if ledger is not None:
            ring.replace(ledger.stored_keys())
        return ring

    async def _refresh_keys(self) -> None:
        """What commands have made or revoked meanwhile. While it cannot be read, what was known goes on."""
        if self.ledger is not None:
            with contextlib.suppress(OSError):  # /health says that the database cannot be read
                try:
                    self.keys.replace(await asyncio.to_thread(self.ledger.stored_keys))
                except ConfigError as error:
                    logs.log_problem(error.message)

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(KEYS_S)
            await self._refresh_keys()
            if self.purse is not None and self.config.budgets.when_unavailable == "local_share":
                with contextlib.suppress(OSError):  # what was known counts
                    await self.purse.refresh()

    def _admin(self) -> Admin | None:
        config = self.config
        if self.ledger is None:
            return None
        given = config.server.admin_token
        folder = Path(config.ledger.path).parent
        return Admin(
            self.ledger,
            Budgets(config.budgets),
            token=given.get_secret_value() if given else secret_of(folder / "admin.token", None).hex(),
            secret=self._key_secret(),
            refresh=self._refresh_keys,
            own_budgets=lambda: self.keys.budgets(),
        )

    def _key_secret(self) -> bytes:
        given = self.config.key_secret.get_secret_value() if self.config.key_secret else None
        return secret_of(secret_path(self.config.ledger.path), given)

    def _purse(self) -> Purse | None:
        config, ledger = self.config, self.ledger
        if ledger is None:
            return None
        budgets = Budgets(config.budgets, hedged=config.routing.hedge.enabled)
        ledger.book = budgets.book
        return Purse(budgets, ledger, time.time, config.server.timeout / 1000 + HOLD_GRACE_S)

    async def _tick(self) -> None:
        """Alerts are evaluated beside the requests, never inside one."""
        watch, ledger = BudgetWatch(self.config.budgets), self.ledger
        while True:
            await asyncio.sleep(self.config.monitoring.metrics_interval / 1000)
            for event in self.alerts.tick():
                logs.log_alert(event)
            if self.config.budgets.limits and ledger is not None:
                now = time.time()
                with contextlib.suppress(OSError):  # /health says that the ledger cannot be read
                    balances = await asyncio.to_thread(ledger.balances, watch.periods(now))
                    for event in watch.tick(balances, now):
                        logs.log_alert(event)

    async def run_until_signal(self) -> None:
        """Serve until SIGINT or SIGTERM asks to stop."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
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
        checks |= {section: Check(not wrong, wrong) for section, wrong in self.tls.complaints().items()}
        usable = any(provider.status == "online" for provider in providers.values())
        checks["providers"] = Check(usable, "" if usable else "no provider is online")
        working = all(check.ok for check in checks.values())
        status = "healthy" if working else "degraded" if usable else "unhealthy"
        return Health(
            status=status,
            ready=self.ready and usable,
            version=__version__,
            uptime_s=time.time() - self._started_at,
            checks=checks,
            providers=providers,
        )


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _warn_of_unknown_prices(targets: Sequence[Target]) -> None:
    for target in targets:
        if not target.price.known and target.base_cost_nano:
            _log.warning(
                "no price of this model is known: what it costs is estimated from its base cost",
                provider=target.provider,
                model=target.model,
                base_cost_usd=usd_from_nano(target.base_cost_nano),
                remedy=f"set providers.{target.provider}.pricePerMillionInput and pricePerMillionOutput",
            )
