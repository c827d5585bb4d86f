"""One configuration at work: all that a reload replaces, built beside the one before it and put in its place at once.

Decides what goes on over a reload (ledger, limits in use, unchanged providers with their connections, places and
breakers, counters, the cache while nothing that shapes an answer has changed) and what begins anew. Opens no port.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog

from model_gateway.admission.gate import Gate
from model_gateway.admission.keys import ring_of
from model_gateway.admission.limits import SharedLimits
from model_gateway.assess.embedding import EmbeddingAssessor
from model_gateway.assessing import assessor_of
from model_gateway.budget.budgets import Budgets
from model_gateway.budget.feedback import Feedback
from model_gateway.budget.ledger import Ledger
from model_gateway.budget.once import Once
from model_gateway.budget.prices import price_of
from model_gateway.budget.pricing import estimate_nano
from model_gateway.budget.purse import Purse
from model_gateway.cache.memory import MemoryCache
from model_gateway.cohort import Cohort
from model_gateway.config.schema import GatewayConfig, RoutingConfig
from model_gateway.dispatch.dispatcher import Dispatcher
from model_gateway.domain.chat import AUTO_MODEL
from model_gateway.domain.record import Record
from model_gateway.domain.route import Target
from model_gateway.domain.usage import usd_from_nano
from model_gateway.explaining import Explainer
from model_gateway.guard.guard import Guard
from model_gateway.judging import Judge, SharedSessions
from model_gateway.observing.candidate import candidate_of
from model_gateway.observing.noting import Noter, Plan, standing
from model_gateway.observing.samples import path_of
from model_gateway.pipeline import Gateway
from model_gateway.providers.adapters import features_of
from model_gateway.providers.embedded import EmbeddedModel
from model_gateway.providers.registry import Registry
from model_gateway.providers.upstream import Upstream
from model_gateway.routing.catalog import build_targets
from model_gateway.routing.decision import Decisions, kept
from model_gateway.routing.router import Router
from model_gateway.sessions.table import SessionTable
from model_gateway.telemetry import logs
from model_gateway.telemetry.alerts import AlertWatch
from model_gateway.telemetry.metrics import Metrics
from model_gateway.vectors.process import Vectors, Wanted

HOLD_GRACE_S: Final = 60.0
"""Seconds after a request's deadline at which its money, if still held, is taken for spent by somebody who is dead."""

_RETIRED_LOOK_S: Final = 0.25

_log = structlog.get_logger("model_gateway.generation")


class Lasting(msgspec.Struct):
    """What every configuration of one process shares."""

    upstream: Upstream
    server: EmbeddedModel
    metrics: Metrics
    ledger: Ledger | None
    once: Once | None
    feedback: Feedback | None
    noter: Noter
    gate: Gate
    elsewhere: SharedLimits | None
    sessions: SessionTable
    sessions_elsewhere: SharedSessions | None
    vectors: Vectors
    cohort: Cohort


class Generation:
    """Built from a configuration without touching anything that runs; `begin` puts it to work, `retire` ends it.

    Raises ConfigError where the configuration cannot work.
    """

    def __init__(self, config: GatewayConfig, lasting: Lasting, before: Generation | None = None) -> None:
        self.config = config
        self._lasting = lasting
        self.keys = ring_of(config, None if lasting.ledger is None else lasting.ledger.stored_keys())
        known = before.registry if before is not None else None
        self.registry = Registry(config, lasting.upstream, lasting.server, known)
        self.budgets = Budgets(config.budgets, hedged=config.routing.hedge.enabled)
        self.purse = purse_of(config, self.budgets, lasting.ledger)
        self.alerts = AlertWatch(config.monitoring, time.monotonic)
        self.cache = MemoryCache(config.cache, time.monotonic) if config.cache.enabled else None
        if before is not None:
            if _same(config, before.config, "budgets", "routing", "server"):
                self.purse, self.budgets = before.purse, before.budgets
            if _same(config, before.config, "monitoring"):
                self.alerts = before.alerts
            if _same(config, before.config, "cache", "providers", "routing", "complexity", "security"):
                self.cache = before.cache
        self._assessor = assessor_of(config.complexity, config.routing, lasting.vectors.recall)
        self._targets = build_targets(config, price_of, features_of)
        self.dispatcher = Dispatcher(
            self.registry.providers,
            self._targets,
            config.routing,
            time.monotonic,
            before=before.dispatcher if before is not None else None,
        )
        self._plan = self._observed()
        self.gateway = self._gateway()

    def begin(self) -> None:
        """From now on this is what counts. On the event loop, and never fails."""
        lasting, loads = self._lasting, self.dispatcher.loads
        lasting.gate.adopt(self.keys)
        lasting.noter.adopt(self._plan)
        lasting.vectors.adopt(self._wanted_vectors())
        lasting.metrics.adopt(
            [target.model for target in self._targets],
            lambda: {name: load.in_flight for name, load in loads.items()},
        )
        if lasting.ledger is not None:
            lasting.ledger.book = self.budgets.book
        self.dispatcher.take_over()
        _warn_of_unknown_prices(self._targets)

    async def retire(self, after: Generation) -> None:
        """`after` has taken over: close what only this one had, once its last request has ended."""
        while self.gateway.in_flight or self.gateway.drains_busy:  # noqa: ASYNC110 (once per reload)
            await asyncio.sleep(_RETIRED_LOOK_S)
        self.registry.retire(after.registry)

    def _gateway(self) -> Gateway:
        config, lasting = self.config, self._lasting
        ledger = lasting.ledger
        statuses = {name: provider.status for name, provider in self.registry.providers.items()}
        observers: list[Callable[[Record], None]] = [logs.log_request]
        if config.monitoring.enabled:
            observers += [lasting.metrics.observe, self.alerts.observe]
        if ledger is not None:
            observers.append(ledger.append)
        if self.purse is not None:
            observers.append(self.purse.close)
        if lasting.elsewhere is not None:
            observers.append(lasting.elsewhere.close)
        if not self._plan.idle:
            observers.append(lasting.noter.close)
        assessor, embed = self._assessor, None
        if isinstance(assessor, EmbeddingAssessor):
            embed = partial(_embed, assessor, lasting.vectors)
        router = Router(self._targets, config.routing, statuses, estimate_nano)
        judge = Judge(
            assessor,
            config.complexity.thresholds,
            config.routing.session,
            router,
            lasting.sessions,
            lasting.sessions_elsewhere,
            time.monotonic,
            embed,
            _scored(config.routing),
        )
        decisions = kept()
        self.explainer = self._explainer(judge, router, decisions)
        return Gateway(
            gate=lasting.gate,
            guard=Guard(config.security),
            cache=self.cache,
            judge=judge,
            router=router,
            dispatcher=self.dispatcher,
            targets=self._targets,
            observers=observers,
            clock=time.monotonic,
            wall_clock=time.time,
            timeout_s=config.server.timeout / 1000,
            max_in_flight=config.server.max_in_flight,
            default_max_tokens=config.routing.default_max_tokens,
            shadow=config.routing.shadow,
            intend=ledger.intend if ledger is not None else None,
            purse=self.purse,
            once=lasting.once,
            feedback=lasting.feedback,
            elsewhere=lasting.elsewhere,
            cascades=config.routing.cascades,
            decisions=decisions,
            cohort=lasting.cohort,
            note=None if self._plan.idle else lasting.noter.note,
        )

    def _explainer(self, judge: Judge, router: Router, decisions: Decisions) -> Explainer:
        config = self.config
        return Explainer(
            judge,
            self._assessor,
            decisions,
            router,
            self.dispatcher.states,
            config.routing.cascades,
            config.routing.default_max_tokens,
            config.complexity.thresholds,
            time.monotonic,
        )

    def _wanted_vectors(self) -> Wanted | None:
        if not isinstance(self._assessor, EmbeddingAssessor):
            return None
        return Wanted(self._assessor.part.engine, self.config.complexity.embeddings.timeout / 1000)

    def _observed(self) -> Plan:
        config, samples = self.config, self.config.routing.samples
        online = [t for t in self._targets if self.registry.providers[t.provider].status == "online"]
        rate = samples.rate if samples.enabled else 0.0
        return Plan(path_of(config), rate, samples.max, candidate_of(config), standing(online))


def _scored(routing: RoutingConfig) -> frozenset[str]:
    """What may stand in `model` of requests that go where their score says."""
    models = {name: [told] if isinstance(told, str) else told for name, told in routing.aliases.items()}
    return frozenset((AUTO_MODEL, *routing.cascades, *(name for name in models if AUTO_MODEL in models[name])))


async def _embed(assessor: EmbeddingAssessor, vectors: Vectors, query: str) -> None:
    """Have the embedding of a query known, where that would count."""
    begin = assessor.begin(query)
    if vectors.recall(begin) is not None or assessor.wants(query):
        await vectors.fetch(begin)


def purse_of(config: GatewayConfig, budgets: Budgets, ledger: Ledger | None) -> Purse | None:
    if ledger is None:
        return None
    return Purse(budgets, ledger, time.time, config.server.timeout / 1000 + HOLD_GRACE_S)


def _same(one: GatewayConfig, other: GatewayConfig, *sections: str) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in sections)


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
