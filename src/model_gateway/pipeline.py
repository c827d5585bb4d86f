"""The life of a request, in order. READ THIS FIRST.

    journal opens → admit the caller → (the door decodes) → guard the prompt → cache → assess → route → dispatch
    (retry, fallback; a cascade's two calls: cascading.py) → settle → cache put → journal closes once, whatever happened

`complete` and `stream` share everything up to dispatch. Each step writes facts into the `Record`; ledger, metrics and
logs read it once, when the journal closes. This module awaits and orders; every decision is made by a pure function of
the package it belongs to. It knows no wire format, no status code and no metric's name.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import structlog

from model_gateway.admission.gate import Gate, enter_elsewhere, give_back
from model_gateway.admission.limits import Quota, SharedLimits
from model_gateway.budget.charges import expected, serve, strongest
from model_gateway.budget.feedback import Feedback, Rating
from model_gateway.budget.once import Kept, Once
from model_gateway.budget.purse import Purse
from model_gateway.cache.key import cache_key
from model_gateway.cache.memory import MemoryCache
from model_gateway.cohort import Cohort, turn
from model_gateway.config.cascades import CascadeConfig
from model_gateway.config.schema import ShadowConfig
from model_gateway.dispatch.dispatcher import Dispatcher
from model_gateway.domain.caller import ANONYMOUS, Caller, Credential
from model_gateway.domain.chat import ChatReply, ChatRequest
from model_gateway.domain.errors import InvalidRequest, Overloaded
from model_gateway.domain.record import Record
from model_gateway.domain.route import Route, Target, TargetState
from model_gateway.guard.guard import Guard
from model_gateway.judging import Judge, Standing, asked_of
from model_gateway.recording import Journal, note_failure
from model_gateway.routing.candidates import Question
from model_gateway.routing.decision import Decision, Decisions, kept
from model_gateway.routing.router import Router
from model_gateway.routing.view import View
from model_gateway.settling import Settler, outlives, owned
from model_gateway.shadowing import Shadowing
from model_gateway.streams import LiveStream, ReplyStream, again, replay

if TYPE_CHECKING:
    from model_gateway.cascading import Cascading

_log = structlog.get_logger("model_gateway.pipeline")


class Gateway:
    """One configuration, running. Doors call `journal`, `admit`, then `complete` or `stream`."""

    def __init__(
        self,
        *,
        gate: Gate,
        guard: Guard,
        cache: MemoryCache | None,
        judge: Judge,
        router: Router,
        dispatcher: Dispatcher,
        targets: Sequence[Target],
        observers: Sequence[Callable[[Record], None]],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        timeout_s: float,
        max_in_flight: int,
        default_max_tokens: int,
        shadow: ShadowConfig,
        intend: Callable[[Record, Target], None] | None = None,
        purse: Purse | None = None,
        once: Once | None = None,
        feedback: Feedback | None = None,
        elsewhere: SharedLimits | None = None,
        note: Callable[[ChatRequest, Record], None] | None = None,
        dice: Callable[[], float] = random.random,
        cascades: Mapping[str, CascadeConfig] | None = None,
        decisions: Decisions | None = None,
        cohort: Cohort | None = None,
    ) -> None:
        self.targets = targets
        best = strongest([candidate.target for candidate in router.everything.online])
        by_name = {(target.provider, target.model): target for target in targets}
        self._settler = Settler(by_name, best, cache, self.close_record)
        self.states: Sequence[TargetState] = dispatcher.states
        self.in_flight = 0
        self._gate, self._guard, self._cache = gate, guard, cache
        self._judge, self._router = judge, router
        self.assess, self.evaluate = judge.assess, judge.evaluate
        self._dispatcher = dispatcher
        self.observers = list(observers)
        self._clock, self._wall_clock = clock, wall_clock
        self._timeout_s = timeout_s
        self._max_in_flight = max_in_flight
        self._default_max_tokens = default_max_tokens
        self._intend = intend
        self._purse, self._once, self._feedback = purse, once, feedback
        self._elsewhere, self._note = elsewhere, note
        self._dice = dice
        self._shadowing = None
        if shadow.model:
            self._shadowing = Shadowing(shadow, self._run_shadow, self._settler.drains, wall_clock, dice)
        self._decisions = kept() if decisions is None else decisions
        self._cohort = cohort or Cohort()
        self._cascading: Cascading | None = None
        if cascades:
            # Where nobody cascades its schema validator need not be loaded.
            from model_gateway.cascading import Cascading

            self._cascading = Cascading(cascades, router, dispatcher, self._settler, intend, clock)
        self._id_prefix = "req_" + os.urandom(8).hex()
        self._ids = itertools.count(1)

    # --- the steps a door takes ------------------------------------------------------------------------------------

    def new_request_id(self) -> str:
        """Unique over processes: 64 random bits of this one, and a counter."""
        return f"{self._id_prefix}{next(self._ids):06x}"

    def journal(self, door: str, request_id: str = "") -> Journal:
        """Opens the record of one request: use it in a `with` statement around everything else."""
        uid = self.new_request_id()
        return Journal(self, Record(request_id or uid, door, self._wall_clock(), uid=uid), self._clock)

    def admit(self, credential: Credential, record: Record) -> Caller:
        """May this caller enter now? Raises Unauthenticated, PermissionDenied, RateLimited or Overloaded."""
        if self._max_in_flight and self.in_flight > self._max_in_flight:
            raise Overloaded("the gateway has too many requests at once (server.maxInFlight)", retry_after_s=1)
        return self._gate.admit(credential, record)

    def model_owners(self, caller: Caller = ANONYMOUS) -> dict[str, str]:
        """Every name that `model` may be for this caller, with who serves it."""
        view = self._view_of(caller)
        names = dict.fromkeys(view.names, "model-gateway")
        for candidate in view.candidates:
            names.setdefault(candidate.target.model, candidate.target.provider)
        return names

    def online_targets(self, caller: Caller) -> Sequence[Target]:
        """Those that this caller may use."""
        return [candidate.target for candidate in self._view_of(caller).online]

    def check_key(self, credential: Credential, door: str = "") -> Caller:
        """Whose key is this? For requests that only look around and are not recorded. `door` empty: any."""
        return self._gate.check(credential, door)

    def quota(self, record: Record) -> Quota | None:
        """What the caller's key has left now; None where it has no limits."""
        found = self._elsewhere.quota(record.key_name) if self._elsewhere is not None else None
        return found or self._gate.quota(record.key_name)

    async def rate(self, rating: Rating, caller: Caller) -> None:
        """Raises InvalidRequest, UnknownRequest or Overloaded."""
        if self._feedback is None:
            raise InvalidRequest("feedback needs the ledger (ledger.enabled)")
        await self._feedback.give(rating, caller)

    async def complete(self, request: ChatRequest, caller: Caller, record: Record) -> ChatReply:
        """A whole answer, or a GatewayError."""
        view = self._view_of(caller)
        deadline = self._begin(request, record, view)
        if self._elsewhere is not None and record.lease is not None:
            await enter_elsewhere(self._elsewhere, caller, record)
        key = self._cache_key(request, caller, view)
        if request.idempotency_key:
            kept = await self._repeated(request, caller, record, deadline)
            if kept is not None:
                return kept.whole()
        reply = self._cached(request, key, record)
        if reply is None:
            request, route = await self._begun(request, caller, record, view)
            if record.cascade is not None and self._cascading is not None:
                reply = await self._cascading.complete(request, route, record, key, deadline)
            else:
                reply = await self._asked(request, route, record, key, deadline)
        if record.ticket is not None:
            await record.ticket.keep(record, reply)
        return reply

    async def _asked(
        self, request: ChatRequest, route: Route, record: Record, key: bytes, deadline: float
    ) -> ChatReply:
        settler = self._settler
        answer = self._dispatcher.complete(request, route.targets, record, deadline)
        if outlives(route.targets[0], record):
            drain = partial(settler.drain_reply, request=request, record=record)
            reply, target = await settler.drains.shielded(answer, drain, record)
        else:
            try:
                reply, target = await answer
            except asyncio.CancelledError:
                settler.settle_cancelled(request, record)
                raise
        settler.settle(target, reply.usage, record, request, reply.text)
        settler.remember(request, key, reply, target, record)
        if record.ticket is not None:
            return owned(reply, target)  # and is kept before anybody may leave
        if self._cohort.several():
            await turn()
        return reply

    async def stream(self, request: ChatRequest, caller: Caller, record: Record) -> ReplyStream:
        """Resolves when the first chunk is there, so that an error before it is an ordinary GatewayError."""
        view = self._view_of(caller)
        deadline = self._begin(request, record, view)
        if self._elsewhere is not None and record.lease is not None:
            await enter_elsewhere(self._elsewhere, caller, record)
        key = self._cache_key(request, caller, view)
        if request.idempotency_key:
            kept = await self._repeated(request, caller, record, deadline)
            if kept is not None:
                return again(kept, request, record)
        reply = self._cached(request, key, record)
        if reply is not None:
            if record.ticket is not None:
                await record.ticket.keep(record, reply)
            return replay(reply, request, record)
        settler = self._settler
        request, route = await self._begun(request, caller, record, view)
        if record.cascade is not None and self._cascading is not None:
            return await self._cascading.stream(request, route, record, key, deadline)
        opened = self._clock()
        started = await settler.awaited(
            self._dispatcher.stream(request, route.targets, record, deadline),
            route.targets[0],
            request,
            record,
            lambda task: settler.drain_started(task, request, record, key),
        )
        record.first_token_s = self._clock() - opened
        serve(started.target, record)
        return LiveStream(settler, started, request, record, key)

    @property
    def drains_busy(self) -> int:
        """Calls that go on though their callers have gone."""
        return self._settler.drains.busy

    # --- the steps in between --------------------------------------------------------------------------------------

    def _view_of(self, caller: Caller) -> View:
        return self._router.everything if caller.scope is None else self._router.view(caller.scope)

    def _begin(self, request: ChatRequest, record: Record, view: View) -> float:
        """Note what was asked, whether it may be, guard the prompt; returns the deadline."""
        record.asked_model = request.model
        record.stream = request.stream
        if request.labels:
            record.labels.update(request.labels)
        if view.fingerprint:
            self._router.check(view, request.model, request.preferred_provider)
        self._guard.check_prompt(request.messages)
        timeout_s = self._timeout_s if request.timeout_s is None else min(request.timeout_s, self._timeout_s)
        return self._clock() + timeout_s

    def _cache_key(self, request: ChatRequest, caller: Caller, view: View) -> bytes:
        if self._cache is None or not (request.cache_read or request.cache_write):
            return b""
        return cache_key(caller.tenant, request, view.fingerprint)

    def _cached(self, request: ChatRequest, key: bytes, record: Record) -> ChatReply | None:
        if self._cache is None or not request.cache_read:
            record.cache = "off"
            return None
        reply = self._cache.get(key)
        if reply is None:
            record.cache = "miss"
            return None
        record.cache = "hit"
        self._settler.hit(request, record, reply)
        return reply

    async def _repeated(self, request: ChatRequest, caller: Caller, record: Record, deadline: float) -> Kept | None:
        """What was answered when this was asked before; None: it is asked for the first time."""
        if self._once is None:
            raise InvalidRequest("Idempotency-Key needs the ledger (ledger.enabled)", param="Idempotency-Key")
        carriage = f"{record.door} {request.stream} {caller.key_name}"
        same = cache_key(caller.tenant, request, carriage.encode())
        return await self._once.begin(request.idempotency_key, same, caller, record, deadline - self._clock())

    async def _begun(
        self, request: ChatRequest, caller: Caller, record: Record, view: View
    ) -> tuple[ChatRequest, Route]:
        """A route whose cost is reserved and noted: from here on a provider may be asked."""
        if self._judge.embed is not None:
            await self._judge.prepare(request)
        several = self._cohort.several()
        if several:
            await turn()
        standing = self._judge.stand(request, record)
        if several:
            await turn()
        if standing.named and standing.stay is not None:
            await self._judge.keep(standing, standing.stay)
        question = self._question(request, record, view, standing)
        assessment = standing.assessment
        decision = Decision(record.uid, assessment.parts, assessment.gain, assessment.abstained, question)
        self._decisions.append(decision)
        route = decision.route = self._routed(question, record, request)
        asked = route.first or route.targets
        if record.lease is not None and record.lease.limits_tokens:
            output = 0 if request.embeds else request.max_tokens or self._default_max_tokens
            calls = 2 if route.first and route.targets else 1
            tokens = expected(request, asked[0].model, question.input_tokens, output, calls)
            record.lease.reserve(tokens)
            if self._elsewhere is not None:
                await self._elsewhere.reserve(record, tokens.exactly())
        if self._purse is not None and self._purse.concerns(caller):
            held = self._purse.leased(request, caller, record, route)
            if held is None:
                held, route = await self._reserve(request, caller, record, question, route)
                decision.route = route
                asked = route.first or route.targets
            request = held
        if self._intend is not None:
            self._intend(record, asked[0])
        if self._note is not None:
            self._note(request, record)
        if self._shadowing is not None:
            self._shadowing.mirror(request, record, view)
        if several:
            await turn()
        return request, route

    def _question(self, request: ChatRequest, record: Record, view: View, standing: Standing) -> Question:
        """What the router must know. A hit in the cache never comes here."""
        assessment = standing.assessment
        record.score = assessment.score
        record.factors = assessment.factors
        record.session = standing.why
        record.asked_tier = standing.tier
        return asked_of(request, standing, record.tenant, view, self._clock(), self._dice())

    def _routed(self, question: Question, record: Record, request: ChatRequest | None = None) -> Route:
        """Without its request there is no cascade."""
        route = None
        if self._cascading is not None and request is not None:
            route = self._cascading.plan(request, question, record, self.states)
        if route is None:
            route = self._router.route(question, self.states)
        record.route_reason = route.reason
        record.tier = route.served_tier
        record.estimate_nano = route.estimate_nano
        return route

    async def _reserve(
        self, request: ChatRequest, caller: Caller, record: Record, question: Question, route: Route
    ) -> tuple[ChatRequest, Route]:
        """Hold the money, or raise CostLimitExceeded: by a cheaper route where the budget says so."""
        assert self._purse is not None  # noqa: S101  the callers ask

        def cheaper(left_nano: int) -> Route:
            return self._routed(msgspec.structs.replace(question, budget_nano=left_nano), record, request)

        return await self._purse.reserve(request, caller, record, route, cheaper)

    async def _run_shadow(self, request: ChatRequest, record: Record, view: View) -> None:
        begun = self._clock()
        record.asked_model = request.model
        try:
            route = self._routed(self._question(request, record, view, self._judge.alone(request)), record)
            if self._intend is not None:
                self._intend(record, route.targets[0])
            deadline = begun + self._timeout_s
            reply, target = await self._dispatcher.complete(request, route.targets[:1], record, deadline)
            self._settler.settle(target, reply.usage, record, request, reply.text)
        except BaseException as error:
            note_failure(record, error)
            raise
        finally:
            record.duration_s = self._clock() - begun

    async def close(self) -> None:
        """After the doors have closed: give calls that are read for nobody up."""
        await self._settler.drains.close()

    def close_record(self, record: Record) -> None:
        give_back(record)
        if record.conversation:
            self._judge.answered(record)
        if record.ticket is not None:
            record.ticket.close()
        for observe in self.observers:
            try:
                observe(record)
            except Exception:  # noqa: BLE001 (one observer's fault must not cost the others, the ledger least of all)
                _log.exception("an observer failed", request_id=record.request_id)
