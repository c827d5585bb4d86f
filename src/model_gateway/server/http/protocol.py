"""HTTP/1.1 for the data plane: one asyncio.Protocol per client connection, parsed by llhttp (httptools).

Decides what no handler should have to: limits before buffering, deadlines for slow senders, one request at a time per
connection (pipelined ones wait their turn), back-pressure, cancelling a handler whose client has gone. Never knows
what a path means. Deadlines are checked by the server's sweep (server.py), to within a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import httptools

from model_gateway.cohort import Cohort
from model_gateway.domain.errors import GatewayError, InvalidRequest
from model_gateway.server.http.heads import STATUS_LINES, KnownHead, known_head
from model_gateway.server.http.request import Limits, Parser, Request
from model_gateway.wire.http1 import NAMES

MAX_PIPELINED = 32
MOST_STRANGE = 4  # heads in a row, each unlike the one before it: then none is remembered on this connection
HIGH_WATER_BYTES = 64 * 1024

_HOP_BY_HOP = frozenset(("upgrade", "connection", "http2-settings"))
_METHODS = {name.encode(): name for name in ("POST", "GET", "HEAD")}


Handler = Callable[[Request, "HttpConnection"], Awaitable[None]]
Refusal = Callable[[GatewayError, int], bytes]


class HttpConnection(asyncio.Protocol):
    """One client. A handler answers with `respond`, or with `start_stream`, `write`…, `end_stream`."""

    __slots__ = (
        "_between",
        "_body",
        "_body_bytes",
        "_chunked",
        "_cohort",
        "_connections",
        "_drain_waiter",
        "_header_bytes",
        "_in_headers",
        "_known",
        "_limits",
        "_linger_s",
        "_loop",
        "_parser",
        "_queue",
        "_reading_paused",
        "_refusal",
        "_request",
        "_send",
        "_started",
        "_strange",
        "_task",
        "_told_last",
        "_url",
        "_write_paused",
        "closing",
        "deadline",
        "handler",
        "identities",
        "transport",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        refusal: Refusal,
        limits: Limits,
        connections: set[HttpConnection],
        cohort: Cohort,
    ) -> None:
        self._loop = loop
        self.handler = handler  # replaced by a reload, between two requests
        self._refusal = refusal
        self._limits = limits
        self._connections = connections
        self._cohort, self._send = cohort, cohort.send
        self._queue: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._drain_waiter: asyncio.Future[None] | None = None
        self._request = Request()
        self._url = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._header_bytes = 0
        self._in_headers = True
        self._between = True  # the parser has not begun with another request
        self._known: KnownHead | None = None
        self._strange = 0
        self._reading_paused = False
        self._write_paused = False
        self._started = False
        self._chunked = True
        self._linger_s = 0.0  # more than that once the server drains
        self._told_last = False
        self.closing = False
        self.deadline = 0.0
        self.identities: tuple[str, ...] = ()
        self.transport = cast(asyncio.Transport, None)
        self._parser = cast(Parser, httptools.HttpRequestParser(self))

    # --- the handler's side ----------------------------------------------------------------------------------------

    def respond(self, status: int, headers: bytes, body: bytes, request: Request) -> None:
        """A whole reply. `headers` are finished lines, each ended by CR LF."""
        self._started = True
        keep = b"" if request.keep_alive and not self._last() else b"Connection: close\r\n"
        head = b"%s%s%sContent-Length: %d\r\n\r\n" % (STATUS_LINES[status], headers, keep, len(body))
        self._send(self.transport, head if request.method == "HEAD" else head + body)

    def start_stream(self, headers: bytes, request: Request) -> None:
        """Begin a 200 of unknown length."""
        self._started = True
        self._chunked = request.chunked
        if not request.chunked:
            request.keep_alive = False
        keep = b"" if request.keep_alive and not self._last() else b"Connection: close\r\n"
        framing = b"Transfer-Encoding: chunked\r\n" if request.chunked else b""
        self._send(self.transport, b"%s%s%s%s\r\n" % (STATUS_LINES[200], headers, keep, framing))

    def _last(self) -> bool:
        """Is the reply that begins the last one here? Not while others wait behind it."""
        self._told_last = self.closing or (self._linger_s > 0 and not self._queue)
        return self._told_last

    def write(self, data: bytes) -> None:
        """A piece of the body. Nothing is written for nothing: an empty chunk would end the body."""
        if data:
            self._send(self.transport, b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    def end_stream(self) -> None:
        if self._chunked:
            self._send(self.transport, b"0\r\n\r\n")

    async def drain(self) -> None:
        """Wait until the client has taken enough of what was written; one that does not read in time is cut off."""
        if self._write_paused and not self.transport.is_closing():
            waiter = self._drain_waiter = self._loop.create_future()
            self.deadline = self._loop.time() + self._limits.body_s
            await waiter
            self.deadline = 0.0

    @property
    def write_paused(self) -> bool:
        return self._write_paused

    @property
    def started(self) -> bool:
        """True once the status line of the current reply was written."""
        return self._started

    # --- the server's side -----------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return self._task is not None

    def expire(self) -> None:
        """The deadline has passed: an idle connection closes, a slow sender is told why, a slow reader is cut off."""
        self._cohort.flush()  # a loop that was busy for so long has not come to it
        if self.closing or self.busy:
            self.transport.abort()
        elif self._in_headers and not self._header_bytes:
            self.transport.close()
        else:
            self._refuse(408, InvalidRequest("the request was not sent completely in time"))

    def end_soon(self, linger_s: float) -> None:
        """Drain: the next reply is the last and says so; without a further request it ends in `linger_s` seconds.

        Closed at once, it could cross a request on its way, and whoever sent that would see a broken connection.
        """
        self._linger_s = linger_s
        if not self.busy and not self.closing and self._in_headers and not self._header_bytes:
            self.deadline = self._loop.time() + linger_s

    # --- the transport's side --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._connections.add(self)
        self.deadline = self._loop.time() + self._limits.header_s

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._connections.discard(self)
        del self._parser  # it knows this connection: both would wait for the garbage collector, with all they hold
        self.closing = True
        self._queue.clear()
        self._wake_writer()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self.closing and not self.busy:
            return
        if self._cohort.unsent:
            self._cohort.flush()  # a reply to this client may be among it
        between, request = self._between, self._request
        if between and self._known is not None and not self.closing:
            body = self._known.body_of(data)
            if body is not None and len(body) <= self._limits.body_bytes:
                self._strange = 0
                known = self._known
                self._arrived(Request(known.method, known.target, known.headers, self.identities, body))
                return
        head = self._in_headers
        began = head and not self._header_bytes
        if head:
            self._header_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[cast(int, upgrade.args[0]) :])
        except httptools.HttpParserError as error:
            if not self.closing:
                self._refuse(400, InvalidRequest(f"the request is not valid HTTP: {error}"))
            return
        if between and self._between and self._request is not request and self._strange < MOST_STRANGE:
            self._remember(data, request)
        if not self._in_headers:
            if head and not self.busy and not self.closing:
                self.deadline = self._loop.time() + self._limits.body_s
        elif self._header_bytes > self._limits.header_bytes:
            self._refuse(431, InvalidRequest(f"the headers are larger than {self._limits.header_bytes} bytes"))
        elif began and not self.busy and not self.closing:
            self.deadline = self._loop.time() + self._limits.header_s

    def eof_received(self) -> None:
        """Whoever says nothing more may still read."""
        self._cohort.flush()

    def _remember(self, data: bytes, request: Request) -> None:
        """`data` was all of this request, or it and others."""
        self._strange += 1
        if request.chunked and not self.closing:
            self._known = known_head(data, request.method, request.target, request.headers, request.body)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Some clients offer h2c with every request. llhttp stops at the offer, before the body: the same request is
        parsed again without it, and answering in HTTP/1.1 declines."""
        request, self._request = self._request, Request()
        if request.method == "CONNECT":
            self._refuse(405, InvalidRequest("this is no proxy: CONNECT is not served"))
            return
        self._parser = cast(Parser, httptools.HttpRequestParser(self))
        self._url = b""
        self._header_bytes = 0
        self._in_headers = self._between = True
        version = "1.1" if request.chunked else "1.0"
        lines = [f"{name}: {value}" for name, value in request.headers.items() if name not in _HOP_BY_HOP]
        head = "\r\n".join([f"{request.method} {request.target} HTTP/{version}", *lines, "", ""])
        self.data_received(head.encode("latin-1") + rest)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake_writer()

    def _wake_writer(self) -> None:
        waiter = self._drain_waiter
        self._drain_waiter = None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # --- the parser's side -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._between = False

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_headers:
            known = NAMES.get(name) or name.decode("latin-1").lower()
            self._request.headers[known] = value.decode("latin-1")
        else:
            # Trailers come after the caller was judged by the headers: they are counted and not believed.
            self._body_bytes += len(name) + len(value)
            if self._body_bytes > self._limits.body_bytes:
                self._refuse(413, InvalidRequest(f"the body is larger than {self._limits.body_bytes} bytes"))

    def on_headers_complete(self) -> None:
        request = self._request
        parser, headers = self._parser, request.headers
        method = parser.get_method()
        request.method = _METHODS.get(method) or method.decode("latin-1")
        request.target = self._url.decode("latin-1")
        request.keep_alive = parser.should_keep_alive()
        if "connection" in headers or not request.keep_alive:  # 1.0 has to ask for what 1.1 does unasked
            request.chunked = parser.get_http_version() != "1.0"
        request.identities = self.identities
        self._in_headers = False
        length = headers.get("content-length")
        if length is not None and int(length) > self._limits.body_bytes:
            self._refuse(413, InvalidRequest(f"the body is larger than {self._limits.body_bytes} bytes"))
            return
        has_body = length != "0" if length else "transfer-encoding" in headers
        if "expect" in headers and has_body and headers["expect"].lower() == "100-continue" and not self.busy:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.body_bytes:
            self._refuse(413, InvalidRequest(f"the body is larger than {self._limits.body_bytes} bytes"))
        elif not self.closing:
            self._body.append(data)

    def on_message_complete(self) -> None:
        self._between = True
        if self.closing or self._parser.should_upgrade():
            return
        request = self._request
        if not request.keep_alive:
            self._known, self._strange = None, MOST_STRANGE  # the last one: nothing behind it is believed
        body = self._body
        request.body = body[0] if len(body) == 1 else b"".join(body)
        self._request = Request()
        self._url = b""
        self._body = []
        self._body_bytes = 0
        self._header_bytes = 0
        self._in_headers = True
        self._arrived(request)

    # --- one request at a time -------------------------------------------------------------------------------------

    def _arrived(self, request: Request) -> None:
        if self._task is None:
            self._begin(request)
            return
        self._queue.append(request)
        full = len(self._queue) >= MAX_PIPELINED or len(request.body) > HIGH_WATER_BYTES
        if full and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def _begin(self, request: Request) -> None:
        self.deadline = 0.0
        self._started = False
        self._cohort.joined()
        # Not by the loop's create_task, which makes up a name for each.
        self._task = asyncio.Task(self._run(request), loop=self._loop, name="request")

    async def _run(self, request: Request) -> None:
        try:
            await self.handler(request, self)
        except asyncio.CancelledError:
            # The client has gone, or the server stops: nobody is left to answer.
            self._task = None
            self.transport.abort()
            raise
        except BaseException:
            self._task = None
            self.transport.abort()
            raise
        self._task = None
        if self.transport.is_closing():
            return
        if not request.keep_alive or self.closing or self._told_last:
            self.closing = True
            self._cohort.flush()
            self.transport.close()
        elif self._queue:
            following = self._queue.popleft()
            if self._reading_paused and len(self._queue) < MAX_PIPELINED // 2:
                self._reading_paused = False
                self.transport.resume_reading()
            self._begin(following)
        else:
            started = self._header_bytes or not self._in_headers
            idle_s = self._linger_s or self._limits.idle_s
            self.deadline = self._loop.time() + (self._limits.body_s if started else idle_s)

    def _refuse(self, status: int, error: GatewayError) -> None:
        """Answer a request that never became one, and close: what follows on this connection cannot be trusted."""
        if self.closing:
            return
        self.closing = True
        self._queue.clear()
        if self.busy:
            # An earlier request is being answered: its reply must not be mixed with a refusal.
            self.transport.pause_reading()
            return
        body = self._refusal(error, status)
        head = b"%sContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % (STATUS_LINES[status], len(body)) + body)
        self.deadline = self._loop.time() + self._limits.body_s
        self.transport.close()
