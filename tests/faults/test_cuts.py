"""A streamed answer cut at any byte is never shown as complete, at any door, from a provider of any protocol.

Each cut is seeded: its door, its provider's protocol, its offset, how the body is framed and how the connection ends.
CUTS in the environment says how many; 10,000 take about half a minute.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import msgspec

from faults.provider import END_MARKERS, chunk, reset, stream_of
from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import BreakerConfig, CacheConfig
from model_gateway.domain.record import Record
from model_gateway.pb import gateway_pb2, gateway_pb2_grpc
from upstream import FixtureUpstream, Seen, pieces

CUTS = int(os.environ.get("CUTS", "10000"))
WORKERS = 16
PROTOCOLS = ("openai", "responses", "anthropic", "gemini")
GEMINI = "/v1beta/models"
GRPC = "gRPC"
DOORS = {
    "/v1/chat/completions": b"[DONE]",
    "/v1/responses": b"response.completed",
    "/v1/messages": b"message_stop",
    GEMINI: b"finishReason",
    GRPC: b"result",
}
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TO_THE_END = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Cut:
    door: str
    protocol: str
    data: bytes
    resets: bool


def cut(seed: int) -> Cut:
    chance = random.Random(seed)
    protocol = chance.choice(PROTOCOLS)
    body = stream_of(protocol)
    if chance.random() < 0.5:
        data = CHUNKED + b"".join(map(chunk, pieces(body)))
        # Gemini's has no end marker: its end is that of the body, which these bytes lack altogether.
        complete = len(data) + 1 if protocol == "gemini" else data.rindex(END_MARKERS[protocol])
    else:
        # Framed by nothing but the connection's end: a cut looks like a proper end of the body.
        data = TO_THE_END + body
        # Where chat completions are not told apart from cut ones by [DONE], the finish_reason does it.
        marker = b'"finish_reason":"' if protocol == "openai" else END_MARKERS[protocol]
        complete = data.index(marker)
    return Cut(chance.choice(tuple(DOORS)), protocol, data[: chance.randrange(complete)], chance.random() < 0.5)


async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """The body names its seed: the provider and the test know the same cut."""
    named = re.search(rb"cut (\d+)", seen.body)
    assert named is not None
    planned = cut(int(named[1]))
    writer.write(planned.data)
    await writer.drain()
    if planned.resets:
        await asyncio.sleep(0)
        reset(writer)
    else:
        writer.close()


async def ask(port: int, planned: Cut, seed: int) -> bytes:
    """All that the gateway sends, as bytes."""
    question = f"cut {seed}"
    model = f"{planned.protocol}/fixture-model"
    body: dict[str, object] = {"model": model, "stream": True, "max_tokens": 50}
    path = planned.door
    if path == "/v1/responses":
        body = {"model": model, "stream": True, "input": question}
    elif path == GEMINI:
        path = f"{path}/{model}:streamGenerateContent?alt=sse"
        body = {"contents": [{"parts": [{"text": question}]}]}
    else:
        body["messages"] = [{"role": "user", "content": question}]
    data = msgspec.json.encode(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCache-Control: no-store\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(data) + data)
    try:
        return await reader.read(-1)
    finally:
        writer.close()


async def ask_grpc(stub: gateway_pb2_grpc.ModelGatewayServiceStub, planned: Cut, seed: int) -> tuple[bool, bool, bool]:
    """Whether anything came, whether it was said to be whole, whether an error was."""
    # The contract has no field for a model: another provider may be asked first, and is cut as well.
    metadata = {"preferredProvider": planned.protocol, "maxTokens": "50"}
    shown = whole = failed = False
    try:
        async for piece in stub.ProcessQueryStream(
            gateway_pb2.ModelRequest(query=f"cut {seed}", metadata=metadata), timeout=15
        ):
            shown = True
            whole = whole or piece.HasField("result")
    except grpc.aio.AioRpcError as error:
        failed = error.code() is grpc.StatusCode.UNAVAILABLE
    return shown, whole, failed


async def test_no_cut_is_shown_as_complete(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(FixtureUpstream(answer))
        providers = {
            protocol: fixture_provider(upstream.url, kind=protocol, breaker=BreakerConfig(enabled=False))
            for protocol in PROTOCOLS
        }
        app = await stack.enter_async_context(App(config_for(tmp_path, providers, cache=CacheConfig(enabled=False))))
        statuses: Counter[str] = Counter()

        def count(record: Record) -> None:
            statuses[record.status] += 1

        app.gateway.observers[:] = [count]
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}"))
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        seeds = iter(range(CUTS))
        wrong: list[str] = []
        shown = 0

        async def worker() -> None:
            nonlocal shown
            for seed in seeds:
                planned = cut(seed)
                if planned.door == GRPC:
                    began, complete, failed = await ask_grpc(stub, planned, seed)
                    if complete or not failed:
                        wrong.append(f"{seed}: complete {complete}, failed {failed}: {planned}")
                    shown += began
                    continue
                seen = await ask(app.http_port, planned, seed)
                if DOORS[planned.door] in seen:
                    wrong.append(f"{seed}: shown as complete: {planned} {seen[-300:]!r}")
                elif b'"error":{' not in seen or not seen.endswith((b"0\r\n\r\n", b"}")):
                    wrong.append(f"{seed}: no error said: {planned} {seen[-300:]!r}")
                shown += seen.startswith(b"HTTP/1.1 200")

        await asyncio.gather(*(worker() for _ in range(WORKERS)))
        assert wrong[:5] == []
        assert statuses["ok"] == 0 and sum(statuses.values()) == CUTS
        assert shown > CUTS / 3, "many must break after their first piece was out"
        assert all(state.load.in_flight == 0 for state in app.gateway.states)
