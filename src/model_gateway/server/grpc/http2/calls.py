"""One gRPC call: its messages from the client's bytes, its handler, its replies and status as frames.

The handler and what it is told are grpc's: `ServicerContext`, as far as our services use it. Decides nothing about a
model; never looks at another call.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

import structlog
from google.protobuf.message import DecodeError

from model_gateway.server.grpc.http2 import frames
from model_gateway.server.grpc.http2.frames import END_HEADERS, END_STREAM, head
from model_gateway.server.grpc.http2.hpack import MOST_FIELDS, Fields
from model_gateway.server.grpc.http2.messages import (
    NOT_GRPC,
    OK,
    PREFIX_BYTES,
    REPLY,
    Code,
    Refused,
    prefix,
    seconds,
    status,
    taken,
    unpacked,
)

if TYPE_CHECKING:
    from model_gateway.server.grpc.http2.connection import Connection

_log = structlog.get_logger("model_gateway.grpc")

_REFUSED_S: Final = 1.0
_LATE_S: Final = 0.5  # a handler that knows its deadline has more to say of it than a sweep
MOST_KEPT: Final = 16  # times the largest message: of calls that are not complete, on one connection
_WAITING, _STREAMED_BYTES = 64, 65_536  # messages of a stream that its handler has not taken, and of each at most


class Ended(Exception):
    """The call has its status: its handler must not go on."""


class Call:
    """One stream of `connection`. `metadata`: header fields in lower case; a repeated one keeps its last value.

    `ended`: its client says nothing more; `unsent`: data that it does not take yet, beyond `window`.
    """

    __slots__ = (
        "_begun", "_handler", "_held", "_inbox", "_kept", "_refused", "_replied", "_room", "_sent", "_stalled_at",
        "_task", "_trailers", "_until", "_wanted", "connection", "ended", "metadata", "stream", "unsent", "window",
    )  # fmt: skip

    def __init__(self, connection: Connection, stream: int, window: int) -> None:
        self.connection = connection
        self.stream = stream
        self.window = window
        self.ended = False
        self.unsent: deque[bytes | memoryview] = deque()
        self._held: bytes | bytearray = b""  # of messages that are not complete
        self._kept = 0  # how many bytes it keeps of what has come, as `connection.kept` counts them
        self._room = 0
        self._replied = False
        self._trailers: bytes | None = None
        self._task: asyncio.Task[None] | None = None
        self._inbox: deque[bytes] | None = None
        self._wanted: asyncio.Future[None] | None = None
        self._sent: asyncio.Future[None] | None = None
        self._stalled_at = 0.0
        self._begun = connection.loop.time()
        self._until: float | None = None
        # Told when the client has sent something: some take an answer before that for a broken connection.
        self._refused: Refused | None = None
        self.metadata: Mapping[str, str] = {}
        self._handler: Any = None

    # --- the client's side -------------------------------------------------------------------------------------------

    def begin(self, fields: Fields | None) -> None:
        """The header has come. None: it was too large."""
        if fields is None:
            most = self.connection.limits.header_bytes
            text = f"the metadata is more than {most} bytes or {MOST_FIELDS} fields"
            self._refused = Refused(Code.RESOURCE_EXHAUSTED, text)
            return
        self.metadata = fields
        if not fields.get("content-type", "").startswith("application/grpc") or fields.get(":method") != "POST":
            self._close(NOT_GRPC)
            return
        self._handler = self.connection.handlers.get(fields.get(":path", ""))
        if self._handler is None:
            self._refused = Refused(Code.UNIMPLEMENTED, "Method not found!")
            return
        if (timeout := fields.get("grpc-timeout")) is not None:
            try:
                self._until = time.monotonic() + seconds(timeout)
            except Refused as refused:
                self._refused = refused
                return
        if self._handler.request_streaming:
            self._inbox = deque()
            self._task = asyncio.Task(self._run(None), loop=self.connection.loop, name="call")

    def received(self, data: bytes, size: int) -> None:
        """`size`: of the frame, padding included."""
        connection = self.connection
        if self._trailers is not None:
            connection.life.nuisance()  # it has its status, which waits until the replies before it are taken
            return
        if self._refused is not None:
            self.end(*self._refused.args)
            return
        self._keep(self._kept + size)
        self._room += size
        self._begun = self._begun if self._held or self._inbox is None else connection.loop.time()
        if isinstance(self._held, bytearray):
            self._held += data
        else:  # the first piece is most often all; not a list, for pieces may be of a byte each
            self._held = bytearray(self._held + data) if self._held else data
        most = connection.limits.received_bytes
        if len(self._held) > most + PREFIX_BYTES:
            self.end(Code.RESOURCE_EXHAUSTED, f"the message is larger than {most} bytes")
            return
        if connection.kept > MOST_KEPT * (most + PREFIX_BYTES):
            self.end(Code.RESOURCE_EXHAUSTED, "too much is being sent on this connection at once")
            return
        if self._inbox is not None:
            self._to_inbox(self._inbox)
        if self._room > frames.DEFAULT_WINDOW and not self.ended:
            connection.transport.write(frames.window_update(self.stream, self._room))
            self._room = 0

    def finished(self) -> None:
        """All that the client says has come."""
        self.ended = True
        if self._refused is not None:
            self.end(*self._refused.args)
            return
        if self._inbox is not None:
            self._wake()
            return
        data = bytes(self._held)
        self._give_back()
        if len(data) < PREFIX_BYTES or prefix.unpack_from(data)[1] != len(data) - PREFIX_BYTES:
            self.end(Code.INTERNAL, "a call of this method has one message")
            return
        self._task = asyncio.Task(self._run(data), loop=self.connection.loop, name="call")

    def left(self) -> None:
        """The client has gone, or does not want it any more."""
        self.ended = True
        self._give_back()
        self._trailers = b""
        self.unsent.clear()
        self._wake()
        self.sent()
        if self._task is not None:
            self._task.cancel()

    def cut(self, code: Code = Code.UNAVAILABLE, details: str = "the server stops") -> None:
        """The server ends it."""
        self.unsent.clear()
        self.end(code, details)
        if self._task is not None:
            self._task.cancel()

    def sweep(self, now: float) -> None:
        most_s = self.connection.limits.body_s
        if self._refused is not None and now - self._begun > _REFUSED_S:
            self.end(*self._refused.args)
        elif (self._task is None or self._held) and now - self._begun > most_s:
            self.end(Code.DEADLINE_EXCEEDED, "the message was not sent completely in time")
        elif self._until is not None and time.monotonic() - self._until > _LATE_S:
            self.cut(Code.DEADLINE_EXCEEDED, "the call's time ran out")
        elif self._stalled_at and now - self._stalled_at > most_s:
            self.connection.transport.write(frames.reset(self.stream, frames.CANCEL))
            self.left()
            self.connection.over(self.stream)

    def _to_inbox(self, inbox: deque[bytes]) -> None:
        most = min(_STREAMED_BYTES, self.connection.limits.received_bytes)
        try:
            at = taken(self._held, inbox, _WAITING, most, self.metadata.get("grpc-encoding", "identity"))
        except Refused as refused:
            self.end(*refused.args)
            return
        if at:
            self._held = self._held[at:]
            self._keep(len(self._held) + sum(map(len, inbox)))
            self._wake()

    def _keep(self, size: int) -> None:
        self.connection.kept += size - self._kept
        self._kept = size

    def _give_back(self) -> None:
        self._keep(0)
        self._held = b""
        if self._inbox:
            self._inbox.clear()

    def _wake(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None and not wanted.done():
            wanted.set_result(None)

    # --- the handler -------------------------------------------------------------------------------------------------

    async def _run(self, data: bytes | None) -> None:
        """`data`: the only message, with its prefix; None: there may be several."""
        handler = self._handler
        try:
            request = self._messages() if data is None else self._read(self._message(data))
            if not handler.response_streaming:
                reply = await handler.call(request, self)
                self._reply(handler.response_serializer(reply))
                return
            if handler.writes:
                await handler.call(request, self)
            else:
                async for reply in handler.call(request, self):
                    await self.write(reply)
            self._finish(OK)
        except Ended:
            return
        except Refused as refused:
            self.end(*refused.args)
        except asyncio.CancelledError:
            self.end(Code.CANCELLED, "the call was cancelled")  # where its client has gone, nobody is told
            raise
        except Exception as error:  # noqa: BLE001 (the last line of defence, as grpc has it)
            _log.exception("unexpected fault", error=type(error).__name__)
            self.end(Code.UNKNOWN, "an unexpected fault of the gateway; its log has the details")

    async def _messages(self) -> AsyncIterator[Any]:
        inbox = self._inbox
        while inbox is not None:
            if inbox:
                message = inbox.popleft()
                self._keep(self._kept - len(message))
                yield self._read(message)
            elif self.ended:
                return
            else:
                self._wanted = self.connection.loop.create_future()
                await self._wanted

    def _message(self, data: bytes) -> bytes:
        """Unpacked only when its handler takes it: a few bytes of many calls at once would be much. Raises Refused."""
        encoding, most = self.metadata.get("grpc-encoding", "identity"), self.connection.limits.received_bytes
        return unpacked(data[PREFIX_BYTES:], encoding, most) if data[0] else data[PREFIX_BYTES:]

    def _read(self, message: bytes) -> Any:
        try:
            return self._handler.request_deserializer(message)
        except DecodeError:
            self.end(Code.INTERNAL, "the message is not of the kind that this method takes")
            raise Ended from None

    def time_remaining(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    async def abort(
        self, code: Code, details: str = "", trailing_metadata: Sequence[tuple[str, bytes]] = ()
    ) -> NoReturn:
        """End the call with this status. Raises what its handler must let through."""
        self.end(code, details, trailing_metadata)
        raise Ended

    async def write(self, message: Any) -> None:
        """One reply of a stream. Waits while the client takes none."""
        data = self._handler.response_serializer(message)
        if self._trailers is not None or self._too_large(data):
            raise Ended
        size = len(data) + PREFIX_BYTES
        connection = self.connection
        if not connection.paused and size <= self.window and size <= connection.window and size <= connection.max_frame:
            connection.window -= size
            connection.life.strikes = 0
            self.window -= size
            connection.transport.write(self._first() + self._data(data, size))
            return
        self._queue(data)
        if self.unsent:
            self._sent = connection.loop.create_future()
            await self._sent
            if self._trailers is not None:
                raise Ended

    # --- to the client -----------------------------------------------------------------------------------------------

    def _first(self) -> bytes:
        if self._replied:
            return b""
        self._replied = True
        return head(0, len(REPLY), frames.HEADERS, END_HEADERS, self.stream) + REPLY

    def _data(self, data: bytes, size: int) -> bytes:
        return head(size >> 16, size & 0xFFFF, frames.DATA, 0, self.stream) + prefix.pack(0, size - 5) + data

    def _too_large(self, data: bytes) -> bool:
        most = self.connection.limits.sent_bytes
        if len(data) > most:
            self.end(Code.RESOURCE_EXHAUSTED, f"the reply has {len(data)} bytes; at most {most} are sent")
            return True
        return False

    def _reply(self, data: bytes) -> None:
        """The only one, and the status."""
        if self._trailers is not None or self._too_large(data):
            return
        size, connection = len(data) + PREFIX_BYTES, self.connection
        if not connection.paused and size <= self.window and size <= connection.window and size <= connection.max_frame:
            connection.window -= size
            stream = self.stream
            connection.send(
                connection.transport,
                b"%b%b%b%b%b%b%b" % (
                    head(0, len(REPLY), frames.HEADERS, END_HEADERS, stream), REPLY,
                    head(size >> 16, size & 0xFFFF, frames.DATA, 0, stream), prefix.pack(0, size - 5), data,
                    head(0, len(OK), frames.HEADERS, END_HEADERS | END_STREAM, stream), OK,
                ),
            )  # fmt: skip
            self._trailers = OK
            connection.over(stream)
            return
        self._queue(data)
        self._finish(OK)

    def _queue(self, data: bytes) -> None:
        self.connection.transport.write(self._first())
        self.unsent.append(prefix.pack(0, len(data)) + data)
        connection = self.connection
        while self.unsent and not connection.paused and self.send_some():
            pass
        if self.unsent:
            self._stalled_at = connection.loop.time()
            connection.turns.add(self)

    def send_some(self) -> bool:
        """A frame of what waits; False where the client takes none."""
        connection = self.connection
        most = min(self.window, connection.window, connection.max_frame)
        if most <= 0 or not self.unsent:
            return False
        data = self.unsent.popleft()
        if len(data) > most:
            view = memoryview(data)  # not copied as often as it is cut
            self.unsent.appendleft(view[most:])
            data = view[:most]
        size = len(data)
        self.window -= size
        connection.window -= size
        connection.life.strikes = 0
        connection.transport.write(head(size >> 16, size & 0xFFFF, frames.DATA, 0, self.stream) + data)
        self._stalled_at = connection.loop.time() if self.unsent else 0.0
        return True

    def sent(self) -> None:
        """Nothing waits to be sent any more."""
        waiter, self._sent = self._sent, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self._trailers and not self.unsent:
            self._close(self._trailers)

    def end(self, code: Code, details: str, metadata: Sequence[tuple[str, bytes]] = ()) -> None:
        """With this status, unless it has one."""
        if self._trailers is not None:
            return
        self._finish(status(code, details, metadata))

    def _finish(self, trailers: bytes) -> None:
        if self._trailers is None:
            self._trailers = trailers
            if not self.unsent:
                self._close(trailers)

    def _close(self, block: bytes) -> None:
        """The last frame. A status without a reply begins as a reply does."""
        self._trailers = block
        if not self._replied:
            self._replied = True
            if block is not NOT_GRPC:
                block = REPLY + block
        written = frames.frame(frames.HEADERS, END_HEADERS | END_STREAM, self.stream, block)
        if not self.ended:
            written += frames.reset(self.stream, frames.NO_ERROR)  # what it still sends is not read
            self.ended = True
        self._give_back()
        self._wake()
        self.connection.transport.write(written)
        self.connection.over(self.stream)
