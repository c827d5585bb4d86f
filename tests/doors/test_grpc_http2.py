"""HTTP/2 at the gRPC door, frame by frame: what no client of gRPC's sends, and what some do."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest

from model_gateway.config.schema import GrpcOptions, ServerConfig
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from model_gateway.server.grpc.http2 import frames
from model_gateway.server.grpc.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    frame,
    number,
    setting,
)
from model_gateway.server.grpc.http2.hpack import Decoder, literal
from model_gateway.server.grpc.server import GrpcServer
from raw_http2 import MESSAGE, PATH, QUERY, block, client, query, served
from scripted_gateway import ScriptedGateway
from upstream import until


async def test_a_call_may_be_cut_into_frames_in_every_way() -> None:
    whole = block()
    padded = bytes((3,)) + bytes(5) + whole[:10] + bytes(3)
    async with served() as port, client(port) as raw:
        raw.send(
            frame(HEADERS, PADDED | WITH_PRIORITY, 1, padded),
            frame(CONTINUATION, 0, 1, whole[10:20]),
            frame(CONTINUATION, END_HEADERS, 1, whole[20:]),
            frame(PRIORITY, 0, 1, bytes(5)),
            frame(DATA, PADDED, 1, bytes((2,)) + MESSAGE[:3] + bytes(2)),
            frame(99, 0, 1, b"of a later version"),
            frame(DATA, 0, 1, MESSAGE[3:]),
            frame(DATA, END_STREAM, 1),
        )
        assert await raw.status() == "0"


async def test_bytes_may_come_one_by_one() -> None:
    async with served() as port, client(port) as raw:
        for byte in query():
            raw.send(bytes((byte,)))
            await asyncio.sleep(0)
        assert await raw.status() == "0"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(DATA, END_STREAM, 1, MESSAGE), frames.PROTOCOL_ERROR),
        (query(2), frames.PROTOCOL_ERROR),
        (frame(CONTINUATION, END_HEADERS, 1, block()), frames.PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, block()) + frame(PING, 0, 0, bytes(8)), frames.PROTOCOL_ERROR),
        (frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, END_HEADERS, 3, block()), frames.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09abc"), frames.PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), frames.COMPRESSION_ERROR),
        (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + block()), frames.PROTOCOL_ERROR),
        (frame(RST_STREAM, 0, 7, bytes(4)), frames.PROTOCOL_ERROR),
        (frame(PING, 0, 0, bytes(7)), frames.FRAME_SIZE_ERROR),
        (frame(SETTINGS, 0, 0, bytes(5)), frames.FRAME_SIZE_ERROR),
        (frame(SETTINGS, 0, 0, setting.pack(frames.INITIAL_WINDOW_SIZE, 2**31)), frames.FLOW_CONTROL_ERROR),
        (frame(SETTINGS, 0, 0, setting.pack(frames.MAX_FRAME_SIZE, 1)), frames.PROTOCOL_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, number.pack(2**31 - 1)), frames.FLOW_CONTROL_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, number.pack(0)), frames.FLOW_CONTROL_ERROR),
        (frame(DATA, 0, 1, bytes(frames.FRAME_BYTES + 1)), frames.FRAME_SIZE_ERROR),
    ],
)
async def test_what_is_not_http2_ends_the_connection_and_says_why(sent: bytes, code: int) -> None:
    async with served() as port, client(port) as raw:
        raw.send(sent)
        assert await raw.code() == code


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"PRI * HTTP/2.0\r\nX"],
)
async def test_who_speaks_something_else_is_closed(sent: bytes) -> None:
    async with served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                await reader.read()
        writer.close()


async def test_who_says_nothing_is_closed_in_time() -> None:
    async with served(header_timeout=200) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(2):
            with suppress(ConnectionError):
                await reader.read()
        writer.close()


def resets(count: int) -> bytes:
    calls = range(1, 2 * count, 2)
    return b"".join([frame(HEADERS, END_HEADERS, n, block()) + frame(RST_STREAM, 0, n, number.pack(8)) for n in calls])


FLOODS: dict[str, Callable[[int], bytes]] = {
    "calls that are taken back": resets,
    "settings": lambda count: frame(SETTINGS, 0, 0) * count,
    "priorities": lambda count: frame(PRIORITY, 0, 1, bytes(5)) * count,
    "empty data": lambda count: frame(HEADERS, END_HEADERS, 1, block()) + frame(DATA, 0, 1) * count,
    "a header without end": lambda count: frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, 0, 1, b"") * count,
    "a large header": lambda count: frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, bytes(16_000)) * (count // 100),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_floods_end_the_connection(kind: str) -> None:
    gateway = ScriptedGateway()
    async with served(gateway) as port, client(port) as raw:
        raw.send(FLOODS[kind](20_000))
        with suppress(ConnectionResetError):  # what comes after the goodbye is not read: the kernel may say so first
            assert await raw.code() == frames.ENHANCE_YOUR_CALM
    await until(lambda: len(gateway.closed) == len(gateway.requests))


async def test_a_client_takes_a_reply_in_its_own_pieces() -> None:
    async with served() as port, client(port, {frames.INITIAL_WINDOW_SIZE: 10}) as raw:
        raw.send(query())
        got = b""
        while True:
            kind, flags, _, payload = await raw.until(DATA, HEADERS)
            if kind == DATA:
                assert len(payload) <= 10
                got += payload
                raw.send(frame(WINDOW_UPDATE, 0, 1, number.pack(10)))
            elif flags & END_STREAM:
                break
        assert pb.ModelResponse.FromString(got[5:]).response == "an answer"


async def test_a_client_that_takes_nothing_of_a_stream_is_cut_off() -> None:
    gateway = ScriptedGateway()
    gateway.script = [["some words"] for _ in range(50)]
    async with served(gateway, body_timeout=300) as port, client(port, {frames.INITIAL_WINDOW_SIZE: 20}) as raw:
        raw.send(query(path=PATH + b"Stream"))
        _, _, stream, payload = await raw.until(RST_STREAM)
        assert (stream, int.from_bytes(payload, "big")) == (1, frames.CANCEL)
        await until(lambda: bool(gateway.closed))
        assert isinstance(gateway.streams[0].abandoned, asyncio.CancelledError)
        raw.send(query(3))
        raw.send(frame(SETTINGS, 0, 0, setting.pack(frames.INITIAL_WINDOW_SIZE, 65_535)))
        assert await raw.status() == "0"


async def test_a_stream_that_is_not_taken_holds_no_other_call_up() -> None:
    gateway = ScriptedGateway()
    gateway.script = [["some words"] for _ in range(50)]
    async with served(gateway) as port, client(port, {frames.INITIAL_WINDOW_SIZE: 200}) as raw:
        raw.send(query(1, PATH + b"Stream"))
        await until(lambda: bool(gateway.streams))
        raw.send(*[frame(WINDOW_UPDATE, 0, 0, number.pack(1_000))], query(3))
        while True:
            _, flags, stream, _ = await raw.until(HEADERS)
            if flags & END_STREAM:
                break
        assert stream == 3


async def test_a_client_that_reads_nothing_does_not_hold_up_the_stop() -> None:
    gateway = ScriptedGateway()
    gateway.script = [["x" * 1_000_000] for _ in range(50)]
    door = GrpcServer(gateway, ServerConfig(port=0))  # pyright: ignore[reportArgumentType]
    port = await door.start()
    async with client(port, {frames.INITIAL_WINDOW_SIZE: 2**31 - 1}) as raw:
        raw.send(frame(WINDOW_UPDATE, 0, 0, number.pack(2**30)), query(1, PATH + b"Stream"))
        await until(lambda: bool(gateway.streams))
        async with asyncio.timeout(5):
            await door.stop(0.2)
        assert isinstance(gateway.streams[0].abandoned, asyncio.CancelledError)


async def test_a_message_that_does_not_come_whole_ends_in_time() -> None:
    gateway = ScriptedGateway()
    async with served(gateway, body_timeout=200) as port, client(port) as raw:
        raw.send(frame(HEADERS, END_HEADERS, 1, block()), frame(DATA, 0, 1, MESSAGE[:4]))
        assert await raw.status() == str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
        raw.send(query(3))
        assert await raw.status() == "0"
    assert len(gateway.requests) == 1


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"", 13),
        (MESSAGE + MESSAGE, 13),
        (MESSAGE[:-1], 13),
        (b"\1" + MESSAGE[1:], 12),
        (b"\0\0\0\0\3\xff\xff\xff", 13),
    ],
    ids=["none", "two", "cut", "packed, and not said how", "no protobuf"],
)
async def test_a_call_has_one_whole_message(message: bytes, status: int) -> None:
    async with served() as port, client(port) as raw:
        raw.send(frame(HEADERS, END_HEADERS, 1, block()), frame(DATA, END_STREAM, 1, message))
        assert await raw.status() == str(status)


async def test_packed_messages_are_unpacked_within_limits() -> None:
    gateway = ScriptedGateway()
    async with served(gateway, GrpcOptions(max_receive_message_length=10_000)) as port:
        for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", compression=compression) as channel:
                stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
                assert (await stub.ProcessQuery(pb.ModelRequest(query="why? " * 500))).response == "an answer"
        assert [request.query() for request in gateway.requests] == ["why? " * 500] * 2
        async with client(port) as raw:
            for stream, packed in ((1, gzip.compress(bytes(100_000))), (3, b"no gzip"), (5, gzip.compress(QUERY)[:-4])):
                message = b"\1" + len(packed).to_bytes(4, "big") + packed
                raw.send(
                    frame(HEADERS, END_HEADERS, stream, block(PATH, (b"grpc-encoding", b"gzip"))),
                    frame(DATA, END_STREAM, stream, message),
                )
                assert await raw.status() == ("8" if stream == 1 else "13")
    assert len(gateway.requests) == 2


async def test_a_goodbye_has_two_steps() -> None:
    gateway = ScriptedGateway()
    gateway.gate = asyncio.Event()
    door = GrpcServer(gateway, ServerConfig(port=0))  # pyright: ignore[reportArgumentType]
    port = await door.start()
    async with client(port) as raw:
        raw.send(query(1))
        await until(lambda: len(gateway.requests) == 1)
        stopping = asyncio.create_task(door.stop(5))
        _, _, _, first = await raw.until(GOAWAY)
        assert int.from_bytes(first[:4], "big") == 2**31 - 1
        _, _, _, ping = await raw.until(PING)
        raw.send(query(3), frame(PING, ACK, 0, ping), query(5))  # the second was on its way, the third comes too late
        _, _, _, last = await raw.until(GOAWAY)
        assert int.from_bytes(last[:4], "big") == 3
        gateway.gate.set()
        assert [await raw.status(), await raw.status()] == ["0", "0"]
        await stopping
    assert len(gateway.requests) == 2


async def test_a_silent_connection_is_pinged_and_then_given_up() -> None:
    async with served(options=GrpcOptions(keepalive_time=200, keepalive_timeout=300)) as port, client(port) as raw:
        _, _, _, ping = await raw.until(PING)
        raw.send(frame(PING, ACK, 0, ping))
        await raw.until(PING)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await raw.until(PING)


async def test_large_messages_come_whole_both_ways_and_many_at_once() -> None:
    gateway = ScriptedGateway()
    gateway.script = [["x" * 3_000_000]]
    options = [("grpc.max_receive_message_length", 20_000_000), ("grpc.max_send_message_length", 20_000_000)]
    async with served(gateway) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        large = pb.ModelRequest(query="why? " * 1_500_000)
        assert {reply.response for reply in await asyncio.gather(*[stub.ProcessQuery(large) for _ in range(8)])} == {
            "an answer"
        }

        async def streamed() -> int:
            return sum([len(chunk.delta) async for chunk in stub.ProcessQueryStream(pb.ModelRequest(query="why?"))])

        assert await asyncio.gather(*[streamed() for _ in range(8)]) == [3_000_000] * 8
        small = pb.ModelRequest(query="why?")
        assert len(await asyncio.gather(*[stub.ProcessQuery(small) for _ in range(3_000)])) == 3_000


async def test_metadata_beyond_the_limit_is_refused_and_the_next_call_is_not() -> None:
    async with served(max_header_size=2_000) as port, client(port) as raw:
        raw.send(
            frame(HEADERS, END_HEADERS, 1, block(PATH, (b"x-large", b"x" * 3_000))), frame(DATA, END_STREAM, 1, MESSAGE)
        )
        assert await raw.status() == "8"
        raw.send(query(3))
        assert await raw.status() == "0"


async def test_what_is_no_grpc_is_told_so() -> None:
    async with served() as port, client(port) as raw:
        fields = ((b":method", b"GET"), (b":path", b"/"), (b"accept", b"text/html"))
        raw.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"".join([literal(*field) for field in fields])))
        _, flags, _, payload = await raw.until(HEADERS)
        assert Decoder(1_000).decode(payload) == {":status": "415"}
        assert flags & END_STREAM


async def test_a_call_that_only_waits_ends_with_its_deadline_though_its_client_says_nothing() -> None:
    watch = block(b"/grpc.health.v1.Health/Watch", (b"grpc-timeout", b"100m"))
    async with served() as port, client(port) as raw:
        begun = asyncio.get_running_loop().time()
        raw.send(frame(HEADERS, END_HEADERS, 1, watch), frame(DATA, END_STREAM, 1, bytes(5)))
        assert await raw.status() == str(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
        assert 0.5 < asyncio.get_running_loop().time() - begun < 3
        raw.send(query(3))  # the connection goes on
        assert await raw.status() == "0"


async def test_replies_to_calls_that_came_together_are_sent_before_the_connection_ends() -> None:
    calls = range(1, 61, 2)
    gateway = ScriptedGateway()
    door = GrpcServer(gateway, ServerConfig(port=0))  # pyright: ignore[reportArgumentType]
    port = await door.start()
    async with client(port) as raw:
        raw.send(*[query(stream) for stream in calls])
        await until(lambda: len(gateway.requests) > 0)
        stopping = asyncio.create_task(door.stop(2))
        assert [await raw.status() for _ in calls] == ["0"] * len(calls)
        await stopping
