"""All workers together: starts as many as wanted, replaces those that die or freeze, and changes them one by one.

Decides who is replaced, and when: at once, or later where workers die as soon as they begin. A new configuration is
prepared by all of them before any of them takes it up. What they say becomes one health, one set of metrics, one alert.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

import msgspec
import structlog

from model_gateway.admission.keys import ring_of
from model_gateway.budget.budgets import Budgets
from model_gateway.budget.ledger import Ledger
from model_gateway.config.errors import StartupError
from model_gateway.config.schema import GatewayConfig
from model_gateway.control.health import Check, Condition, ProviderHealth
from model_gateway.domain.caller import Allowance
from model_gateway.domain.errors import Overloaded
from model_gateway.explaining import Asked, Explanation
from model_gateway.server.grpc.leaving import leaving_s
from model_gateway.tasks import cancel
from model_gateway.telemetry import logs
from model_gateway.telemetry.alerts import AlertWatch
from model_gateway.telemetry.around import Around, CertificateFigures
from model_gateway.telemetry.counts import Counts
from model_gateway.telemetry.scraping import rendered
from model_gateway.workers import messages
from model_gateway.workers.board import SLOTS, Board
from model_gateway.workers.channel import ChannelClosed
from model_gateway.workers.member import Member
from model_gateway.workers.messages import Order, Report
from model_gateway.workers.part import part_of

STABLE_S: Final = 30.0
"""Who has lived so long did not die of its start."""

BACKOFF_S: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
LOOK_S: Final = 0.5
RECALL_S: Final = 2.0
KILL_AFTER_S: Final = 5.0
"""After the grace time: what has not ended by itself is ended."""

_log = structlog.get_logger("model_gateway.workers")

Model = Callable[[float], Awaitable[tuple[int, str]]]


class Fleet:
    """`start`, then `stop`. `listener`: the HTTP door's; `model`: where the embedded model answers."""

    def __init__(
        self,
        config: GatewayConfig,
        workers: int,
        *,
        listener: socket.socket,
        grpc_port: int,
        board: Board,
        ledger: Ledger | None,
        model: Model,
        text_logs: bool,
    ) -> None:
        self.restarts = 0
        self._config = config
        self._wanted = workers
        self._listener = listener
        self._grpc_port = grpc_port
        self._board = board
        self._ledger = ledger
        self._model = model
        self._text_logs = text_logs
        self._members: dict[int, Member] = {}
        self._ended = Counts()  # of those that have gone
        self._alerts = AlertWatch(config.monitoring, time.monotonic)
        self._changing = asyncio.Lock()  # nobody begins with a configuration while another one is put to work
        self._failures = 0
        self._last_failure = ""
        self._stopping = False
        self._providers: dict[str, ProviderHealth] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def config(self) -> GatewayConfig:
        return self._config

    @property
    def alerts(self) -> AlertWatch:
        """Those of all requests together."""
        return self._alerts

    @property
    def serving(self) -> list[Member]:
        return [member for member in self._members.values() if member.state == "serving"]

    async def start(self) -> None:
        """All of them. Raises StartupError where one cannot."""
        self._begin(self._watch())
        started = await asyncio.gather(*(self._launch() for _ in range(self._wanted)), return_exceptions=True)
        for found in started:
            if isinstance(found, BaseException):
                raise found

    async def stop(self) -> None:
        """What is under way may end within the grace time."""
        self._stopping = True
        for member in tuple(self._members.values()):
            if member.served:
                member.drain()
            else:
                member.kill()
        await self._gone()
        for task in tuple(self._tasks):
            await cancel(task)

    async def replace_all(self) -> None:
        """New processes for all, one after the other: each begins before the one in whose place it comes ends.

        Raises StartupError where a new one does not begin; those that have not been replaced by then go on.
        """
        for member in self.serving:
            await self._launch()
            member.drain(leaving_s(self._config.server))
        _log.info("all workers are new")

    async def tell_all(self, what: str) -> None:
        """And wait until they have heard."""
        await asyncio.gather(*(_asked(member, what, None) for member in self.serving))

    # --- what operations.py wants ------------------------------------------------------------------------------------

    async def apply(self, config: GatewayConfig) -> None:
        """On all workers or on none. Raises StartupError, and then nothing has changed."""
        async with self._changing:
            if config.logging != self._config.logging:
                logs.check(config.logging)
            members, part = self.serving, part_of(config, self._wanted)
            try:
                await asyncio.gather(*(_asked(member, messages.PREPARE, part) for member in members))
            except StartupError:
                await asyncio.gather(*(_asked(member, messages.ABORT, None) for member in members))
                raise
            await asyncio.gather(*(_asked(member, messages.COMMIT, None) for member in members))
            if config.logging != self._config.logging:
                logs.configure(config.logging, text=self._text_logs)
            if config.monitoring != self._config.monitoring:
                self._alerts = AlertWatch(config.monitoring, time.monotonic)
            if self._ledger is not None:
                self._ledger.book = Budgets(config.budgets, hedged=config.routing.hedge.enabled).book
            self._config = config

    def own_budgets(self) -> Mapping[str, Allowance]:
        return ring_of(self._config, None if self._ledger is None else self._ledger.stored_keys()).budgets()

    async def refresh_keys(self) -> None:
        await self.tell_all(messages.REFRESH)

    async def explain(self, asked: Asked) -> Explanation:
        """By one of them, as it sees things. Raises Overloaded where none answers."""
        for member in self.serving:
            try:
                return await member.channel.ask(messages.EXPLAIN, asked)
            except (ChannelClosed, StartupError):
                continue
        raise Overloaded("no worker answers at the moment", retry_after_s=1)

    async def recall(self, uid: str) -> Explanation | None:
        """By the one that has answered it, if it still knows."""

        async def told(member: Member) -> Explanation | None:
            with contextlib.suppress(ChannelClosed, StartupError):
                return await member.channel.ask(messages.RECALL, uid, RECALL_S)
            return None

        found = await asyncio.gather(*(told(member) for member in self.serving))
        return next((each for each in found if each is not None), None)

    def condition(self) -> Condition:
        """Good is what is good everywhere."""
        serving, ledger = self.serving, self._ledger
        conditions = [member.report.condition for member in serving if member.report is not None]
        checks: dict[str, Check] = {
            "ledger": Check(ledger is None or ledger.healthy, ledger.last_error if ledger else "")
        }
        if conditions:
            self._providers = dict(conditions[0].providers)
        for place, condition in enumerate(conditions):
            for name, provider in condition.providers.items() if place else ():
                known = self._providers.get(name)
                self._providers[name] = provider if known is None else known.joined(provider)
            for name, check in condition.checks.items():
                if not check.ok or name not in checks:
                    checks[name] = check
        missing = self._wanted - len(serving)
        detail = f"{len(serving)} of {self._wanted} workers serve"
        checks["workers"] = Check(missing <= 0, f"{detail}; {self._last_failure}" if missing > 0 else "")
        providers = self._providers
        if not conditions:
            providers = {name: ProviderHealth(status="offline", reason="no worker serves") for name in providers}
        return Condition(
            ready=not self._stopping and any(condition.ready for condition in conditions),
            checks=checks,
            providers=providers,
            workers=tuple(member.health() for _, member in sorted(self._members.items())),
            certificates=_together(conditions),
        )

    async def renew_certificates(self) -> str:
        """Each has its own."""
        answers = await asyncio.gather(*(_asked(member, messages.RENEW, None) for member in self.serving))
        return next((answer for answer in answers if answer), "")

    async def render(self, around: Around) -> tuple[bytes, str]:
        members = tuple(self._members.values())
        total = Counts()
        for counts in (*await asyncio.gather(*(member.counts() for member in members)), self._ended):
            if counts is not None:
                total.add(counts)
        figures = tuple(member.figures() for member in members)
        return await rendered(total, msgspec.structs.replace(around, workers=figures, restarts=self.restarts))

    # --- one by one --------------------------------------------------------------------------------------------------

    async def _launch(self) -> None:
        """One more. Raises StartupError."""
        slot = next(slot for slot in range(SLOTS) if slot not in self._members)
        member = self._members[slot] = Member(slot, self._board, self._model, self._heard)
        try:
            await member.start(self._listener)
        except OSError as error:
            del self._members[slot]
            raise StartupError(f"no process for a worker: {error}") from None
        self._begin(self._follow(member))
        async with self._changing:
            part = part_of(self._config, self._wanted)
            await member.serve(Order(part, self._text_logs, slot, self._grpc_port))
        _log.info("a worker serves", pid=member.pid)
        if self._stopping:
            member.drain()

    async def _follow(self, member: Member) -> None:
        """Until it has ended; then another one comes in its place, if nobody wanted the end."""
        await member.ended.wait()
        del self._members[member.slot]
        self._board.clear(member.slot)
        if member.report is not None:
            member.report.counts.in_flight, member.report.counts.tasks = {}, 0
            self._ended.add(member.report.counts)
        lived_s = time.monotonic() - member.started_s
        wanted = member.drained_s is not None or self._stopping
        tell = _log.info if wanted else _log.warning
        tell("a worker has ended", pid=member.pid, exit_code=member.exit_code, lived_s=round(lived_s, 1))
        if member.served and not wanted:
            self._failures = 0 if lived_s >= STABLE_S else self._failures + 1
            self._last_failure = f"worker {member.pid} ended with exit code {member.exit_code}"
            self._begin(self._replace())

    async def _replace(self) -> None:
        while not self._stopping:
            await asyncio.sleep(BACKOFF_S[min(max(self._failures - 1, 0), len(BACKOFF_S) - 1)])
            self.restarts += 1
            try:
                await self._launch()
            except StartupError as error:
                self._failures += 1
                self._last_failure = error.message
                _log.error("a worker did not start", error=error.message, remedy=error.remedy)
            else:
                return

    async def _watch(self) -> None:
        """Kills who has frozen, or does not come to its end."""
        while True:
            await asyncio.sleep(LOOK_S)
            most_s = self._config.server.shutdown_grace / 1000 + KILL_AFTER_S
            for member in tuple(self._members.values()):
                overdue = member.drained_s is not None and time.monotonic() - member.drained_s > most_s
                if member.frozen or overdue:
                    _log.error("a worker does not answer and is killed", pid=member.pid)
                    member.kill()

    def _heard(self, report: Report) -> None:
        self._alerts.add(report.window)

    async def _gone(self) -> None:
        await asyncio.gather(*(member.ended.wait() for member in tuple(self._members.values())))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _asked(member: Member, what: str, content: Any) -> Any:
    """Who does not answer is killed: the one in its place begins with what counts then. Raises StartupError."""
    try:
        return await member.channel.ask(what, content)
    except ChannelClosed:
        member.kill()
        return None


def _together(conditions: list[Condition]) -> tuple[CertificateFigures, ...]:
    """Of each door the worst: what expires first, and whether one goes on with an older one."""
    found: dict[str, CertificateFigures] = {}
    for each in (figures for condition in conditions for figures in condition.certificates):
        known = found.get(each.door, each)
        expires_at = min(known.expires_at, each.expires_at)
        found[each.door] = CertificateFigures(each.door, expires_at, known.refused or each.refused)
    return tuple(found.values())
