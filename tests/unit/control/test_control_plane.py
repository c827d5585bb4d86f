from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from model_gateway.config.errors import StartupError
from model_gateway.config.schema import ServerConfig
from model_gateway.control.app import ControlPlane
from model_gateway.control.health import Check, Configuration, Health, ProviderHealth

PLAIN = "text/plain; version=0.0.4; charset=utf-8"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(port: int, path: str, method: str = "GET") -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


class State:
    """What the composition root would report."""

    def __init__(self) -> None:
        self.health = Health(
            status="healthy",
            ready=True,
            version="1.2.3",
            uptime_s=4.5,
            configuration=Configuration(),
            checks={"ledger": Check(True)},
            providers={
                "tiny": ProviderHealth(status="online"),
                "big": ProviderHealth(status="offline", reason="configured offline"),
            },
        )


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def port(state: State) -> AsyncIterator[int]:
    async def render() -> tuple[bytes, str]:
        return b"a_total 1.0\n", PLAIN

    plane = ControlPlane(ServerConfig(control_port=0), lambda: state.health, render)
    yield await plane.start()
    await plane.stop()


async def test_health_says_everything(port: int) -> None:
    reply = await asyncio.to_thread(ask, port, "/health")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.json == {
        "status": "healthy",
        "ready": True,
        "version": "1.2.3",
        "uptime_s": 4.5,
        "configuration": {"generation": 1, "loaded_at": 0.0, "error": "", "refused": 0, "waiting": []},
        "checks": {"ledger": {"ok": True, "detail": ""}},
        "providers": {
            "tiny": {"status": "online", "reason": "", "in_flight": 0, "resting": []},
            "big": {"status": "offline", "reason": "configured offline", "in_flight": 0, "resting": []},
        },
        "workers": [],
    }


@pytest.mark.parametrize(
    ("status", "ready", "health_status", "ready_status"),
    [
        ("healthy", True, 200, 200),
        ("degraded", True, 200, 200),
        ("healthy", False, 200, 503),
        ("unhealthy", False, 503, 503),
    ],
)
async def test_statuses(
    state: State, port: int, status: Any, ready: bool, health_status: int, ready_status: int
) -> None:
    before = state.health
    state.health = Health(
        status=status,
        ready=ready,
        version=before.version,
        uptime_s=before.uptime_s,
        configuration=before.configuration,
        checks=before.checks,
        providers=before.providers,
    )
    for path, expected in (("/health", health_status), ("/health/ready", ready_status), ("/health/live", 200)):
        assert (await asyncio.to_thread(ask, port, path)).status == expected, path


async def test_metrics_are_passed_on(port: int) -> None:
    reply = await asyncio.to_thread(ask, port, "/metrics")
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, PLAIN, b"a_total 1.0\n")


async def test_disabled_metrics_say_so(state: State) -> None:
    plane = ControlPlane(ServerConfig(control_port=0), lambda: state.health, None)
    reply = await asyncio.to_thread(ask, await plane.start(), "/metrics")
    assert reply.status == 404
    assert b"monitoring.enabled" in reply.body
    await plane.stop()


async def test_the_index_names_every_path(port: int) -> None:
    index = (await asyncio.to_thread(ask, port, "/")).json
    for path in index["paths"]:
        assert (await asyncio.to_thread(ask, port, path)).status == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/health", 405)])
async def test_what_is_not_there(port: int, method: str, path: str, status: int) -> None:
    assert (await asyncio.to_thread(ask, port, path, method)).status == status


async def test_head_has_no_body(port: int) -> None:
    reply = await asyncio.to_thread(ask, port, "/health", "HEAD")
    assert (reply.status, reply.body) == (200, b"")


async def test_a_taken_port_is_refused(state: State) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        plane = ControlPlane(ServerConfig(control_port=port), lambda: state.health, None)
        with pytest.raises(StartupError) as caught:
            await plane.start()
        await plane.stop()
    assert caught.value.message == f"the control plane port {port} on 127.0.0.1 is already in use"
    assert "CONTROL_PORT" in caught.value.remedy


async def test_a_foreign_address_is_refused(state: State) -> None:
    plane = ControlPlane(ServerConfig(control_host="192.0.2.1", control_port=0), lambda: state.health, None)
    with pytest.raises(StartupError, match=r"192\.0\.2\.1"):
        await plane.start()


async def test_signals_are_left_alone_and_the_port_is_free_afterwards(state: State) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    plane = ControlPlane(ServerConfig(control_port=0), lambda: state.health, None)
    port = await plane.start()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    await plane.stop()
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_an_idle_client_does_not_hold_up_the_stop(state: State) -> None:
    plane = ControlPlane(ServerConfig(control_port=0), lambda: state.health, None)
    port = await plane.start()
    with socket.create_connection(("127.0.0.1", port)):
        await asyncio.sleep(0.05)
        async with asyncio.timeout(4):
            await plane.stop()
