"""What one process serves with: the ledger, the configuration at work, the doors. Opens no control plane.

Decides the order of starting (ledger before doors) and of stopping (doors before ledger), and when one configuration
gives way to another. What such a configuration is made of: generation.py. Who oversees it: operations.py, in the same
process or, over several of them, in their supervisor's.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import msgspec

from model_gateway.admission.gate import Gate
from model_gateway.admission.keys import KeyRing
from model_gateway.admission.limits import Room, SharedLimits, own_room
from model_gateway.budget.budgets import Budgets
from model_gateway.budget.feedback import Feedback
from model_gateway.budget.ledger import Ledger
from model_gateway.budget.once import Once
from model_gateway.cohort import Cohort
from model_gateway.config.errors import ConfigError, StartupError
from model_gateway.config.schema import GatewayConfig
from model_gateway.control.health import Check, Condition, ProviderHealth
from model_gateway.domain.caller import Allowance
from model_gateway.explaining import Asked, Explanation
from model_gateway.generation import HOLD_GRACE_S, Generation, Lasting
from model_gateway.judging import SharedSessions
from model_gateway.memory import give_back
from model_gateway.observing.noting import Noter
from model_gateway.pipeline import Gateway
from model_gateway.providers.embedded import EmbeddedModel, EmbeddedServer
from model_gateway.providers.registry import Registry
from model_gateway.providers.upstream import Upstream
from model_gateway.server.grpc.server import GrpcServer
from model_gateway.server.http.errors import refusal
from model_gateway.server.http.routes import Routes
from model_gateway.server.http.server import HttpServer
from model_gateway.sessions.table import SessionTable
from model_gateway.sockets.sharing import Sharing
from model_gateway.storage import keys as stored_keys
from model_gateway.tasks import cancel
from model_gateway.telemetry import logs
from model_gateway.telemetry.alerts import AlertWatch
from model_gateway.telemetry.around import CertificateFigures
from model_gateway.telemetry.metrics import Metrics
from model_gateway.tls.door import TlsDoor, door_of
from model_gateway.vectors.process import Vectors

# Collections of the oldest generation walk all modules, prices and descriptors: with the interpreter's thresholds they
# cost 13 µs a request and pauses of 20 ms. What exists before there is a configuration at work lives as long as the
# process, so it is frozen; what belongs to the configuration is not, or the first one would never be given back.
# Young objects are looked at sooner: each gRPC call leaves five behind, with what they hold.
GC_THRESHOLDS = (10_000, 20, 50)

COLLECT_S = 0.5
"""From the end of a configuration's last request to the collection of what it was made of."""

KEYS_S = 1.0
"""Between two looks whether keys were made or revoked."""


class Place(msgspec.Struct):
    """How one process of several differs from one alone: what it shares with the others."""

    listener: socket.socket
    grpc_port: int
    sharing: Sharing
    model: EmbeddedModel
    rooms: Callable[[str], Room]
    sessions: SessionTable


class Serving:
    """`begin`, `open`, then `close`, `end`; each once. `place`: None where no other process serves beside this one.

    `begin` and `open` raise StartupError; `close` and `end` are safe after any of them.
    """

    def __init__(self, config: GatewayConfig, *, text_logs: bool = False, place: Place | None = None) -> None:
        self.grpc_port = 0
        self.http_port = 0
        self.ready = False
        self._config = config
        self._text_logs = text_logs
        self._place = place
        self._started_at = time.time()
        self._stack = AsyncExitStack()
        self._doors = AsyncExitStack()
        self._retiring: set[asyncio.Task[None]] = set()
        self._tls: TlsDoor | None = None
        self._hurry: asyncio.Event | None = None

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

    @property
    def alerts(self) -> AlertWatch:
        return self.generation.alerts

    def own_budgets(self) -> Mapping[str, Allowance]:
        """Of keys, by their names."""
        return self.keys.budgets()

    async def begin(self) -> None:
        """Everything but the doors."""
        config, stack = self._config, self._stack
        loop = asyncio.get_running_loop()
        logs.configure(config.logging, text=self._text_logs)
        stack.callback(logs.shutdown)
        tls = self._tls = door_of("server.tls", config.server.tls)
        if tls is not None:
            self._background(tls.watch())

        self.ledger = Ledger(config.ledger) if config.ledger.enabled else None
        if self.ledger is not None:
            # Before the start, which books what was left behind.
            self.ledger.book = Budgets(config.budgets, hedged=config.routing.hedge.enabled).book
            self.ledger.start()
            stack.push_async_callback(asyncio.to_thread, self.ledger.close)

        self.once = self._started_once()
        flush_s = config.ledger.flush_interval / 1000
        feedback = None if self.ledger is None else Feedback(self.ledger, time.time, flush_s)
        self.metrics = Metrics()
        noter = Noter(self.metrics.comparison)
        stack.push_async_callback(noter.flush)
        self._background(noter.run())
        cohort = Cohort()
        upstream = Upstream(loop, cohort=cohort)
        server = EmbeddedServer() if self._place is None else self._place.model
        stack.push_async_callback(server.stop)
        stack.callback(upstream.close)
        rooms = own_room if self._place is None else self._place.rooms
        gate = Gate(KeyRing(()), time.monotonic, time.time, rooms)
        elsewhere = self._limits_elsewhere(gate)
        sessions = SessionTable() if self._place is None else self._place.sessions
        self._lasting = Lasting(
            upstream,
            server,
            self.metrics,
            self.ledger,
            self.once,
            feedback,
            noter,
            gate,
            elsewhere,
            sessions,
            self._sessions_elsewhere(),
            Vectors(self.metrics.embeddings),
            cohort,
        )
        stack.push_async_callback(self._lasting.vectors.stop)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self.generation = Generation(config, self._lasting)
        self.generation.begin()
        give_back()
        stack.push_async_callback(self._close_generations)
        self._background(self._watch_keys())

    async def open(self) -> None:
        """The doors."""
        config, place = self._config, self._place
        routes = Routes(self.gateway, int(self._started_at))
        self._http = HttpServer(config.server, routes, refusal, self._tls, self._lasting.cohort)
        self._grpc = GrpcServer(self.gateway, config.server, self._tls, self._lasting.cohort)
        self._doors.push_async_callback(self._close_doors)
        if place is None:
            self.http_port = await self._http.start()
            self.grpc_port = await self._grpc.start()
        else:
            self.http_port = await self._http.start_shared(place.listener, place.sharing)
            self.grpc_port = await self._grpc.start(place.grpc_port)
        self.ready = True

    async def close(self, hurry: asyncio.Event | None = None) -> None:
        """The doors: what is under way may end within the grace time.

        `hurry`: others serve at these doors, and until it is set gRPC connections have the time to move to them.
        """
        self.ready = False
        self._hurry = hurry
        await self._doors.aclose()

    async def end(self) -> None:
        """All that is left."""
        await self._stack.aclose()

    # --- one configuration gives way to another --------------------------------------------------------------------

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
        task.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        """Its parts know each other, and by itself the collector comes too seldom: 2 MB would stay with each reload.

        Not at once: the thread that has built the next one may still hold it.
        """
        self._retiring.discard(task)
        task.get_loop().call_later(COLLECT_S, give_back)

    async def refresh_keys(self) -> None:
        """What commands have made or revoked meanwhile. While it cannot be read, what was known goes on."""
        if self.ledger is not None:
            ring = self.keys
            with contextlib.suppress(OSError):  # /health says that the database cannot be read
                found = await asyncio.to_thread(self.ledger.run, partial(stored_keys.changed, since=ring.mark))
                if found is None:
                    return
                ring.mark, stored = found
                try:
                    ring.replace(stored)
                except ConfigError as error:
                    logs.log_problem(error.message)

    async def explain(self, asked: Asked) -> Explanation:
        return await self.generation.explainer.explain(asked)

    async def recall(self, uid: str) -> Explanation | None:
        return self.generation.explainer.recall(uid)

    async def renew_certificates(self) -> str:
        """Somebody says that new ones are complete: they count at once. What is wrong with them, "" where nothing."""
        if self._tls is None:
            return ""
        await asyncio.to_thread(self._tls.look, settled=True)
        return self._tls.problem

    def condition(self) -> Condition:
        """How this process is."""
        ledger, tls = self.ledger, self._tls
        checks = {"ledger": Check(ledger is None or ledger.healthy, (ledger and ledger.last_error) or "")}
        gateway, now = self.gateway, time.monotonic()
        in_flight, resting = dict[str, int](), dict[str, tuple[str, ...]]()
        for target, state in zip(gateway.targets, gateway.states, strict=True):
            in_flight[target.provider] = state.load.in_flight
            if state.open_until > now:
                resting[target.provider] = (*resting.get(target.provider, ()), target.model)
        providers = {
            name: ProviderHealth(
                status=provider.status,
                reason=provider.status_reason,
                in_flight=in_flight.get(name, 0),
                resting=resting.get(name, ()),
            )
            for name, provider in self.registry.providers.items()
        }
        elsewhere = self._lasting.elsewhere
        if elsewhere is not None:
            error = elsewhere.last_error
            policy = self._config.limits.when_unavailable
            checks["limits"] = Check(not error, error and f"Redis does not answer ({policy}): {error}")
        certificates: tuple[CertificateFigures, ...] = ()
        if tls is not None:
            checks["tls"] = Check(not tls.complaint(), tls.complaint())
            expires_at, refused = tls.current.valid.until, bool(tls.problem)
            certificates = tuple(CertificateFigures(door, expires_at, refused) for door in ("http", "grpc"))
        return Condition(ready=self.ready, checks=checks, providers=providers, certificates=certificates)

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(KEYS_S)
            await self.refresh_keys()
            purse = self.generation.purse
            if purse is not None and self._config.budgets.when_unavailable == "local_share":
                with contextlib.suppress(OSError):  # what was known counts
                    await purse.refresh()

    def _asks_redis(self) -> bool:
        """Where the configuration says that machines share what they count."""
        store = self._config.limits.store
        return store == "redis" or (store == "auto" and self._config.cache.redis.url is not None)

    def _sessions_elsewhere(self) -> SharedSessions | None:
        if not self._asks_redis():
            return None
        try:
            from model_gateway.sessions.redis import RedisSessions
        except ImportError:
            return None  # the limits have said it
        sessions = RedisSessions(self._config.cache.redis.address)
        self._stack.push_async_callback(sessions.aclose)
        return sessions

    def _limits_elsewhere(self, gate: Gate) -> SharedLimits | None:
        """In Redis, where the configuration says so."""
        config = self._config
        limits, redis = config.limits, config.cache.redis
        if not self._asks_redis():
            return None
        try:
            from model_gateway.admission.redis import RedisLimits
        except ImportError:
            if limits.store == "redis":
                raise StartupError(
                    "limits.store: the package redis is not installed", "pip install 'model-gateway[redis]'"
                ) from None
            logs.log_problem("REDIS_URL is not used: the package redis is not installed; limits count on this machine")
            return None
        elsewhere = RedisLimits(
            redis.address,
            policy=limits.when_unavailable,
            instances=limits.instances,
            life_s=config.server.timeout / 1000 + HOLD_GRACE_S,
            own=gate.quota,
        )
        self._stack.push_async_callback(elsewhere.aclose)
        self._background(elsewhere.run())
        return elsewhere

    def _started_once(self) -> Once | None:
        if self.ledger is None:
            return None
        once = Once(self.ledger, time.time, float(self._config.ledger.idempotency_ttl))
        self._stack.push_async_callback(once.close)
        self._background(once.run())
        return once

    async def _close_doors(self) -> None:
        grace_s = self._config.server.shutdown_grace / 1000
        await asyncio.gather(self._http.stop(grace_s), self._close_grpc(grace_s))

    async def _close_grpc(self, grace_s: float) -> None:
        if self._hurry is not None and not self._hurry.is_set():
            await self._grpc.leave(self._hurry)
        await self._grpc.stop(grace_s)

    async def _close_generations(self) -> None:
        for task in tuple(self._retiring):
            await cancel(task)
        await self.gateway.close()

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        self._stack.push_async_callback(cancel, asyncio.get_running_loop().create_task(work))
