"""The life of a request, in order. READ THIS FIRST.

    journal opens → admit the caller → (the door decodes) → guard the prompt → cache → assess → route → dispatch
    (retry, fallback) → settle → cache put → journal closes once, whatever happened

`complete` and `stream` share everything up to dispatch. Each step writes facts into the `Record`; ledger, metrics and
logs read it once, when the journal closes. This module awaits and orders; every decision is made by a pure function of
the package it belongs to. It knows no wire format, no status code and no metric's name.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from types import TracebackType

import structlog

from model_gateway.admission.keys import KeyRing
from model_gateway.assess.assessor import Assessor
from model_gateway.budget.pricing import cost_nano, count_tokens
from model_gateway.cache.key import cache_key
from model_gateway.cache.memory import MemoryCache
from model_gateway.dispatch.dispatcher import Dispatcher, Started
from model_gateway.domain.caller import Caller
from model_gateway.domain.chat import ChatChunk, ChatReply, ChatRequest
from model_gateway.domain.errors import GatewayError, InternalError, Overloaded
from model_gateway.domain.record import Record
from model_gateway.domain.route import Assessment, Route, Target, TargetState, Tier, served_tier
from model_gateway.domain.usage import Usage
from model_gateway.guard.guard import Guard
from model_gateway.routing.router import Question, Router
from model_gateway.wire.openai import chunks_of, reply_body

_log = structlog.get_logger("model_gateway.pipeline")

MESSAGE_TOKENS = 4  # what role and framing of one message cost, by OpenAI's published counting


class Gateway:
    """One configuration, running. Doors call `journal`, `admit`, then `complete` or `stream`."""

    def __init__(
        self,
        *,
        keys: KeyRing,
        guard: Guard,
        cache: MemoryCache | None,
        assessor: Assessor,
        router: Router,
        dispatcher: Dispatcher,
        targets: Sequence[Target],
        observers: Sequence[Callable[[Record], None]],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        timeout_s: float,
    ) -> None:
        self.targets = targets
        self.online_targets = router.online_targets
        self.states: Sequence[TargetState] = dispatcher.states
        self.draining = False
        self.in_flight = 0
        self._keys = keys
        self._guard = guard
        self._cache = cache
        self._assessor = assessor
        self._router = router
        self._dispatcher = dispatcher
        self._observers = observers
        self._clock = clock
        self._wall_clock = wall_clock
        self._timeout_s = timeout_s
        self._id_prefix = "req_" + os.urandom(8).hex()
        self._ids = itertools.count(1)

    # --- the steps a door takes ------------------------------------------------------------------------------------

    def new_request_id(self) -> str:
        """Unique over processes: 64 random bits of this one, and a counter."""
        return f"{self._id_prefix}{next(self._ids):06x}"

    def journal(self, door: str, request_id: str = "") -> Journal:
        """Opens the record of one request: use it in a `with` statement around everything else."""
        return Journal(self, Record(request_id or self.new_request_id(), door, self._wall_clock()), self._clock)

    def admit(self, credential: str, record: Record) -> Caller:
        """May this caller enter now? Raises Unauthenticated or Overloaded."""
        if self.draining:
            raise Overloaded("the gateway is shutting down; ask another instance", retry_after_s=1)
        caller = self._keys.check(credential)
        record.tenant = caller.tenant
        record.key_name = caller.key_name
        return caller

    def check_key(self, credential: str) -> Caller:
        """Whose key is this? For requests that only look around and are not recorded."""
        return self._keys.check(credential)

    async def complete(self, request: ChatRequest, caller: Caller, record: Record) -> ChatReply:
        """A whole answer, or a GatewayError."""
        deadline = self._begin(request, record)
        key = self._cache_key(request, caller)
        reply = self._cached(request, key, record)
        if reply is not None:
            return reply
        route = self._route(request, record)
        reply, target = await self._dispatcher.complete(request, route.targets, record, deadline)
        self._settle(target, reply.usage, record, request, len(reply.text))
        self._remember(request, key, reply, target)
        return reply

    async def stream(self, request: ChatRequest, caller: Caller, record: Record) -> ReplyStream:
        """Resolves when the first chunk is there, so that an error before it is an ordinary GatewayError."""
        deadline = self._begin(request, record)
        key = self._cache_key(request, caller)
        reply = self._cached(request, key, record)
        if reply is not None:
            return ReplyStream(chunks_of(reply, request.include_usage), request, record)
        route = self._route(request, record)
        opened = self._clock()
        started = await self._dispatcher.stream(request, route.targets, record, deadline)
        record.first_token_s = self._clock() - opened
        self._serve(started.target, record)
        return LiveStream(self, started, request, record, key)

    def assess(self, query: str, features: Sequence[str] = ()) -> Assessment:
        """How hard is it? Raises InvalidRequest for an unknown feature."""
        return self._assessor.assess(query, features)

    # --- the steps in between --------------------------------------------------------------------------------------

    def _begin(self, request: ChatRequest, record: Record) -> float:
        """Note what was asked, guard the prompt; returns the deadline."""
        record.asked_model = request.model
        record.stream = request.stream
        if request.labels:
            record.labels.update(request.labels)
        self._guard.check_prompt(request.messages)
        timeout_s = self._timeout_s if request.timeout_s is None else min(request.timeout_s, self._timeout_s)
        return self._clock() + timeout_s

    def _cache_key(self, request: ChatRequest, caller: Caller) -> bytes:
        if self._cache is None or not (request.cache_read or request.cache_write):
            return b""
        return cache_key(caller.tenant, request)

    def _cached(self, request: ChatRequest, key: bytes, record: Record) -> ChatReply | None:
        if self._cache is None or not request.cache_read:
            record.cache = "off"
            return None
        reply = self._cache.get(key)
        if reply is None:
            record.cache = "miss"
            return None
        record.cache = "hit"
        record.provider = reply.provider
        record.model = reply.model
        record.usage = reply.usage
        return reply

    def _route(self, request: ChatRequest, record: Record) -> Route:
        """Assess, then choose. A hit in the cache never comes here."""
        assessment = self._assessor.assess(request.query(), explain=request.explain)
        record.score = assessment.score
        record.factors = assessment.factors
        question = Question(
            model=request.model,
            score=assessment.score,
            tier=assessment.tier,
            preferred_provider=request.preferred_provider,
            required_capabilities=request.required_capabilities,
            budget_nano=request.budget_nano,
            input_tokens=_input_tokens(request),
            max_tokens=request.max_tokens,
        )
        record.asked_tier = assessment.tier
        route = self._router.route(question, self.states)
        record.route_reason = route.reason
        record.tier = route.served_tier
        record.estimate_nano = route.estimate_nano
        return route

    def _serve(self, target: Target, record: Record) -> None:
        """Note who answers. A fallback may serve another tier than the route's first target."""
        record.provider = target.provider
        record.model = target.model
        record.tier = served_tier(target, Tier(record.tier))

    def _settle(
        self, target: Target, usage: Usage | None, record: Record, request: ChatRequest, characters: int
    ) -> None:
        """Charge what the provider counted; where it counted nothing, our own count, marked as an estimate."""
        self._serve(target, record)
        if usage is None:
            usage = Usage(_input_tokens(request), (characters + 3) // 4, estimated=True)
        record.usage = usage
        record.cost_nano = cost_nano(target, usage, record.score)

    def _remember(self, request: ChatRequest, key: bytes, reply: ChatReply, target: Target) -> None:
        """Stored under who answered, so that a hit can say whose words these are."""
        if self._cache is not None and request.cache_write:
            owned = ChatReply(
                text=reply.text,
                finish_reason=reply.finish_reason,
                usage=reply.usage,
                body=reply.body,
                model=target.model,
                provider=target.provider,
            )
            self._cache.put(key, owned, len(reply.body))

    def finish_stream(
        self,
        started: Started,
        request: ChatRequest,
        record: Record,
        key: bytes,
        usage: Usage | None,
        text: list[str],
        reason: str | None,
    ) -> None:
        """A stream has come to its proper end: settle it and remember what it said."""
        whole = "".join(text)
        self._settle(started.target, usage, record, request, len(whole))
        if self._cache is not None and request.cache_write and reason is not None:
            model = started.target.model
            body = reply_body(record.request_id, model, int(record.started_at), whole, reason, usage)
            reply = ChatReply(text=whole, finish_reason=reason, usage=usage, body=body, model=model)
            self._remember(request, key, reply, started.target)

    def abandon_stream(
        self, started: Started, request: ChatRequest, record: Record, characters: int, usage: Usage | None
    ) -> None:
        """A stream was cut or its reader has gone: what was spent is charged all the same."""
        self._settle(started.target, usage, record, request, characters)

    def close_record(self, record: Record) -> None:
        for observe in self._observers:
            try:
                observe(record)
            except Exception:  # noqa: BLE001 (one observer's fault must not cost the others, the ledger least of all)
                _log.exception("an observer failed", request_id=record.request_id)


def _input_tokens(request: ChatRequest) -> int:
    """Our own count, before the provider's is known."""
    tokens = 0
    for message in request.messages:
        tokens += count_tokens(message.text()) + MESSAGE_TOKENS
    return tokens


class Journal:
    """Closes its record exactly once, whatever happened inside the `with`, and never hides an error."""

    __slots__ = ("_begun", "_clock", "_gateway", "record")

    def __init__(self, gateway: Gateway, record: Record, clock: Callable[[], float]) -> None:
        self._gateway = gateway
        self._clock = clock
        self._begun = clock()
        self.record = record

    def __enter__(self) -> Record:
        self._gateway.in_flight += 1
        return self.record

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gateway, record = self._gateway, self.record
        gateway.in_flight -= 1
        record.duration_s = self._clock() - self._begun
        if error is not None:
            note_failure(record, error)
        gateway.close_record(record)


def note_failure(record: Record, error: BaseException) -> None:
    """What ended the request, as the record's status."""
    if isinstance(error, GatewayError):
        record.status = error.kind
        record.error = error.logged
    elif isinstance(error, asyncio.CancelledError | GeneratorExit):
        record.status = "cancelled"
    else:
        record.status = InternalError.kind
        record.error = type(error).__name__


class ReplyStream:
    """Chunks for a door: `async for chunks in stream`. This one is replayed from a whole reply.

    After the loop ended, the stream was complete. A GatewayError out of it means that it was cut.
    """

    def __init__(self, chunks: list[ChatChunk], request: ChatRequest, record: Record) -> None:
        self._chunks: list[ChatChunk] = chunks
        self._request = request
        self.record = record

    def __aiter__(self) -> ReplyStream:
        return self

    async def __anext__(self) -> list[ChatChunk]:
        chunks, self._chunks = self._chunks, []
        if not chunks:
            raise StopAsyncIteration
        return chunks

    def abandon(self, error: BaseException) -> None:
        """The door stops reading before the end (a client has gone). Idempotent; settles what was spent."""


class LiveStream(ReplyStream):
    """A provider's stream, counted as it passes."""

    def __init__(self, gateway: Gateway, started: Started, request: ChatRequest, record: Record, key: bytes) -> None:
        super().__init__(started.first, request, record)
        self._gateway = gateway
        self._started = started
        self._key = key
        self._text: list[str] = []
        self._usage: Usage | None = None
        self._reason: str | None = None
        self._plain = True
        self._over = False

    async def __anext__(self) -> list[ChatChunk]:
        chunks = self._chunks
        try:
            while True:
                if chunks:
                    self._chunks = []
                elif self._over:
                    raise StopAsyncIteration
                else:
                    chunks = await self._started.next()
                if not chunks:
                    await self._end()
                    raise StopAsyncIteration
                shown = self._count(chunks)
                if shown:
                    return shown
                chunks = []
        except (GatewayError, asyncio.CancelledError) as error:
            self.abandon(error)
            raise

    def _count(self, chunks: list[ChatChunk]) -> list[ChatChunk]:
        """Add up text and usage; hide the usage chunk that only we asked for."""
        hidden = False
        for chunk in chunks:
            if chunk.text:
                self._text.append(chunk.text)
            if chunk.finish_reason is not None:
                self._reason = chunk.finish_reason
            if chunk.usage is not None:
                self._usage = chunk.usage
                hidden = hidden or chunk.usage_only
            if not chunk.plain:
                self._plain = False
        if hidden and not self._request.include_usage:
            return [chunk for chunk in chunks if not chunk.usage_only]
        return chunks

    async def _end(self) -> None:
        self._over = True
        reason = self._reason if self._plain else None
        # Settled before anything is awaited: a client that leaves now must not take the charge with it.
        self._gateway.finish_stream(
            self._started, self._request, self.record, self._key, self._usage, self._text, reason
        )
        await self._started.finish()

    def abandon(self, error: BaseException) -> None:
        if self._over:
            return
        self._over = True
        self._started.abort(error.kind if isinstance(error, GatewayError) else "cancelled")
        characters = sum(map(len, self._text))
        self._gateway.abandon_stream(self._started, self._request, self.record, characters, self._usage)
