"""What a client of the gRPC door can make it keep, and make it compute, that pays little for it."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import pytest
from grpc_reflection.v1alpha import reflection_pb2
from structlog.testing import capture_logs

from model_gateway.config.schema import GrpcOptions
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.server.grpc.http2 import frames
from model_gateway.server.grpc.http2.calls import Ended
from model_gateway.server.grpc.http2.connection import MOST_CALLS
from model_gateway.server.grpc.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    number,
    setting,
)
from raw_http2 import MESSAGE, PATH, Raw, block, client, query, served
from scripted_gateway import ScriptedGateway
from upstream import until

MB = 1024 * 1024
REFLECTION = b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
ASKED = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
TOO_MUCH = b"8"


def message(data: bytes, packed: bool = False) -> bytes:
    return bytes((packed,)) + len(data).to_bytes(4, "big") + data


def window(size: int) -> bytes:
    return frame(SETTINGS, 0, 0, setting.pack(INITIAL_WINDOW_SIZE, size))


async def a_stream_whose_replies_are_not_taken(raw: Raw, *more: tuple[bytes, bytes]) -> None:
    raw.send(frame(HEADERS, END_HEADERS, 1, block(REFLECTION, *more)), frame(DATA, 0, 1, message(ASKED)))
    await raw.until(HEADERS)  # its first reply waits for a window


@pytest.fixture
def kept() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("kept")
async def test_messages_that_wait_for_their_handler_are_bounded_unpacked_too() -> None:
    bomb = message(gzip.compress(bytes(8 * MB)), packed=True)
    async with served() as port, client(port, {INITIAL_WINDOW_SIZE: 0}) as raw:
        await a_stream_whose_replies_are_not_taken(raw, (b"grpc-encoding", b"gzip"))
        tracemalloc.reset_peak()
        raw.send(*[frame(DATA, 0, 1, bomb) for _ in range(5)], window(65_535))
        assert (await raw.status()).encode() == TOO_MUCH
        assert tracemalloc.get_traced_memory()[1] < 2 * MB


@pytest.mark.usefixtures("kept")
async def test_many_packed_messages_at_once_are_unpacked_one_by_one() -> None:
    packed = message(gzip.compress(bytes(8 * MB)), packed=True)  # no message of the method's
    calls = [
        frame(HEADERS, END_HEADERS, n, block(PATH, (b"grpc-encoding", b"gzip"))) + frame(DATA, END_STREAM, n, packed)
        for n in range(1, 41, 2)
    ]
    async with served() as port, client(port) as raw:
        tracemalloc.reset_peak()
        raw.send(*calls)
        assert [await raw.status() for _ in calls] == ["8"] * len(calls)
        assert tracemalloc.get_traced_memory()[1] < 3 * MB


async def test_messages_that_wait_on_many_streams_count_together() -> None:
    large = message(bytes(60_000))
    streams = range(1, 2 * 400, 2)
    async with served() as port, client(port, {INITIAL_WINDOW_SIZE: 0}) as raw:
        statuses = asyncio.create_task(raw.status())
        for n in streams:  # 240 MB in all
            raw.send(frame(HEADERS, END_HEADERS, n, block(REFLECTION)), frame(DATA, 0, n, message(ASKED)))
            for _ in range(10):
                raw.send(*[frame(DATA, 0, n, large[at : at + 16_000]) for at in range(0, len(large), 16_000)])
            await asyncio.sleep(0.001)
            if statuses.done():
                break
        async with asyncio.timeout(5):
            assert (await statuses).encode() == TOO_MUCH


@pytest.mark.usefixtures("kept")
async def test_a_call_that_has_its_status_keeps_nothing_of_what_follows() -> None:
    async with served() as port, client(port, {INITIAL_WINDOW_SIZE: 0}) as raw:
        await a_stream_whose_replies_are_not_taken(raw)
        raw.send(frame(DATA, 0, 1, message(ASKED) * 100))  # more than may wait: it is refused
        await asyncio.sleep(0.05)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(100):
            raw.send(*[frame(DATA, 0, 1, bytes(16_000))] * 5)
            await asyncio.sleep(0.001)
        raw.send(query(3), window(65_535))
        assert {await raw.status(), await raw.status()} == {"0", "8"}
        assert tracemalloc.get_traced_memory()[1] - before < 2 * MB


@pytest.mark.usefixtures("kept")
async def test_a_message_in_pieces_of_a_byte_takes_little_more_than_its_bytes() -> None:
    async with served() as port, client(port) as raw:
        raw.send(frame(HEADERS, END_HEADERS, 1, block()))
        for _ in range(20):
            raw.send(frame(DATA, 0, 1, b"ab") * 1_000)
            await asyncio.sleep(0)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            raw.send(frame(DATA, 0, 1, b"ab") * 1_000)
            await asyncio.sleep(0.001)
        raw.send(query(3))
        assert await raw.status() == "0"
        assert tracemalloc.get_traced_memory()[0] - before < MB


@pytest.mark.usefixtures("kept")
async def test_metadata_of_many_tiny_fields_is_refused() -> None:
    fields = [(b"%d" % n, b"") for n in range(800)]
    async with served() as port, client(port) as raw:
        raw.send(*[frame(HEADERS, END_HEADERS, n, block(PATH, *fields)) for n in range(1, 400, 2)])
        raw.send(frame(DATA, END_STREAM, 1, MESSAGE))
        assert (await raw.status()).encode() == TOO_MUCH
        assert tracemalloc.get_traced_memory()[0] < 8 * MB


async def answered(raw: Raw, calls: int, path: bytes = PATH) -> None:
    """So many calls whose replies wait for a window."""
    for first in range(1, 2 * calls, 200):
        raw.send(*[query(n, path) for n in range(first, min(first + 200, 2 * calls), 2)])
        await asyncio.sleep(0)


async def spent(raw: Raw, gateway: ScriptedGateway, sent: bytes) -> float:
    """Seconds of the event loop's until the door has taken all this."""
    loop = asyncio.get_running_loop()
    asked = len(gateway.requests)
    begun = loop.time()
    raw.send(sent, query(99_999))
    await until(lambda: len(gateway.requests) > asked)
    return loop.time() - begun


async def test_a_byte_of_window_does_not_look_at_every_call_that_waits() -> None:
    gateway = ScriptedGateway()
    async with served(gateway) as port, client(port, {INITIAL_WINDOW_SIZE: 0}) as raw:
        await answered(raw, MOST_CALLS - 10)
        await until(lambda: len(gateway.requests) == MOST_CALLS - 10)
        updates = frame(WINDOW_UPDATE, 0, 0, number.pack(1)) + frame(WINDOW_UPDATE, 0, 1, number.pack(1))
        assert await spent(raw, gateway, updates * 1_000) < 0.5


async def test_windows_of_many_calls_are_not_changed_again_and_again() -> None:
    async with served() as port, client(port) as raw:
        raw.send(*[frame(HEADERS, END_HEADERS, n, block()) for n in range(1, 2 * MOST_CALLS, 2)])
        raw.send(window(1) + window(2))
        raw.send((window(1) + window(2)) * 50)
        with suppress(ConnectionResetError):
            assert await raw.code() == frames.ENHANCE_YOUR_CALM


async def test_only_the_last_of_one_frames_windows_counts() -> None:
    async with served() as port, client(port, {INITIAL_WINDOW_SIZE: 0}) as raw:
        raw.send(query())
        await raw.until(HEADERS)
        sizes = b"".join([setting.pack(INITIAL_WINDOW_SIZE, size) for size in (2**31 - 1, 0, 5)])
        raw.send(frame(SETTINGS, 0, 0, sizes))
        assert len((await raw.until(DATA))[3]) == 5


async def test_windows_that_fell_below_nothing_must_come_back_above_it() -> None:
    async with served() as port, client(port, {INITIAL_WINDOW_SIZE: 10}) as raw:
        raw.send(query())
        assert len((await raw.until(DATA))[3]) == 10
        raw.send(window(0))  # 10 bytes below nothing now
        raw.send(frame(WINDOW_UPDATE, 0, 1, number.pack(10)), frame(WINDOW_UPDATE, 0, 1, number.pack(3)))
        assert len((await raw.until(DATA))[3]) == 3
        raw.send(window(65_535))
        assert await raw.status() == "0"


async def test_calls_that_wait_for_the_connections_window_are_served_in_turn() -> None:
    gateway = ScriptedGateway()
    gateway.script = [["x" * 40_000]]
    async with served(gateway) as port, client(port, {INITIAL_WINDOW_SIZE: 2**20}) as raw:
        raw.send(*[query(n, PATH + b"Stream") for n in (1, 3, 5, 7)])
        taken = 0
        while taken < frames.DEFAULT_WINDOW:
            taken += len((await raw.until(DATA))[3])
        order: list[int] = []
        for _ in range(6):
            raw.send(frame(WINDOW_UPDATE, 0, 0, number.pack(100)))
            order.append((await raw.until(DATA))[2])
        assert order[:3] == order[3:]
        assert len(set(order)) == 3


async def test_what_resets_take_of_the_connections_window_is_given_back() -> None:
    gateway = ScriptedGateway()
    async with served(gateway) as port, client(port) as raw:
        piece = frame(DATA, 0, 1, bytes(16_000))
        for n in range(1, 200, 2):  # 48 MB, of calls that never end
            raw.send(frame(HEADERS, END_HEADERS, n, block()))
            raw.send(*[piece[:5] + number.pack(n) + piece[9:]] * 30, frame(RST_STREAM, 0, n, bytes(4)))
            await asyncio.sleep(0.002)
        raw.send(query(201))
        assert await raw.status() == "0"


async def test_the_first_bit_of_a_streams_number_means_nothing() -> None:
    async with served() as port, client(port) as raw:
        raw.send(query(2**31 + 1), query(3))
        streams: set[int] = set()
        while len(streams) < 2:
            _, flags, stream, _ = await raw.until(HEADERS)
            if flags & END_STREAM:
                streams.add(stream)
        assert streams == {1, 3}


async def test_a_large_reply_is_not_copied_for_every_byte_that_is_taken() -> None:
    gateway = ScriptedGateway()
    gateway.script = [["x" * 9_000_000]]
    async with served(gateway) as port, client(port, {INITIAL_WINDOW_SIZE: 1}) as raw:
        raw.send(query(1, PATH + b"Stream"))
        await raw.until(DATA)
        raw.send(frame(WINDOW_UPDATE, 0, 1, number.pack(1)) * 1_000)
        got = b"".join([(await raw.until(DATA))[3] for _ in range(1_000)])
        assert got.endswith(b"xxx")
        raw.send(frame(WINDOW_UPDATE, 0, 0, number.pack(2**30)), window(2**30))
        while len(got) < 9_000_000:
            got += (await raw.until(DATA))[3]
        assert pb.ModelResponseChunk.FromString(got[4 : 4 + int.from_bytes(got[:4], "big")]).delta == "x" * 9_000_000


async def test_who_reads_slowly_is_not_taken_for_dead() -> None:
    """What it answers to a ping is not read while it does not read."""
    gateway, size = ScriptedGateway(), 9_000_000
    gateway.script = [["x" * size]]
    options = GrpcOptions(keepalive_time=100, keepalive_timeout=200)
    async with served(gateway, options) as port, client(port, {INITIAL_WINDOW_SIZE: 2**30}) as raw:
        raw.send(frame(WINDOW_UPDATE, 0, 0, number.pack(2**30)), query(1, PATH + b"Stream"))
        await raw.until(HEADERS)
        await asyncio.sleep(1)
        assert await raw.status() == "0"


async def test_a_chunk_too_large_to_be_sent_ends_the_call_and_is_no_fault_of_ours() -> None:
    gateway = ScriptedGateway()
    gateway.script = [["x" * 2_000]]
    async with served(gateway, GrpcOptions(max_send_message_length=1_000)) as port, client(port) as raw:
        with capture_logs() as logs:
            raw.send(query(1, PATH + b"Stream"))
            assert (await raw.status()).encode() == TOO_MUCH
            await until(lambda: bool(gateway.closed))
        assert logs == []
        assert isinstance(gateway.streams[0].abandoned, Ended)


async def test_who_greets_byte_by_byte_is_closed_in_time() -> None:
    async with served(header_timeout=300) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        closed = asyncio.ensure_future(reader.read())
        for byte in frames.PREFACE:
            writer.write(bytes((byte,)))
            await asyncio.wait([closed], timeout=0.1)
            if closed.done():
                break
        assert closed.done()
        with suppress(ConnectionError):
            await closed
        writer.close()


async def test_a_streams_message_that_does_not_come_whole_ends_in_time() -> None:
    async with served(body_timeout=500) as port, client(port) as raw:
        raw.send(frame(HEADERS, END_HEADERS, 1, block(REFLECTION)))
        await asyncio.sleep(0.8)  # a stream may be silent between two messages
        raw.send(frame(DATA, 0, 1, message(ASKED)))
        await raw.until(DATA)
        await asyncio.sleep(0.8)
        raw.send(frame(DATA, 0, 1, message(ASKED)[:3]))
        await asyncio.sleep(0.3)
        raw.send(frame(DATA, 0, 1, message(ASKED)[3:]))
        await raw.until(DATA)
        raw.send(frame(DATA, 0, 1, message(ASKED)[:3]))
        assert await raw.status() == "4"
