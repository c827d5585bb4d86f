"""One HTTP/1.1 connection to an upstream: sends a request, frames the reply. Decides nothing about providers.

It never retries, never reads a clock by itself and knows no URL: the pool in upstream.py opens it, sets its `deadline`
and closes it when that has passed. A reply is either collected whole (`read_all`), handed out as it comes
(`read_some`), or passed on in that very moment (`flow`), with the transport paused while the reader lags behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from model_gateway.cohort import Cohort
from model_gateway.domain.errors import (
    StreamBroken,
    UpstreamConnectError,
    UpstreamError,
    UpstreamProtocolError,
)
from model_gateway.wire.http1 import NAMES

HIGH_WATER_BYTES = 256 * 1024
MAX_REPLY_HEADER_BYTES = 64 * 1024


class _Parser(Protocol):
    def feed_data(self, data: bytes) -> None: ...
    def get_status_code(self) -> int: ...
    def should_keep_alive(self) -> bool: ...


class UpstreamConnection(asyncio.Protocol):
    """States: idle → busy (begin) → idle again (release by the pool) or closed."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_cohort",
        "_collect",
        "_complete",
        "_enough",
        "_head",
        "_header_bytes",
        "_lines",
        "_loop",
        "_max_reply_bytes",
        "_parser",
        "_paused",
        "_take",
        "_transport",
        "_waiter",
        "closed",
        "deadline",
        "error",
        "got_bytes",
        "idle_since",
        "idle_timeout_s",
        "keep_alive",
        "on_header",
        "started",
        "status",
        "total_deadline",
        "used",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, max_reply_bytes: int, cohort: Cohort) -> None:
        self._loop = loop
        self._max_reply_bytes = max_reply_bytes
        self._cohort = cohort
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self.closed = False
        self.used = False
        self.idle_since = 0.0
        self.deadline = 0.0
        self.total_deadline = 0.0
        self.idle_timeout_s = 0.0
        # The parser puts them there itself: a function of ours for each would take longer than all the rest of it.
        self._lines: dict[bytes, bytes] = {}
        self.on_header = self._lines.__setitem__
        # One parser for the connection's life: it starts anew after each complete reply, and no other is reused.
        self._parser = cast(_Parser, httptools.HttpResponseParser(self))
        self._reset()

    def _reset(self) -> None:
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._header_bytes = 0
        self._complete = False
        self._collect = False
        self._paused = False
        self._enough = False
        self._lines.clear()
        self._head: dict[bytes, bytes] = {}
        self.status = 0
        self.started = False
        self.got_bytes = False
        self.keep_alive = False
        self.error: UpstreamError | None = None

    # --- the pool's side -------------------------------------------------------------------------------------------

    def begin(self, head: bytes, body: bytes) -> None:
        """Send one request. The pool has set the deadlines."""
        if self.used:
            self._reset()
        self.used = True
        if self.closed or self._transport is None:
            self.error = UpstreamConnectError("the connection was closed before the request was sent")
            return
        if len(body) < 16_384:
            self._cohort.send(self._transport, head + body)
        else:
            self._transport.writelines((head, body))

    @property
    def reusable(self) -> bool:
        return self._complete and self.keep_alive and not self.closed and self.error is None

    def fail(self, error: UpstreamError) -> None:
        """End the exchange with `error` and drop the connection. The first error stays."""
        if self.error is None:
            self.error = error
        self.abort()
        self._wake()

    def abort(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    # --- the reader's side -----------------------------------------------------------------------------------------

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case names. Read anew each time: of most replies nobody asks for one."""
        return {
            NAMES.get(name) or name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in self._head.items()
        }

    def whole(self) -> bytes | None:
        """The whole body, if it is there: most replies come at once, and nobody need wait for their end."""
        if not self._complete or self.error is not None:
            return None
        return _joined(self._body)

    async def read_all(self) -> bytes:
        """The whole body, woken once at its end."""
        self._collect = True
        self._resume()
        self._check_size()
        while not self._complete:
            if self.error is not None:
                raise self.error
            await self.more()
        self._collect = False
        if self.error is not None:
            raise self.error
        return _joined(self._body)

    async def read_some(self) -> bytes:
        """What has arrived since the last call; b"" at the proper end. Raises StreamBroken when cut."""
        while not self._body:
            if self.error is not None:
                raise self.error
            if self._complete:
                return b""
            await self.more()
        data = self._taken()
        self._resume()
        return data

    async def flow(self, take: Callable[[bytes], bool]) -> bool:
        """Call `take` with whatever arrives, the moment it does, until it says False (then this is True) or the proper
        end (False). Raises as `read_some`, and what `take` raises.

        Nobody has to be woken for each piece: on a stream that is half of its price.
        """
        while True:
            if self._body:
                data = self._taken()
                self._resume()
                if not take(data):
                    return True
                continue
            if self.error is not None:
                raise self.error
            if self._complete:
                return False
            self._take = take
            try:
                await self.more()
            finally:
                self._take = None
            if self._enough:
                self._enough = False
                return True

    def _taken(self) -> bytes:
        data = _joined(self._body)
        self._body = []
        self._body_bytes = 0
        return data

    def _pass_on(self, take: Callable[[bytes], bool]) -> None:
        self._cohort.joined()
        data = self._taken()
        if self._paused:
            self._resume()
        try:
            if take(data):
                return
            self._enough = True
            self._wake()
        except Exception as error:  # noqa: BLE001 (it is the reader's, who waits in `flow`)
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error)
        self._take = None

    def _resume(self) -> None:
        if self._paused and self._transport is not None and not self.closed:
            self._paused = False
            self.deadline = min(self._loop.time() + self.idle_timeout_s, self.total_deadline)
            self._transport.resume_reading()

    def _check_size(self) -> None:
        if self._body_bytes > self._max_reply_bytes:
            self.fail(UpstreamProtocolError(f"the reply is larger than {self._max_reply_bytes} bytes"))

    def more(self) -> asyncio.Future[None]:
        """Done when something has come, or gone wrong. For one reader."""
        waiter = self._waiter = self._loop.create_future()
        return waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            if self._complete:
                self._cohort.joined()
            waiter.set_result(None)

    # --- the transport's side --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        del self._parser  # it knows this connection: both would wait for the garbage collector, with all they hold
        if self._complete or not self.used:
            return
        if self.error is None and self.started and exc is None and self._ends_with_connection():
            # The body's own end marker (JSON, [DONE]) must then tell a whole reply from a cut one.
            self._complete = True
            self.keep_alive = False
        if not self._complete and self.error is None:
            if self.started:
                self.error = StreamBroken("the provider closed the connection in the middle of its reply")
            else:
                self.error = UpstreamConnectError("the provider closed the connection without a reply")
        self._wake()

    def _ends_with_connection(self) -> bool:
        return "content-length" not in self.headers and "transfer-encoding" not in self.headers

    def data_received(self, data: bytes) -> None:
        self.got_bytes = True
        if self._complete or not self.used:
            self.abort()  # bytes nobody asked for: this connection's framing cannot be trusted
            return
        if not self.started:
            self._header_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail(UpstreamProtocolError("the provider switched protocols"))
        except httptools.HttpParserError as error:
            self.fail(UpstreamProtocolError(f"the provider's reply is not valid HTTP: {error}"))
        if self.started and self.idle_timeout_s and not (self._complete or self._paused):
            self.deadline = min(self._loop.time() + self.idle_timeout_s, self.total_deadline)
        if not self.started and self._header_bytes > MAX_REPLY_HEADER_BYTES:
            self.fail(UpstreamProtocolError(f"the reply's headers are larger than {MAX_REPLY_HEADER_BYTES} bytes"))
        if self._take is not None and self._body:
            self._pass_on(self._take)
            if not (self._complete or self.error is not None):
                return
        if self._waiter is not None and (self._complete or not self._collect or self.error is not None):
            self._wake()

    # --- the parser's side -----------------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._complete:
            self.keep_alive = False  # a second reply to one request: the first stands, the connection goes
            return
        if 100 <= status < 200:
            self._lines.clear()
            return
        self._head = self._lines.copy()  # a trailer changes nothing
        self.status = status
        self.started = True
        self.keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if self._complete:
            return
        self._body.append(data)
        self._body_bytes += len(data)
        if self._collect:
            self._check_size()
        elif self._body_bytes > HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self.deadline = self.total_deadline  # the silence is ours now: the reader lags behind
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.started:
            self._complete = True
            self.deadline = self.total_deadline  # there is nothing left to wait for


def _joined(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
