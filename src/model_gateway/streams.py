"""Streams as a door reads them: `async for chunks in stream`, or `flow`, which costs less.

Counts what passes; knows no schema and no status code.

A stream has exactly one end. After the loop it was complete and has been settled; a GatewayError out of it means that
it was cut, and `abandon` that its reader stopped. In each case what was spent is charged once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from model_gateway.budget.once import Kept
from model_gateway.dispatch.dispatcher import Started
from model_gateway.domain.chat import OPENAI, ChatChunk, ChatReply, ChatRequest
from model_gateway.domain.errors import GatewayError
from model_gateway.domain.record import Record
from model_gateway.domain.usage import Usage
from model_gateway.wire.openai import chunks_of
from model_gateway.wire.protocols import answer_of

T = TypeVar("T")


class ReplyStream:
    """A whole reply, replayed."""

    def __init__(self, chunks: list[ChatChunk], protocol: str, record: Record) -> None:
        self._chunks: list[ChatChunk] = chunks
        self.protocol = protocol
        self.record = record

    def __aiter__(self) -> ReplyStream:
        return self

    async def __anext__(self) -> list[ChatChunk]:
        chunks, self._chunks = self._chunks, []
        if not chunks:
            raise StopAsyncIteration
        return chunks

    async def flow(self, show: Callable[[list[ChatChunk]], bool]) -> bool:
        """As iterating; `show` is called with chunks the moment they come, and says whether it takes more now.

        True: it did not, and wants to be called again. False: that was the end.
        """
        chunks, self._chunks = self._chunks, []
        return bool(chunks) and not show(chunks)

    def abandon(self, error: BaseException) -> None:
        """The door stops reading before the end (a client has gone). Idempotent; settles what was spent."""


def replay(reply: ChatReply, request: ChatRequest, record: Record) -> ReplyStream:
    """The chunks that a stream of this reply would have had: OpenAI's for its own callers, deltas for all others."""
    if reply.protocol == request.protocol == OPENAI:
        return ReplyStream(chunks_of(reply, request.include_usage), OPENAI, record)
    chunk = ChatChunk(
        data=b"",
        text=reply.text,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        deltas=tuple(answer_of(reply).deltas()),
    )
    return ReplyStream([chunk], "", record)


def again(kept: Kept, request: ChatRequest, record: Record) -> ReplyStream:
    """The stream that was answered before."""
    if kept.reply is not None:
        return replay(kept.reply, request, record)
    chunks = [
        ChatChunk(
            data=each.data,
            text=each.text,
            finish_reason=each.finish_reason,
            usage=each.usage,
            plain=each.plain,
            usage_only=each.usage_only,
        )
        for each in kept.chunks
        if request.include_usage or not each.usage_only
    ]
    return ReplyStream(chunks, kept.protocol, record)


class Settlement(Protocol):
    """What a live stream reports its end to: the gateway."""

    def finish_stream(self, stream: LiveStream) -> None: ...

    def abandon_stream(self, stream: LiveStream) -> None: ...

    def drain_stream(self, stream: LiveStream) -> None: ...

    async def keep_stream(self, stream: LiveStream) -> None: ...


class LiveStream(ReplyStream):
    """A provider's stream, counted as it passes."""

    def __init__(
        self, settlement: Settlement, started: Started, request: ChatRequest, record: Record, key: bytes
    ) -> None:
        super().__init__(started.first, started.protocol, record)
        self.started = started
        self.request = request
        self.key = key
        self.text: list[str] = []
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.unread = 0  # pieces of tool calls and thoughts, which are not read: a token each
        self.plain = True  # nothing but text so far: then a whole reply can be put together from the pieces
        self.kept: list[ChatChunk] = []  # all of it, where the request may be repeated
        self._settlement = settlement
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
                    chunks = await self.started.next()
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

    async def flow(self, show: Callable[[list[ChatChunk]], bool]) -> bool:
        def give(chunks: list[ChatChunk]) -> bool:
            shown = self._count(chunks)
            return not shown or show(shown)

        try:
            first, self._chunks = self._chunks, []
            if first and not give(first):
                return True
            if await self.started.flow(give):
                return True
            await self._end()
        except (GatewayError, asyncio.CancelledError) as error:
            self.abandon(error)
            raise
        return False

    def _count(self, chunks: list[ChatChunk]) -> list[ChatChunk]:
        """Add up text and usage; hide the usage chunk that only we asked for."""
        hidden = False
        if self.record.ticket is not None:
            self.kept += chunks
        for chunk in chunks:
            if chunk.text:
                self.text.append(chunk.text)
            if chunk.finish_reason is not None:
                self.finish_reason = chunk.finish_reason
            if chunk.usage is not None:
                self.usage = chunk.usage
                hidden = hidden or chunk.usage_only
            if not chunk.plain:
                self.plain = False
                self.unread += 1
        if hidden and not self.request.include_usage:
            return [chunk for chunk in chunks if not chunk.usage_only]
        return chunks

    async def _end(self) -> None:
        self._over = True
        # Settled before anything is awaited: a client that leaves now must not take the charge with it.
        self._settlement.finish_stream(self)
        try:
            if self.record.ticket is not None:
                await self._settlement.keep_stream(self)
        finally:
            await self.started.finish()

    def abandon(self, error: BaseException) -> None:
        if self._over:
            return
        self._over = True
        failed = isinstance(error, GatewayError)
        if not failed and (self.started.drains or self.record.ticket is not None):
            self._settlement.drain_stream(self)
            return
        self.started.abort(error.kind if failed else "cancelled")
        self._settlement.abandon_stream(self)

    async def drain(self) -> None:
        """Read on to the end, for nobody, so that the cost is exact; never raises but for cancellation."""
        try:
            first, self._chunks = self._chunks, []  # those that nobody has taken yet
            self._count(first)
            while chunks := await self.started.next():
                self._count(chunks)
        except GatewayError as error:
            self.started.abort(error.kind)
            self._settlement.abandon_stream(self)
        except BaseException:
            self.started.abort("cancelled")
            self._settlement.abandon_stream(self)
            raise
        else:
            await self._end()


class Drains:
    """Calls that are read to their end for nobody. Each record is closed when its call has ended, once."""

    def __init__(self, close_record: Callable[[Record], None]) -> None:
        self._close_record = close_record
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> int:
        return len(self._tasks)

    async def shielded(
        self,
        answer: Coroutine[Any, Any, T],
        drain: Callable[[asyncio.Task[T]], Coroutine[Any, Any, None]],
        record: Record,
    ) -> T:
        """`answer`, which goes on when its caller has gone: then `drain` settles it."""
        task = asyncio.get_running_loop().create_task(answer)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # Even where it has come in this very moment: what it holds must be read, settled and given back.
            self.keep(drain(task), record)
            raise

    def keep(self, work: Coroutine[Any, Any, None], record: Record) -> None:
        record.pending = True
        task = asyncio.get_running_loop().create_task(self._run(work, record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Coroutine[Any, Any, None], record: Record) -> None:
        try:
            with contextlib.suppress(GatewayError):  # the caller has gone: its record says so already
                await work
        finally:
            record.pending = False
            self._close_record(record)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
