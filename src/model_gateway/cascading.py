"""Cascades at work: ask a weaker target, check what it says, ask a stronger one where that fails.

    plan a route (who is first, who may follow) → [money held for both] → ask the first, whole → settle it
    → check → give it, or ask the others and settle them too

The first answer is charged as soon as it is there, whatever becomes of it; the record's cost is the sum. Where nothing
may follow it (no money, nobody online) it is given, check or no check, and the reply says so; then it is not cached.
Awaits and orders: the check is `cascade/`, places and targets are the router's, attempts the dispatcher's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from model_gateway.budget.budgets import choices_of
from model_gateway.budget.charges import serve
from model_gateway.cascade.check import Policy, Said, Verdict, check, said_by
from model_gateway.config.cascades import TIERS, CascadeConfig
from model_gateway.dispatch.dispatcher import Dispatcher, Started
from model_gateway.domain.chat import OPENAI, ChatReply, ChatRequest
from model_gateway.domain.conversation import ResponseFormat
from model_gateway.domain.errors import DeadlineExceeded, ErrorKind, GatewayError
from model_gateway.domain.record import Cascaded, Record
from model_gateway.domain.route import Route, Target
from model_gateway.routing.candidates import Question, States
from model_gateway.routing.names import AUTO
from model_gateway.routing.router import Router
from model_gateway.settling import Settler, owned
from model_gateway.streams import LiveStream, ReplyStream, replay
from model_gateway.wire.openai_conversation import format_of
from model_gateway.wire.openai_logprobs import asks, logprobs_in, without_logprobs
from model_gateway.wire.protocols import answer_of

T = TypeVar("T")
Drain = Callable[[asyncio.Task[Any]], Coroutine[Any, Any, None]]
Intend = Callable[[Record, Target], None]

# Why a place of a cascade could not be asked, in one word for headers and metrics.
_WHY: Mapping[str, str] = {
    ErrorKind.INVALID_REQUEST: "unable",
    ErrorKind.OVERLOADED: "busy",
    ErrorKind.COST_LIMIT_EXCEEDED: "budget",
    ErrorKind.UNKNOWN_MODEL: "not_allowed",
    ErrorKind.DEADLINE_EXCEEDED: "timeout",
}


class Cascade:
    """One of them, as configured."""

    def __init__(self, name: str, config: CascadeConfig) -> None:
        self.name = name
        self.config = config
        self.policy = Policy(config.check)
        self.timeout_s = config.timeout / 1000


class Cascading:
    """All of them. `intend` as the pipeline's."""

    def __init__(
        self,
        configs: Mapping[str, CascadeConfig],
        router: Router,
        dispatcher: Dispatcher,
        settler: Settler,
        intend: Intend | None,
        clock: Callable[[], float],
    ) -> None:
        self._cascades = {name: Cascade(name, config) for name, config in configs.items()}
        self.router = router
        self.dispatcher = dispatcher
        self.settler = settler
        self.intend = intend
        self.clock = clock

    def plan(self, request: ChatRequest, question: Question, record: Record, states: States) -> Route | None:
        """The route of a cascade; None: it has none, or goes the usual way. Raises as the router does."""
        cascade = self._cascades.get(request.model)
        if cascade is None or request.embeds:
            return None
        automatic = cascade.name == AUTO
        if automatic and (request.preferred_provider or not cascade.config.tries(question.score)):
            return None
        told = record.cascade = Cascaded(cascade.name)
        if choices_of(request) > 1:
            # Only one of several answers would be looked at.
            return self._skipped(cascade, "choices", question, states, told)
        config = cascade.config
        if not config.tries(question.score):
            told.outcome, told.reason = "skipped", "score"
            place = config.first if question.score < config.above else config.then
            return self.router.route_at(place, question, states)
        try:
            first = self.router.route_at(config.first, question, states, waits=False)
        except GatewayError as error:
            return self._skipped(cascade, _why(error), question, states, told)
        then = self._then(config, first, question, states, told)
        if automatic and then is None:
            record.cascade = None
            return None
        return _joined(config, first, then, question.score)

    def _skipped(
        self, cascade: Cascade, reason: str, question: Question, states: States, told: Cascaded
    ) -> Route | None:
        told.outcome, told.reason = "skipped", reason
        return None if cascade.name == AUTO else self.router.route_at(cascade.config.then, question, states)

    def _then(
        self, config: CascadeConfig, first: Route, question: Question, states: States, told: Cascaded
    ) -> Route | None:
        """Who follows, for what the first leaves of the request's own budget. None: nobody can."""
        left = None if question.budget_nano is None else question.budget_nano - first.estimate_nano
        try:
            route = self.router.route_at(config.then, msgspec.structs.replace(question, budget_nano=left), states)
        except GatewayError as error:
            told.barred = _why(error)
            return None
        targets = tuple(target for target in route.targets if target not in first.targets)
        if not targets:
            told.barred = "unavailable"
            return None
        return msgspec.structs.replace(route, targets=targets)

    async def complete(
        self, request: ChatRequest, route: Route, record: Record, key: bytes, deadline: float
    ) -> ChatReply:
        """The answer that is given, settled and remembered. Raises a GatewayError."""
        run = self._run(request, route, record, key, deadline)
        return await run.kept_up(run.whole(), run.keep)

    async def stream(
        self, request: ChatRequest, route: Route, record: Record, key: bytes, deadline: float
    ) -> ReplyStream:
        """The same as a stream: the first answer's is replayed once it is checked, the other's comes as it is."""
        run = self._run(request, route, record, key, deadline)
        given = await run.kept_up(run.opened(), run.read_on)
        if isinstance(given, ReplyStream):
            return given
        if record.ticket is not None:
            await record.ticket.keep(record, given)
        return replay(given, request, record)

    def _run(self, request: ChatRequest, route: Route, record: Record, key: bytes, deadline: float) -> _Run:
        told = record.cascade
        assert told is not None  # noqa: S101  the route has come from `plan`
        return _Run(self, self._cascades[told.name], request, route, record, told, key, deadline)


class _Run:
    """One request on its way through a cascade."""

    def __init__(
        self,
        cascading: Cascading,
        cascade: Cascade,
        request: ChatRequest,
        route: Route,
        record: Record,
        told: Cascaded,
        key: bytes,
        deadline: float,
    ) -> None:
        self._its = cascading
        self._cascade = cascade
        self._request = request
        self._route = route
        self._record = record
        self._told = told
        self._key = key
        self._deadline = deadline
        self._settler = cascading.settler
        self._begun = cascading.clock()

    # --- callers that leave ----------------------------------------------------------------------------------------

    async def kept_up(self, whole: Coroutine[Any, Any, T], drain: Drain) -> T:
        """Where its request may be repeated all of it goes on without its caller, who may come back for the answer."""
        if self._record.ticket is None:
            return await whole
        return await self._settler.drains.shielded(whole, drain, self._record)

    async def _step(self, answer: Coroutine[Any, Any, T], target: Target, drain: Drain) -> T:
        """One call. Its caller leaves: it ends, or is read to its end, and nothing further is asked."""
        settler, request, record = self._settler, self._request, self._record
        if record.ticket is None:
            return await settler.awaited(answer, target, request, record, drain)
        try:
            return await answer
        except asyncio.CancelledError:  # the gateway stops
            settler.settle_cancelled(request, record)
            raise

    async def keep(self, given: asyncio.Task[ChatReply]) -> None:
        """For the repetitions of a request whose caller has gone."""
        reply = await given
        if self._record.ticket is not None:
            await self._record.ticket.keep(self._record, reply)

    async def read_on(self, given: asyncio.Task[ChatReply | LiveStream]) -> None:
        opened = await given
        if isinstance(opened, LiveStream):
            await opened.drain()
        elif self._record.ticket is not None:
            await self._record.ticket.keep(self._record, opened)

    # --- the two calls ---------------------------------------------------------------------------------------------

    async def whole(self) -> ChatReply:
        first = await self._first()
        if first is not None and self._good(first):
            return self._given(first)
        request, record = self._request, self._record
        try:
            targets = self._escalated(first)
            reply, target = await self._step(
                self._its.dispatcher.complete(request, targets, record, self._deadline),
                targets[0],
                lambda task: self._settler.drain_reply(task, request, record),
            )
        except GatewayError as error:
            return self._given_all_the_same(first, error)
        self._settler.settle(target, reply.usage, record, request, reply.text)
        self._settler.remember(request, self._key, reply, target, record)
        return owned(reply, target)

    async def opened(self) -> ChatReply | LiveStream:
        first = await self._first()
        request, record, key = self._request, self._record, self._key
        if first is not None and self._good(first):
            return self._given(first)
        try:
            targets = self._escalated(first)
            started: Started = await self._step(
                self._its.dispatcher.stream(request, targets, record, self._deadline),
                targets[0],
                lambda task: self._settler.drain_started(task, request, record, key),
            )
        except GatewayError as error:
            return self._given_all_the_same(first, error)
        record.first_token_s = self._its.clock() - self._begun
        serve(started.target, record)
        return LiveStream(self._settler, started, request, record, key)

    async def _first(self) -> tuple[ChatReply, Target, Verdict] | None:
        """The first answer, paid and checked. None: there is none, and others are to be asked."""
        request, record, route, cascade = self._request, self._record, self._route, self._cascade
        if not route.first:
            return None
        wants = cascade.config.check.logprob is not None and not asks(request.body)
        asked = msgspec.structs.replace(request, stream=False, logprobs=wants)
        deadline = min(self._deadline, self._its.clock() + cascade.timeout_s)
        try:
            reply, target = await self._step(
                self._its.dispatcher.complete(asked, route.first, record, deadline),
                route.first[0],
                lambda task: self._settler.drain_reply(task, request, record),
            )
        except GatewayError as error:
            self._told.reason = "timeout" if isinstance(error, DeadlineExceeded) else "failed"
            if not route.targets:
                raise
            return None
        # Paid from here on, whatever follows.
        self._settler.settle(target, reply.usage, record, request, reply.text)
        logprobs = logprobs_in(reply.body) if reply.protocol == OPENAI else None
        if wants and logprobs is not None:
            reply = msgspec.structs.replace(reply, body=without_logprobs(reply.body))
        verdict = check(_said(reply, logprobs, request), cascade.policy)
        self._told.logprob = verdict.logprob
        return reply, target, verdict

    # --- what comes of it ------------------------------------------------------------------------------------------

    def _good(self, first: tuple[ChatReply, Target, Verdict]) -> bool:
        """Is it given? So it is where nothing may follow, too."""
        _, _, verdict = first
        told, route, request = self._told, self._route, self._request
        told.outcome, told.reason = "kept", verdict.reason
        if verdict.passed:
            return True
        if route.targets and request.budget_nano is not None and self._record.cost_nano > self._left_for_first():
            told.barred = "budget"
        if not route.targets or told.barred:
            told.reason, told.failed = told.barred or "budget", verdict.reason
            return True
        return False

    def _left_for_first(self) -> int:
        """What the first call may have cost: more was estimated for both than the request's own budget."""
        assert self._request.budget_nano is not None  # noqa: S101  the caller asks
        return self._request.budget_nano - self._route.estimate_nano + self._route.first_estimate_nano

    def _given(self, first: tuple[ChatReply, Target, Verdict]) -> ChatReply:
        reply, target, verdict = first
        record = self._record
        self._note()
        if self._request.stream:
            record.first_token_s = self._its.clock() - self._begun
        if verdict.passed:
            self._settler.remember(self._request, self._key, reply, target, self._record)
        return owned(reply, target)

    def _escalated(self, first: tuple[ChatReply, Target, Verdict] | None) -> Sequence[Target]:
        """Others are to be asked, and what this costs is noted before."""
        record, told, targets = self._record, self._told, self._route.targets
        if self._route.first:
            told.outcome = "escalated"
        elif not told.outcome:  # there was no money for the first
            told.outcome, told.reason = "skipped", "budget"
        if first is not None:
            told.reason = first[2].reason
        then = self._cascade.config.then
        if self._route.first:
            record.tier = then if then in TIERS else record.asked_tier
        self._note()
        if self._its.intend is not None and self._route.first:
            self._its.intend(record, targets[0])
        return targets

    def _given_all_the_same(self, first: tuple[ChatReply, Target, Verdict] | None, error: GatewayError) -> ChatReply:
        """Nobody else could answer: then the first answer is better than none. It is not remembered."""
        if first is None:
            raise error
        reply, target, verdict = first
        told, record = self._told, self._record
        told.outcome, told.reason, told.failed = "kept", "unavailable", verdict.reason
        record.tier = self._route.served_tier
        self._note()
        self._settler.settle(target, reply.usage, record, self._request, reply.text)
        return owned(reply, target)

    def _note(self) -> None:
        told = self._told
        logprob = "" if told.logprob is None else f", mean logprob {told.logprob:.3f}"
        self._record.route_reason = f"{self._route.reason}: {told.told()}{logprob}"


def _why(error: GatewayError) -> str:
    return _WHY.get(error.kind, "unavailable")


def _joined(config: CascadeConfig, first: Route, then: Route | None, score: float) -> Route:
    return Route(
        targets=then.targets if then is not None else (),
        asked_tier=first.asked_tier,
        served_tier=first.served_tier,
        reason=f"score {score:.2f}; cascade {config.first}, then {config.then}",
        estimate_nano=first.estimate_nano + (then.estimate_nano if then is not None else 0),
        first=first.targets,
        first_estimate_nano=first.estimate_nano,
    )


def _said(reply: ChatReply, logprobs: Any, request: ChatRequest) -> Said:
    return said_by(answer_of(reply), reply.finish_reason, logprobs, _wanted(request))


def _wanted(request: ChatRequest) -> ResponseFormat | None:
    """The form that the request asks for; None: none, or one that cannot be read."""
    if request.conversation is not None:
        return request.conversation.response_format
    return format_of(request.body) if request.protocol == OPENAI else None
