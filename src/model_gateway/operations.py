"""Overseeing what serves, for operators: the control plane, alerts, reloads. Never on a request's path.

Decides what /health says of one process or of many, and when an alert rings. What serves is another's: `Served` is one
process's serving.py, or a supervisor's workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol

import msgspec
import structlog

from model_gateway import __version__
from model_gateway.budget.budgets import Budgets
from model_gateway.budget.ledger import Ledger
from model_gateway.budget.watch import BudgetWatch
from model_gateway.config.errors import StartupError
from model_gateway.config.schema import GatewayConfig
from model_gateway.control.admin import Admin, Reload
from model_gateway.control.app import ControlPlane
from model_gateway.control.health import Check, Condition, Configuration, Health, Reloaded
from model_gateway.control.sight import Sight
from model_gateway.domain.caller import Allowance
from model_gateway.explaining import Asked, Explanation
from model_gateway.storage import audit
from model_gateway.storage.audit import GATEWAY, Act, Actor
from model_gateway.storage.keys import admin_token, key_secret
from model_gateway.tasks import cancel
from model_gateway.telemetry import logs
from model_gateway.telemetry.alerts import AlertWatch
from model_gateway.telemetry.around import Around, CertificateFigures
from model_gateway.tls.door import TlsDoor, door_of

_log = structlog.get_logger("model_gateway.operations")


class Served(Protocol):
    """What answers requests, seen from above."""

    @property
    def config(self) -> GatewayConfig: ...

    async def apply(self, config: GatewayConfig) -> None:
        """All of it, at once. Raises StartupError, and then nothing has changed."""
        ...

    @property
    def alerts(self) -> AlertWatch: ...

    def own_budgets(self) -> Mapping[str, Allowance]:
        """Of keys, by their names. May block."""
        ...

    def condition(self) -> Condition: ...

    async def refresh_keys(self) -> None:
        """Keys have changed: they count at once."""
        ...

    async def explain(self, asked: Asked) -> Explanation:
        """How it would be routed now. Raises Overloaded where nobody can say."""
        ...

    async def recall(self, uid: str) -> Explanation | None:
        """How the request of that record was routed; None where nobody knows any more."""
        ...

    async def renew_certificates(self) -> str:
        """Of its doors: somebody says that new ones are complete. What is wrong with them, "" where nothing."""
        ...

    async def render(self, around: Around) -> tuple[bytes, str]:
        """Its metrics and their content type, with what is told beside them."""
        ...


class Operations:
    """`start`, then `stop`. `reload` is set by who knows where the configuration came from."""

    def __init__(self, served: Served, ledger: Ledger | None) -> None:
        self.control_port = 0
        self.configuration = Configuration(loaded_at=time.time())
        self.reload: Reload | None = None
        self._served = served
        self._ledger = ledger
        self._started_at = time.time()
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self._budgets = served.config.budgets
        self._watch = BudgetWatch(self._budgets)
        self._tls: TlsDoor | None = None

    @property
    def config(self) -> GatewayConfig:
        return self._served.config

    async def apply(self, config: GatewayConfig) -> None:
        await self._served.apply(config)

    async def start(self) -> None:
        """Raises StartupError where the control plane cannot listen."""
        config = self._served.config
        render = self._render if config.monitoring.enabled else None
        tls = self._tls = door_of("server.control_tls", config.server.control_tls)
        control = ControlPlane(config.server, self.health, render, self._admin(), tls)
        self.control_port = await control.start()
        self._stack.push_async_callback(control.stop)
        self._background(self._tick())
        if tls is not None:
            self._background(tls.watch())

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            await cancel(task)
        await self._stack.aclose()

    def health(self) -> Health:
        """Healthy: all parts work. Degraded: it answers, but something needs attention."""
        condition = self._served.condition()
        error = self.configuration.error
        providers = condition.providers
        usable = any(provider.status == "online" for provider in providers.values())
        checks = {
            **condition.checks,
            "configuration": Check(not error, error and f"refused, the last good one goes on: {error}"),
            **self._control_check(),
            "providers": Check(usable, "" if usable else "no provider is online"),
        }
        working = all(check.ok for check in checks.values())
        return Health(
            status="healthy" if working else "degraded" if usable else "unhealthy",
            ready=condition.ready and usable,
            version=__version__,
            uptime_s=time.time() - self._started_at,
            configuration=self.configuration,
            checks=checks,
            providers=providers,
            workers=condition.workers,
        )

    def soon(self, work: Coroutine[Any, Any, object]) -> None:
        """Do this beside everything else; what goes wrong with it tells itself."""

        async def done() -> None:
            with contextlib.suppress(StartupError):
                await work

        task = asyncio.get_running_loop().create_task(done())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def note(self, by: Actor, *acts: Act) -> None:
        """In the audit log. What cannot be written there is logged: the act itself is done."""
        ledger = self._ledger
        if ledger is None or not acts:
            return
        now = time.time()
        try:
            await asyncio.to_thread(ledger.run, lambda c: [audit.append(c, by, act, now) for act in acts])
        except OSError as error:
            _log.error("the audit log cannot be written", actions=[a.action for a in acts], error=str(error))

    async def reload_now(self, reason: str, by: Actor = GATEWAY) -> Reloaded:
        """Raises StartupError where the configuration is wrong; that is told, too."""
        if self.reload is None:
            raise StartupError("this gateway was started without a file to reload")
        done = await self.reload(reason, by)
        return msgspec.structs.replace(done, certificates=await self._renew_certificates())

    async def _renew_certificates(self) -> tuple[str, ...]:
        """What is wrong with them."""
        problems = [await self._served.renew_certificates()]
        if self._tls is not None:
            await asyncio.to_thread(self._tls.look, settled=True)
            problems.append(self._tls.problem)
        return tuple(problem for problem in problems if problem)

    def _control_check(self) -> dict[str, Check]:
        tls = self._tls
        return {} if tls is None else {"control_tls": Check(not tls.complaint(), tls.complaint())}

    async def _render(self) -> tuple[bytes, str]:
        told, tls = self.configuration, self._tls
        certificates = self._served.condition().certificates
        if tls is not None:
            certificates += (CertificateFigures("control", tls.current.valid.until, bool(tls.problem)),)
        return await self._served.render(Around(told.generation, told.refused, certificates=certificates))

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        self._stack.push_async_callback(cancel, asyncio.get_running_loop().create_task(work))

    def _admin(self) -> Admin | None:
        config, ledger = self._served.config, self._ledger
        if ledger is None:
            return None
        return Admin(
            ledger,
            lambda: Budgets(self._served.config.budgets),
            token=admin_token(config),
            secret=key_secret(config),
            refresh=self._served.refresh_keys,
            configuration=lambda: self.configuration,
            reload=self.reload_now,
            own_budgets=self._served.own_budgets,
            sight=Sight(ledger, self.health, lambda: self._served.alerts.firing),
            explain=self._served.explain,
            recall=self._served.recall,
        )

    async def _tick(self) -> None:
        """Alerts are evaluated beside the requests, never inside one."""
        while True:
            await asyncio.sleep(self._served.config.monitoring.metrics_interval / 1000)
            for event in self._served.alerts.tick():
                logs.log_alert(event)
            await self._look_at_budgets()

    async def _look_at_budgets(self) -> None:
        ledger, budgets = self._ledger, self._served.config.budgets
        if ledger is None or not budgets.limits:
            return
        if budgets != self._budgets:
            self._budgets, self._watch = budgets, BudgetWatch(budgets)
        now, watch = time.time(), self._watch
        with contextlib.suppress(OSError):  # /health says that the ledger cannot be read
            balances = await asyncio.to_thread(ledger.balances, watch.periods(now))
            for event in watch.tick(balances, now):
                logs.log_alert(event)
