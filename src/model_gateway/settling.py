"""What a call is charged and what is remembered of it, whichever way it ended: answered, cut, left, or read for nobody.

Writes into records, the cache and the answers that are kept for repetitions; decides no price and no route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec

from model_gateway.budget import tokens
from model_gateway.budget.charges import charge, compare, only_read, serve
from model_gateway.cache.memory import MemoryCache
from model_gateway.dispatch.dispatcher import Started
from model_gateway.domain.chat import ChatReply, ChatRequest
from model_gateway.domain.record import Record
from model_gateway.domain.route import Target
from model_gateway.domain.usage import Usage
from model_gateway.streams import Drains, LiveStream
from model_gateway.wire.openai import reply_body

T = TypeVar("T")


class Settler:
    """`targets` by provider and model; `best`: what a report compares with."""

    def __init__(
        self,
        targets: Mapping[tuple[str, str], Target],
        best: Target | None,
        cache: MemoryCache | None,
        close_record: Callable[[Record], None],
    ) -> None:
        self._targets = targets
        self._best = best
        self._cache = cache
        self.drains = Drains(close_record)

    def hit(self, request: ChatRequest, record: Record, reply: ChatReply) -> None:
        """The cache has answered: nothing is charged, and something saved."""
        record.provider = reply.provider
        record.model = reply.model
        record.usage = reply.usage
        compare(record, self._targets.get((reply.provider, reply.model)), self._best, embeds=request.embeds)

    def settle(
        self, target: Target, usage: Usage | None, record: Record, request: ChatRequest, said: str, unread: int = 0
    ) -> None:
        charge(record, target, usage, request, said, self._targets, unread)
        compare(record, target, self._best, embeds=request.embeds)

    def settle_cancelled(self, request: ChatRequest, record: Record) -> None:
        """The caller has gone before an answer came: the provider has read the prompt, and we say so."""
        last = record.attempts[-1] if record.attempts else None
        if last is not None and last.outcome == "cancelled":
            self.settle(self._targets[last.provider, last.model], only_read(request), record, request, "")

    def remember(self, request: ChatRequest, key: bytes, reply: ChatReply, target: Target, record: Record) -> None:
        """Stored under who answered, so that a hit can say whose words these are, and how their question was judged."""
        if self._cache is not None and request.cache_write:
            size = len(reply.body)
            if record.factors:
                size += sum([len(factor.detail) for factor in record.factors])
            self._cache.put(key, owned(reply, target, record), size)

    def finish_stream(self, stream: LiveStream) -> None:
        """A stream has come to its proper end: settle it and remember what it said."""
        request, record, target = stream.request, stream.record, stream.started.target
        whole = "".join(stream.text)
        self.settle(target, stream.usage, record, request, whole, stream.unread)
        reason = stream.finish_reason
        if self._cache is not None and request.cache_write and stream.plain and reason is not None:
            body = reply_body(record.request_id, target.model, int(record.started_at), whole, reason, stream.usage)
            reply = ChatReply(text=whole, finish_reason=reason, usage=stream.usage, body=body, model=target.model)
            self.remember(request, stream.key, reply, target, record)

    async def keep_stream(self, stream: LiveStream) -> None:
        """For the repetitions of its request, if it has said that there may be some."""
        ticket = stream.record.ticket
        if ticket is not None:
            await ticket.keep_stream(stream.record, stream.protocol, stream.kept)

    def abandon_stream(self, stream: LiveStream) -> None:
        """A stream was cut or its reader has gone: what was spent is charged all the same.

        Counts that came before the end are only a beginning: our own count of what was read replaces a smaller one.
        """
        usage, said, target = stream.usage, "".join(stream.text), stream.started.target
        if usage is not None and stream.finish_reason is None:
            output = max(usage.output_tokens, tokens.count(said, target.model) + stream.unread)
            usage = msgspec.structs.replace(usage, output_tokens=output, estimated=True)
        self.settle(target, usage, stream.record, stream.request, said, stream.unread)

    # --- callers that leave ----------------------------------------------------------------------------------------

    async def awaited(
        self,
        answer: Coroutine[Any, Any, T],
        target: Target,
        request: ChatRequest,
        record: Record,
        drain: Callable[[asyncio.Task[T]], Coroutine[Any, Any, None]],
    ) -> T:
        """`answer`. Where its caller leaves it goes on, and `drain` settles it; or it ends, and is settled at once."""
        if outlives(target, record):
            return await self.drains.shielded(answer, drain, record)
        try:
            return await answer
        except asyncio.CancelledError:
            self.settle_cancelled(request, record)
            raise

    def drain_stream(self, stream: LiveStream) -> None:
        """Its reader has gone, and its provider is to be read to the end. The record stays open until then."""
        self.drains.keep(stream.drain(), stream.record)

    async def drain_started(
        self, answer: asyncio.Task[Started], request: ChatRequest, record: Record, key: bytes
    ) -> None:
        """Its reader had gone before the first chunk was there."""
        started = await self._drained(answer, request, record)
        serve(started.target, record)
        await LiveStream(self, started, request, record, key).drain()

    async def drain_reply(
        self, answer: asyncio.Task[tuple[ChatReply, Target]], request: ChatRequest, record: Record
    ) -> None:
        reply, target = await self._drained(answer, request, record)
        self.settle(target, reply.usage, record, request, reply.text)
        if record.ticket is not None:
            await record.ticket.keep(record, owned(reply, target))

    async def _drained(self, answer: asyncio.Task[T], request: ChatRequest, record: Record) -> T:
        try:
            return await answer
        except asyncio.CancelledError:  # the gateway stops
            self.settle_cancelled(request, record)
            raise


def outlives(target: Target, record: Record) -> bool:
    """Does a call of this target go on though its caller leaves?"""
    return target.drains or record.ticket is not None


def owned(reply: ChatReply, target: Target, judged: Record | None = None) -> ChatReply:
    """With the names of who answered, as we know them; and with what its record says of the question."""
    return ChatReply(
        text=reply.text,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        body=reply.body,
        protocol=reply.protocol,
        model=target.model,
        provider=target.provider,
        score=-1.0 if judged is None else judged.score,
        factors=() if judged is None else judged.factors,
    )
