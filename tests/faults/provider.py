"""A provider that fails on purpose: every way we know a model provider to fail, by name, repeatable by seed.

Each fault is an `Answer` of tests/upstream.py: it sees the request and writes to the raw socket. `before` says whether
it always strikes before the first piece of an answer is out: then a fallback must answer as if nothing had happened.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from upstream import Answer, Seen, events, hang_up, pieces, recorded, silence, whole

FOLDER = Path(__file__).parents[1] / "fixtures"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
# The last events of each protocol, without which a stream is not complete.
END_MARKERS = {
    "openai": b"data: [DONE]",
    "responses": b"event: response.completed",
    "anthropic": b"event: message_stop",
    "gemini": b'"finishReason"',
}
STREAM_ERRORS = {
    "openai": b'data: {"error":{"message":"the model crashed","type":"server_error"}}\n\n',
    "responses": b'event: error\ndata: {"type":"error","code":"server_error","message":"the model crashed"}\n\n',
    "anthropic": b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n',
    "gemini": b'data: {"error":{"code":503,"message":"overloaded","status":"UNAVAILABLE"}}\n\n',
}
EMPTY_REPLIES = {
    "openai": b'{"id":"x","object":"chat.completion","choices":[]}',
    "responses": b'{"id":"x","object":"response","status":"completed","output":[]}',
    "anthropic": b'{"id":"x","type":"message","role":"assistant","content":[],"stop_reason":null}',
    "gemini": b'{"candidates":[]}',
}


@dataclass(frozen=True)
class Fault:
    """`answer(protocol, seed)`; None: there is no server at all (refused, DNS, TLS: the setup sees to it)."""

    name: str
    answer: Callable[[str, int], Answer] | None
    before: bool = True


def streamed(seen: Seen) -> bool:
    return bool(seen.json.get("stream")) or "streamGenerateContent" in seen.path


def stream_of(protocol: str) -> bytes:
    return (FOLDER / protocol / "stream.sse").read_bytes()


def embeds(seen: Seen) -> bool:
    return seen.path.endswith("/embeddings")


def reply_of(protocol: str, seen: Seen) -> bytes:
    return (FOLDER / protocol / ("embeddings_reply.json" if embeds(seen) else "reply.json")).read_bytes()


def split(protocol: str) -> tuple[bytes, bytes]:
    """A stream's first half, in whole events, and the rest."""
    events = pieces(stream_of(protocol))
    half = len(events) // 2
    return b"".join(events[:half]), b"".join(events[half:])


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN: what a crashed process or a load balancer does."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def raw(data: bytes, *, then: str = "close") -> Callable[[str, int], Answer]:
    """These bytes, whatever was asked."""

    def make(protocol: str, seed: int) -> Answer:
        async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            await writer.drain()
            if then == "hold":
                await asyncio.sleep(60)
            writer.close()

        return answer

    return make


def status(code: int, **headers: str) -> Callable[[str, int], Answer]:
    return lambda protocol, seed: whole(b'{"error":{"message":"not now","type":"x"}}', code, **headers)


def slow(seconds: float) -> Callable[[str, int], Answer]:
    def make(protocol: str, seed: int) -> Answer:
        async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(seconds)
            await recorded(protocol)(seen, writer)

        return answer

    return make


def stall(protocol: str, seed: int) -> Answer:
    """Half an answer, then nothing, on an open connection."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        body = reply_of(protocol, seen)
        if streamed(seen):
            writer.write(STREAM_HEAD + chunk(split(protocol)[0]))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
            writer.write(body[: len(body) // 2])
        await writer.drain()
        await asyncio.sleep(60)

    return answer


def cut(protocol: str, seed: int) -> Answer:
    """The connection ends at a random byte, properly closed or reset."""
    chance = random.Random(seed)

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if streamed(seen):
            body = stream_of(protocol)
            data = STREAM_HEAD + b"".join(map(chunk, pieces(body)))
            complete = data.rindex(END_MARKERS[protocol])
        else:
            body = reply_of(protocol, seen)
            data = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            complete = len(data)
        writer.write(data[: chance.randrange(complete)])
        await writer.drain()
        await asyncio.sleep(0.01)
        if chance.random() < 0.5:
            reset(writer)
        else:
            writer.close()

    return answer


def cut_before_end(protocol: str, seed: int) -> Answer:
    """All of the answer but its end marker, on a connection that ends as if all were well."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if streamed(seen):
            body = stream_of(protocol)
            # Chat completions that end with a finish_reason are complete without [DONE]: so that goes too.
            marker = b'finish_reason":"' if protocol == "openai" else END_MARKERS[protocol]
            whole_events = pieces(body)
            last = next(at for at, piece in enumerate(whole_events) if marker in piece)
            kept = b"".join(whole_events[:last])
            writer.write(STREAM_HEAD + chunk(kept) + b"0\r\n\r\n")
        else:
            body = reply_of(protocol, seen)[:-3]
            await whole(body)(seen, writer)
        await writer.drain()

    return answer


def error_inside(protocol: str, *, later: bool) -> Answer:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if not streamed(seen):
            await whole(b'{"error":{"message":"the model crashed"}}')(seen, writer)
            return
        first = split(protocol)[0] if later else b""
        await events(first + STREAM_ERRORS[protocol])(seen, writer)

    return answer


def malformed(protocol: str, seed: int) -> Answer:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if streamed(seen):
            await events(b'data: {"choices":[{"delta":{"content":"x"\n\n')(seen, writer)
        else:
            await whole(b'{"choices": [')(seen, writer)

    return answer


def empty(protocol: str, seed: int) -> Answer:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if streamed(seen):
            await events(b"data: [DONE]\n\n" if protocol == "openai" else b": nothing\n\n")(seen, writer)
        else:
            await whole(b'{"object":"list","data":[]}' if embeds(seen) else EMPTY_REPLIES[protocol])(seen, writer)

    return answer


def oversized(protocol: str, seed: int) -> Answer:
    """A reply of 33 MiB, a stream with one event of 9 MiB."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        block = b"x" * (1024 * 1024)
        if streamed(seen):
            writer.write(STREAM_HEAD + chunk(b'data: {"x":"'))
        else:
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (33 << 20)
            )
        for _ in range(9 if streamed(seen) else 33):
            writer.write(chunk(block) if streamed(seen) else block)
            await writer.drain()

    return answer


def broken_chunk(protocol: str, seed: int) -> Answer:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if streamed(seen):
            writer.write(STREAM_HEAD + chunk(split(protocol)[0]) + b"zz\r\nnot a chunk\r\n")
        else:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head + chunk(reply_of(protocol, seen)[:40]) + b"zz\r\nnot a chunk\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.close()

    return answer


def reset_at_once(protocol: str, seed: int) -> Answer:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    return answer


def endless_head(protocol: str, seed: int) -> Answer:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(100_000):
            writer.write(b"X-Header-%d: %s\r\n" % (number, b"x" * 100))
            await writer.drain()

    return answer


def plain(answer: Answer) -> Callable[[str, int], Answer]:
    return lambda protocol, seed: answer


_HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 22\r\n\r\n<html>Welcome!</html>\n"
_LONG = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"choices":[]}'

FAULTS = (
    Fault("refused", None),
    Fault("DNS failure", None),
    Fault("TLS failure", None),
    Fault("accepted, then silence", plain(silence)),
    Fault("accepted, then closed", plain(hang_up)),
    Fault("accepted, then reset", reset_at_once),
    Fault("slow first token", slow(2.0)),
    Fault("stall in the middle", stall, before=False),
    Fault("cut at a random byte", cut, before=False),
    Fault("cut before the end marker", cut_before_end, before=False),
    Fault("broken chunk in the middle", broken_chunk, before=False),
    Fault("429 with Retry-After", status(429, retry_after="1")),
    Fault("429 without Retry-After", status(429)),
    Fault("500", status(500)),
    Fault("502", status(502)),
    Fault("503", status(503)),
    Fault("529", status(529)),
    Fault("401", status(401)),
    Fault("redirect", status(302, location="/elsewhere")),
    Fault("malformed JSON", malformed),
    Fault("wrong content type", raw(_HTML)),
    Fault("wrong content length", raw(_LONG)),
    Fault("not HTTP at all", raw(b"SSH-2.0-OpenSSH_9.6\r\n")),
    Fault("head without end", endless_head),
    Fault("error inside a 200, at once", lambda protocol, seed: error_inside(protocol, later=False)),
    Fault("error inside a 200, later", lambda protocol, seed: error_inside(protocol, later=True), before=False),
    Fault("empty answer", empty),
    Fault("oversized answer", oversized),
)
