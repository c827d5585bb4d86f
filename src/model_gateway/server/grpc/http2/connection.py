"""One client of the gRPC door: frames in, calls begun, fed and ended, frames out (RFC 9113).

Decides what no call should have to: limits before buffering, whose turn it is to send, floods, pings, the connection's
age, an end in two steps that no call meets unawares. Knows no message and no status: calls.py does. Deadlines are
checked by the server's sweep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, cast

from model_gateway.cohort import Cohort
from model_gateway.server.grpc.http2 import frames
from model_gateway.server.grpc.http2.calls import Call
from model_gateway.server.grpc.http2.frames import frame
from model_gateway.server.grpc.http2.hpack import BadBlock, Decoder, Fields, TooLarge
from model_gateway.server.grpc.http2.life import Due, Life
from model_gateway.server.grpc.http2.limits import Broken, Limits
from model_gateway.server.grpc.http2.turns import Turns
from model_gateway.tls.identity import from_certificate

HIGH_WATER_BYTES: Final = 256 * 1024
STREAM_WINDOW: Final = 1024 * 1024
CONNECTION_WINDOW: Final = 4 * STREAM_WINDOW
MOST_CALLS: Final = 4096  # of one connection at once; clients wait with more
_CALLS_A_NUISANCE: Final = 64  # whose windows are changed in the time of a frame that has nothing to do
_LAST_PING: Final = b"goodbye!"
_ALIVE_PING: Final = b"thereyou"


class Connection(asyncio.Protocol):
    """`handlers` by path, as grpc's generated code makes them; `identity` as in `server.tls.client_identity`."""

    __slots__ = (
        "_cohort", "_connections", "_decoder", "_identity", "_newest", "_partial", "_paused_at", "_peer_window",
        "_rest", "_unreturned", "calls", "handlers", "identities", "kept", "life", "limits", "loop", "max_frame",
        "send", "stream_window", "transport", "turns", "window",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handlers: Mapping[str, Any],
        limits: Limits,
        connections: set[Connection],
        cohort: Cohort,
        identity: str = "none",
    ) -> None:
        self.loop, self.handlers, self.limits = loop, handlers, limits
        self._connections, self._cohort, self._identity = connections, cohort, identity
        self.send = cohort.send
        self.identities: tuple[str, ...] = ()  # what the client's certificate says it is
        self.calls: dict[int, Call] = {}
        self.transport = cast(asyncio.Transport, None)
        self.window = self.stream_window = frames.DEFAULT_WINDOW  # what the client takes
        self.max_frame = frames.FRAME_BYTES
        self.turns = Turns()
        self._decoder = Decoder(limits.header_bytes)
        self._rest = b""
        self._partial: tuple[int, int, bytes] | None = None  # flags, stream, the header block so far
        self._newest = 0
        self._peer_window = self._unreturned = 0
        self.kept = 0  # bytes of messages that are not complete
        self._paused_at = 0.0
        self.life = Life(limits, loop.time())

    # --- the transport's side ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._connections.add(self)
        if self._identity != "none":
            self.identities = from_certificate(transport.get_extra_info("peercert"), self._identity)
        self._peer_window = CONNECTION_WINDOW
        self.transport.write(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: MOST_CALLS,
                    frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                    frames.MAX_HEADER_LIST_SIZE: self.limits.header_bytes,
                }
            )
            + frames.window_update(0, self._peer_window - frames.DEFAULT_WINDOW)
        )

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's signature)
        self._connections.discard(self)
        self._forget()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # TLS still tells what had come before the end
        self._cohort.flush()  # a reply counts by the window that the client had granted before
        self.life.heard_at = self.loop.time()
        if self._rest:
            data = self._rest + data
        try:
            at = self._read(data)
        except Broken as broken:
            self._end(*broken.args)
            return
        self._rest = data[at:]

    def eof_received(self) -> bool:
        self._cohort.flush()
        return False  # nobody reads what is left to say: a client of gRPC's closes both ways

    def pause_writing(self) -> None:
        """The client reads too little: it is not read either, or its pings alone would fill our memory."""
        self._paused_at = self.loop.time()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused_at = 0.0
        self.life.answered()  # it has read; what it said meanwhile was not looked at
        self.transport.resume_reading()
        self.turns.send(self)

    # --- frames ------------------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> int:
        """Takes the frames that are whole; returns where the rest begins. Raises Broken."""
        at, end = 0, len(data)
        if not self.life.greeted:
            if end < len(frames.PREFACE):
                if not frames.PREFACE.startswith(data):
                    raise Broken(frames.PROTOCOL_ERROR, b"this port speaks gRPC: HTTP/2")
                return 0
            if not data.startswith(frames.PREFACE):
                raise Broken(frames.PROTOCOL_ERROR, b"this port speaks gRPC: HTTP/2")
            self.life.greeted, at = True, len(frames.PREFACE)
        while end - at >= frames.HEAD_BYTES:
            high, low, kind, flags, stream = frames.read_head(data, at)
            length = high << 8 | low
            stream &= frames.MAX_WINDOW  # the first bit means nothing
            if length > frames.FRAME_BYTES:
                raise Broken(frames.FRAME_SIZE_ERROR, b"a frame is larger than we allow")
            begin = at + frames.HEAD_BYTES
            if end - begin < length:
                break
            at = begin + length
            payload = data[begin:at]
            if self._partial is not None and kind != frames.CONTINUATION:
                raise Broken(frames.PROTOCOL_ERROR, b"a header block is not finished")
            if kind == frames.DATA:
                self._on_data(flags, stream, payload)
            elif kind == frames.HEADERS:
                self._on_headers(flags, stream, payload)
            else:
                self._on_other(kind, flags, stream, payload)
        return at

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if flags & (frames.PADDED | frames.WITH_PRIORITY):
            payload = frames.unpadded(payload, flags)
            if flags & frames.WITH_PRIORITY:
                if len(payload) < 5:
                    raise Broken(frames.FRAME_SIZE_ERROR, b"HEADERS is too short")
                payload = payload[5:]
        if not flags & frames.END_HEADERS:
            self._partial = (flags, stream, payload)
            return
        try:
            fields = self._decoder.decode(payload)
        except BadBlock as bad:
            raise Broken(frames.COMPRESSION_ERROR, str(bad).encode()) from None
        except TooLarge:
            fields = None
        self._on_fields(flags, stream, fields)

    def _on_fields(self, flags: int, stream: int, fields: Fields | None) -> None:
        call = self.calls.get(stream)
        if call is not None:  # trailers, which gRPC's clients do not send: they only end what is sent
            if call.ended or not flags & frames.END_STREAM:
                raise Broken(frames.PROTOCOL_ERROR, b"trailers must end the stream")
            call.finished()
            return
        if stream <= self._newest:
            self.life.nuisance()  # of a call that is over, or was refused
            return
        if not stream & 1:
            raise Broken(frames.PROTOCOL_ERROR, b"clients' streams are odd")
        if self.life.told_at:
            return  # told that it would not be answered: it is sent again elsewhere
        self._newest = stream
        if len(self.calls) >= MOST_CALLS:
            self.life.nuisance()
            self.transport.write(frames.reset(stream, frames.REFUSED_STREAM))
            return
        call = self.calls[stream] = Call(self, stream, self.stream_window)
        call.begin(fields)
        if flags & frames.END_STREAM and not call.ended:
            call.finished()

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._peer_window -= size
        if self._peer_window < 0:
            raise Broken(frames.FLOW_CONTROL_ERROR, b"more data than the window allows")
        # What is kept is bounded by its sum, not by the window: large messages that wait for one another end never.
        self._unreturned += size
        if self._unreturned >= CONNECTION_WINDOW // 2:
            self._peer_window += self._unreturned
            self.transport.write(frames.window_update(0, self._unreturned))
            self._unreturned = 0
        if flags & frames.PADDED:
            payload = frames.unpadded(payload, flags)
        call = self.calls.get(stream)
        if call is None or call.ended:
            self._check_known(stream)
            self.life.nuisance()
            return
        if not payload and not flags & frames.END_STREAM:
            self.life.nuisance()
        call.received(payload, size)
        if flags & frames.END_STREAM and not call.ended:
            self._cohort.joined()
            call.finished()

    def _on_other(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == frames.WINDOW_UPDATE:
            self._on_window(stream, payload)
        elif kind == frames.PING:
            self._on_ping(flags, payload)
        elif kind == frames.SETTINGS:
            self._on_settings(flags, payload)
        elif kind == frames.RST_STREAM:
            self.life.nuisance()
            self._check_known(stream)
            call = self.calls.pop(stream, None)
            if call is not None:
                self.turns.drop(stream)
                call.left()
                self._over()
        elif kind == frames.CONTINUATION:
            self._on_continuation(flags, stream, payload)
        elif kind == frames.PUSH_PROMISE:
            raise Broken(frames.PROTOCOL_ERROR, b"clients do not push")
        elif kind != frames.GOAWAY:
            self.life.nuisance()  # PRIORITY, and what later versions may have

    def _check_known(self, stream: int) -> None:
        """It was begun once; or it came after the goodbye, and was not looked at. Raises Broken."""
        if not stream or (stream > self._newest and not self.life.told_at):
            raise Broken(frames.PROTOCOL_ERROR, b"a frame of no stream")

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        self.life.nuisance()
        partial = self._partial
        if partial is None or partial[1] != stream:
            raise Broken(frames.PROTOCOL_ERROR, b"CONTINUATION of nothing")
        block = partial[2] + payload
        if len(block) > self.limits.header_bytes + frames.FRAME_BYTES:
            raise Broken(frames.ENHANCE_YOUR_CALM, b"the header block is too large")
        if flags & frames.END_HEADERS:
            self._partial = None
            self._on_headers((partial[0] & frames.END_STREAM) | frames.END_HEADERS, stream, block)
        else:
            self._partial = (partial[0], stream, block)

    def _on_ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise Broken(frames.FRAME_SIZE_ERROR, b"a ping has 8 bytes")
        if flags & frames.ACK:
            self.life.answered()
            if payload == _LAST_PING and self.life.left_at:
                self._say_last()
            return
        self.life.pinged()
        self.transport.write(frame(frames.PING, frames.ACK, 0, payload))

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            return
        self.life.nuisance()
        if len(payload) % frames.setting.size:
            raise Broken(frames.FRAME_SIZE_ERROR, b"SETTINGS is cut")
        window = self.stream_window
        for name, value in frames.setting.iter_unpack(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW:
                    raise Broken(frames.FLOW_CONTROL_ERROR, b"the window is too large")
                window = value
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.FRAME_BYTES <= value < 1 << 24:
                    raise Broken(frames.PROTOCOL_ERROR, b"the frame size is wrong")
                self.max_frame = value
        self.transport.write(frame(frames.SETTINGS, frames.ACK, 0))
        if window != self.stream_window:
            self._resize(window - self.stream_window)
            self.stream_window = window

    def _resize(self, more: int) -> None:
        """The windows of all calls. Raises Broken."""
        self.life.nuisance(len(self.calls) // _CALLS_A_NUISANCE)
        for call in self.calls.values():
            call.window += more
            if call.window > frames.MAX_WINDOW:
                raise Broken(frames.FLOW_CONTROL_ERROR, b"a stream's window is too large")
            self.turns.add(call)
        self.turns.send(self)

    def _on_window(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(frames.FRAME_SIZE_ERROR, b"WINDOW_UPDATE has 4 bytes")
        more = frames.number.unpack(payload)[0] & frames.MAX_WINDOW
        if not stream:
            self.window += more
            if not more or self.window > frames.MAX_WINDOW:
                raise Broken(frames.FLOW_CONTROL_ERROR, b"the window is too large, or grows by nothing")
            self.turns.send(self)
            return
        call = self.calls.get(stream)
        if call is None:
            self.life.nuisance()
            return
        call.window += more
        if not more or call.window > frames.MAX_WINDOW:
            raise Broken(frames.FLOW_CONTROL_ERROR, b"a stream's window is too large, or grows by nothing")
        self.turns.add(call)
        self.turns.send(self)

    # --- the calls' side ---------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """More than the client reads waits to be sent."""
        return self._paused_at > 0.0

    def over(self, stream: int) -> None:
        """The call has its status, or is forgotten."""
        self.calls.pop(stream, None)
        self.turns.drop(stream)
        self.life.useful()
        self._over()

    def _over(self) -> None:
        if self.life.told_at and not self.calls:
            self._close()

    # --- its end -----------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Ask the client to connect anew: those calls that are on their way are still answered."""
        if self.life.left_at or self.transport.is_closing():
            return
        self.life.left_at = self.loop.time()
        self._cohort.flush()
        goodbye = frames.goaway(frames.MAX_WINDOW, frames.NO_ERROR)
        self.transport.write(goodbye + frame(frames.PING, 0, 0, _LAST_PING))

    def _say_last(self) -> None:
        if not self.life.told_at:
            self.life.told(self.loop.time())
            self._cohort.flush()
            self.transport.write(frames.goaway(self._newest, frames.NO_ERROR))
            self._over()

    def _end(self, code: int, why: bytes) -> None:
        if self.life.greeted:
            self.transport.write(frames.goaway(self._newest, code, why))
        self._close()

    def _close(self) -> None:
        self._forget()
        self._cohort.flush()
        self.transport.close()

    def _forget(self) -> None:
        for call in tuple(self.calls.values()):
            call.left()
        self.calls.clear()
        self.turns.clear()

    def cut(self) -> None:
        """The server's patience is over: calls are told so, and their handlers end."""
        for call in tuple(self.calls.values()):
            call.cut()
        self._close()

    def sweep(self, now: float) -> None:
        """What time has brought about."""
        due = self.life.due(now, heard=not self._paused_at)
        if due is Due.ABORT or (self._paused_at and now - self._paused_at > self.limits.body_s):
            self.transport.abort()
            return
        if due is Due.CUT:
            self._end(frames.NO_ERROR, b"max_age")
            return
        if due is Due.PING:
            self.transport.write(frame(frames.PING, 0, 0, _ALIVE_PING))
        elif due is Due.GOODBYE:
            self.leave()
        elif due is Due.LAST_GOODBYE:
            self._say_last()
        for call in tuple(self.calls.values()):
            call.sweep(now)
