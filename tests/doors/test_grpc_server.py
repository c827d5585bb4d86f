from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import Any

import grpc
import psutil
import pytest
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from model_gateway.config.errors import StartupError
from model_gateway.config.schema import GrpcOptions, ServerConfig
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from model_gateway.server.grpc.server import GrpcServer
from model_gateway.server.grpc.services import SERVICE
from scripted_gateway import ScriptedGateway
from upstream import until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SETTINGS, PING, GOAWAY = 4, 6, 7  # HTTP/2 frames


def server_of(gateway: ScriptedGateway, config: ServerConfig | None = None) -> GrpcServer:
    return GrpcServer(gateway, config or ServerConfig(port=0))  # pyright: ignore[reportArgumentType]


def channel_to(port: int) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}")


async def test_a_second_gateway_on_the_port_is_refused() -> None:
    first = server_of(ScriptedGateway())
    port = await first.start()
    with pytest.raises(StartupError) as caught:
        await server_of(ScriptedGateway(), ServerConfig(port=port)).start()
    assert str(port) in caught.value.message
    assert "already in use" in caught.value.message
    assert "PORT" in caught.value.remedy
    await first.stop(0)


async def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(StartupError, match=r"192\.0\.2\.1"):
        await server_of(ScriptedGateway(), ServerConfig(host="192.0.2.1", port=0)).start()


async def test_health_of_the_server_and_of_the_service() -> None:
    server = server_of(ScriptedGateway())
    async with channel_to(await server.start()) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        await server.stop(0)


async def services_by_reflection(port: int) -> list[str]:
    async with channel_to(port) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # pyright: ignore[reportArgumentType]
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        return [service.name async for reply in call for service in reply.list_services_response.service]


async def test_reflection_lists_the_services() -> None:
    server = server_of(ScriptedGateway())
    names = await services_by_reflection(await server.start())
    assert {SERVICE, "grpc.health.v1.Health"} <= set(names)
    await server.stop(0)


async def test_reflection_can_be_switched_off() -> None:
    server = server_of(ScriptedGateway(), ServerConfig(port=0, grpc=GrpcOptions(reflection=False)))
    port = await server.start()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await services_by_reflection(port)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await server.stop(0)


async def test_messages_are_limited() -> None:
    options = GrpcOptions(max_receive_message_length=1000)
    gateway = ScriptedGateway()
    server = server_of(gateway, ServerConfig(port=0, grpc=options))
    async with channel_to(await server.start()) as channel:
        stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ProcessQuery(pb.ModelRequest(query="x" * 1001))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert gateway.requests == []
    await server.stop(0)


async def test_a_call_in_flight_survives_the_stop() -> None:
    gateway = ScriptedGateway()
    gateway.gate = asyncio.Event()
    server = server_of(gateway)
    async with channel_to(await server.start()) as channel:
        stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        call = asyncio.ensure_future(stub.ProcessQuery(pb.ModelRequest(query="why?")))
        await until(lambda: bool(gateway.requests))
        stopping = asyncio.create_task(server.stop(5))
        await asyncio.sleep(0.05)
        assert not stopping.done()
        gateway.gate.set()
        assert (await call).response == "an answer"
        async with asyncio.timeout(2):
            await stopping


async def test_a_call_that_outlasts_the_grace_is_cancelled() -> None:
    gateway = ScriptedGateway()
    gateway.gate = asyncio.Event()
    server = server_of(gateway)
    async with channel_to(await server.start()) as channel:
        stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        call = asyncio.ensure_future(stub.ProcessQuery(pb.ModelRequest(query="why?")))
        await until(lambda: bool(gateway.requests))
        await server.stop(0.05)
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    await until(lambda: bool(gateway.closed))
    assert isinstance(gateway.closed[0][1], asyncio.CancelledError)


async def test_a_watcher_hears_of_the_stop_and_does_not_hold_it_up() -> None:
    server = server_of(ScriptedGateway())
    async with channel_to(await server.start()) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == SERVING
        begun = time.monotonic()
        await server.stop(30)
        assert time.monotonic() - begun < 5
        assert (await watch.read()).status == NOT_SERVING


async def frames_after_pings(port: int, count: int, pace_s: float) -> list[int]:
    """The kinds of HTTP/2 frames an idle client gets for its pings."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS))
    for number in range(count):
        await asyncio.sleep(pace_s)
        writer.write(frame(PING, number.to_bytes(8, "big")))
    kinds: list[int] = []
    with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        async with asyncio.timeout(0.2):
            while True:
                head = await reader.readexactly(9)
                kinds.append(head[3])
                await reader.readexactly(int.from_bytes(head[:3], "big"))
    writer.close()
    return kinds


def frame(kind: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, 0)) + bytes(4) + payload


@pytest.mark.parametrize(("pace_s", "cut_off"), [(0.12, False), (0.001, True)])
async def test_idle_clients_may_ping_as_often_as_the_gateway_does(pace_s: float, cut_off: bool) -> None:
    """By default grpc lets a client ping every five minutes, the guide's clients do so every ten seconds."""
    server = server_of(ScriptedGateway(), ServerConfig(port=0, grpc=GrpcOptions(keepalive_time=200)))
    kinds = await frames_after_pings(await server.start(), 6, pace_s)
    assert kinds.count(PING) >= 3
    assert (GOAWAY in kinds) is cut_off
    await server.stop(0)


def peers(port: int) -> set[int]:
    """The clients' ends of this process's connections."""
    ends = psutil.Process().net_connections("tcp")
    return {end.raddr.port for end in ends if end.laddr.port == port and end.raddr and end.status == "ESTABLISHED"}


async def test_a_connection_of_its_age_is_given_up_and_no_call_with_it() -> None:
    """So that a client that asks a headless Service's name finds pods that were added."""
    server = server_of(ScriptedGateway(), ServerConfig(port=0, grpc=GrpcOptions(max_connection_age=300)))
    port, seen = await server.start(), set[int]()
    async with channel_to(port) as channel:
        stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        until_s = time.monotonic() + 2
        while time.monotonic() < until_s:
            assert (await stub.ProcessQuery(pb.ModelRequest(query="why?"))).response == "an answer"
            seen |= peers(port)
    assert len(seen) >= 3
    await server.stop(0)


@pytest.mark.parametrize(("grace", "ended"), [(0, True), (200, False)])
async def test_a_call_may_outlast_its_connections_age(grace: int, ended: bool) -> None:
    gateway = ScriptedGateway()
    gateway.gate = asyncio.Event()
    options = GrpcOptions(max_connection_age=200, max_connection_age_grace=grace)
    server = server_of(gateway, ServerConfig(port=0, grpc=options))
    async with channel_to(await server.start()) as channel:
        stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        call = asyncio.ensure_future(stub.ProcessQuery(pb.ModelRequest(query="why?")))
        await asyncio.wait([call], timeout=1)
        assert call.done() is not ended
        gateway.gate.set()
        await asyncio.wait([call])
        assert (call.exception() is None) is ended
    await server.stop(0)


@pytest.mark.skipif(sys.platform != "linux", reason="processes share the port on Linux only")
async def test_who_leaves_may_be_hurried() -> None:
    server, hurry = server_of(ScriptedGateway()), asyncio.Event()
    async with channel_to(await server.start(0)) as channel:
        stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        await stub.ProcessQuery(pb.ModelRequest(query="why?"))
        leaving = asyncio.create_task(server.leave(hurry))
        await asyncio.sleep(0.2)
        assert not leaving.done()
        hurry.set()
        async with asyncio.timeout(1):
            await leaving
        await server.stop(0)


def test_it_runs_on_uvloop() -> None:
    async def ask() -> str:
        server = server_of(ScriptedGateway())
        async with channel_to(await server.start()) as channel:
            stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
            reply = await stub.ProcessQuery(pb.ModelRequest(query="why?"))
        await server.stop(1)
        return reply.response

    assert uvloop.run(ask()) == "an answer"
