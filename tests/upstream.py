"""A real local HTTP server that answers like a model provider from fixtures, and misbehaves on request."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FIXTURES = Path(__file__).parent / "fixtures"


@dataclass
class Seen:
    """One request as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


_EVENT_END = re.compile(rb"(?<=\n\n)|(?<=\r\n\r\n)")
Answer = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait for a condition that another task brings about; fails after `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 (what is waited for happens in code that knows nothing of tests)
            await asyncio.sleep(0.005)


def fixture(name: str, protocol: str = "openai") -> bytes:
    return (FIXTURES / protocol / name).read_bytes()


def pieces(stream: bytes) -> list[bytes]:
    """The events of a stream, each with the empty line that ends it."""
    return [piece for piece in _EVENT_END.split(stream) if piece]


def whole(body: bytes, status: int = 200, content_type: str = "application/json", **headers: str) -> Answer:
    """A reply with a length."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


def events(body: bytes, *, pace_s: float = 0.0, cut_at: int | None = None, stall_s: float = 0.0) -> Answer:
    """A chunked event stream, one event at a time. `cut_at`: bytes after which the connection is closed."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        for piece in pieces(body):
            if cut_at is not None and sent + len(piece) > cut_at:
                piece = piece[: cut_at - sent]
            if piece:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
            sent += len(piece)
            if cut_at is not None and sent >= cut_at:
                await asyncio.sleep(stall_s)
                writer.close()
                return
            await asyncio.sleep(pace_s)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return answer


async def silence(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Accepts the request and never answers."""
    await asyncio.sleep(60)


async def hang_up(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.close()


def chat(seen: Seen, writer: asyncio.StreamWriter) -> Awaitable[None]:
    """The usual provider: the recorded reply or the recorded stream, as asked."""
    if seen.json.get("stream"):
        return events(fixture("stream.sse"))(seen, writer)
    return whole(fixture("reply.json"))(seen, writer)


def recorded(protocol: str) -> Answer:
    """A provider of `protocol`: whole or streamed, with tool calls or by a schema, as the request asks."""

    def read(name: str) -> bytes:
        return fixture(name, protocol)

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        body = seen.json
        streamed = bool(body.get("stream")) or "streamGenerateContent" in seen.path
        if seen.path.endswith("/embeddings"):
            await whole(read("embeddings_reply.json"))(seen, writer)
            return
        schema = b'"schema"' in seen.body or b"Schema" in seen.body
        if body.get("tools"):
            ready = events(read("tools_stream.sse")) if streamed else whole(read("tools_reply.json"))
        elif streamed:
            ready = events(read("stream.sse"))
        else:
            ready = whole(read("schema_reply.json" if schema else "reply.json"))
        await ready(seen, writer)

    return answer


@dataclass
class FixtureUpstream:
    """`async with FixtureUpstream(answer) as upstream:`; `seen` holds what was asked, `hung_up` counts callers that
    left before the answer's end, `busy` the requests being answered."""

    answer: Answer = chat
    seen: list[Seen] = field(default_factory=list[Seen])
    hung_up: int = 0
    connections: int = 0
    busy: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.strip().split("\r\n")
                method, path, _ = first.split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                seen = Seen(method, path, headers, body)
                self.seen.append(seen)
                self.busy += 1
                task = asyncio.ensure_future(self.answer(seen, writer))
                gone = asyncio.ensure_future(reader.read(1))
                await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
                self.busy -= 1
                if not task.done():
                    self.hung_up += 1
                    task.cancel()
                    await asyncio.gather(gone, return_exceptions=True)
                    return
                gone.cancel()
                await task
                await asyncio.gather(gone, return_exceptions=True)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
