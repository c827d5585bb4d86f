"""The doors and the control plane over TLS: real certificates, real clients, real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anthropic
import grpc
import httpx
import openai
import pytest

from certificates import Authority
from gateway import QUESTION
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from tls.gateways import BODY, start
from upstream import until


async def raw(port: int, data: bytes) -> bytes:
    """What comes back for bytes that are no TLS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_every_client_speaks_to_its_door(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    app = await start(stack, tmp_path, authority)
    url = f"https://127.0.0.1:{app.http_port}"
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    messages: Any = BODY["messages"]

    http = openai.DefaultAsyncHttpxClient(verify=trusting)
    sdk = await stack.enter_async_context(
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, http_client=http)
    )
    reply = await sdk.chat.completions.create(model="auto", messages=messages)
    assert (reply.choices[0].message.content or "").startswith("A black hole is a region")
    stream = await sdk.chat.completions.create(model="auto", messages=messages, stream=True)
    told = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert told.startswith("A black hole is a region")

    claude = await stack.enter_async_context(
        anthropic.AsyncAnthropic(
            base_url=url,
            api_key="unused",
            max_retries=0,
            http_client=anthropic.DefaultAsyncHttpxClient(verify=trusting),
        )
    )
    message = await claude.messages.create(model="auto", max_tokens=50, messages=messages)
    assert message.content[0].type == "text"

    async with authority.channel(app.grpc_port) as channel:
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        assert (await stub.ProcessQuery(pb.ModelRequest(query=QUESTION))).response
        assert [chunk async for chunk in stub.ProcessQueryStream(pb.ModelRequest(query=QUESTION))]

    control = await stack.enter_async_context(authority.http(app.control_port))
    for path in ("/health", "/health/live", "/health/ready"):
        assert (await control.get(path)).status_code == 200
    assert (await control.get("/health")).json()["checks"]["tls"] == {"ok": True, "detail": ""}
    metrics = (await control.get("/metrics")).text
    for door in ("http", "grpc", "control"):
        assert f'model_gateway_certificate_expiry_timestamp_seconds{{door="{door}"}} ' in metrics


async def test_large_bodies_come_whole_both_ways(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    app = await start(stack, tmp_path, authority)
    http = await stack.enter_async_context(authority.http(app.http_port))
    text = "word " * 1_800_000  # 9 MB
    reply = await http.post("/v1/chat/completions", json={**BODY, "messages": [{"role": "user", "content": text}]})
    assert reply.status_code == 200, reply.text


async def test_alpn_and_versions(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    app = await start(stack, tmp_path, authority)

    async def spoken(port: int, most: ssl.TLSVersion, offered: list[str]) -> tuple[str | None, str | None]:
        context = ssl.create_default_context(cadata=authority.pem.decode())
        context.maximum_version = most
        context.set_alpn_protocols(offered)
        _reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        found = writer.get_extra_info("ssl_object")
        writer.close()
        return found.version(), found.selected_alpn_protocol()

    for port in (app.http_port, app.control_port):
        assert await spoken(port, ssl.TLSVersion.TLSv1_3, ["h2", "http/1.1"]) == ("TLSv1.3", "http/1.1")
        assert await spoken(port, ssl.TLSVersion.TLSv1_2, ["h2"]) == ("TLSv1.2", None)


async def test_only_the_newest_version_where_that_is_asked(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.issue().write(tmp_path)
    app = await start(stack, tmp_path, authority, tls={"cert": cert, "key": key, "min_version": 1.3})
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        await asyncio.open_connection("127.0.0.1", app.http_port, ssl=context)
    async with authority.channel(app.grpc_port) as channel:
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        assert (await stub.ProcessQuery(pb.ModelRequest(query=QUESTION))).response


@pytest.mark.parametrize("door", ["http", "control"])
async def test_plain_http_is_told_so(stack: AsyncExitStack, tmp_path: Path, door: str) -> None:
    app = await start(stack, tmp_path, Authority())
    port = app.http_port if door == "http" else app.control_port
    async with httpx.AsyncClient(trust_env=False) as client:
        reply = await client.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=BODY)
    assert reply.status_code == 400
    assert "this port speaks TLS: use https" in reply.text
    if door == "http":
        assert json.loads(reply.content)["error"]["message"] == "this port speaks TLS: use https"


async def test_what_is_no_tls_is_closed(stack: AsyncExitStack, tmp_path: Path) -> None:
    app = await start(stack, tmp_path, Authority())
    assert await raw(app.http_port, b"\0\0\0\0") == b""
    assert b"HTTP" not in await raw(app.http_port, b"\x16\x03\x01\0\5hello")
    with pytest.raises(grpc.aio.AioRpcError):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
            await gateway_pb2_grpc.ModelGatewayServiceStub(channel).ProcessQuery(pb.ModelRequest(query="x"), timeout=5)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"], ids=["silent", "half a hello"])
async def test_slow_handshakes_are_bounded_in_time_and_number(
    stack: AsyncExitStack, tmp_path: Path, sent: bytes
) -> None:
    authority = Authority()
    app = await start(stack, tmp_path, authority, header_timeout=700, max_connections=5)
    slow = [await asyncio.open_connection("127.0.0.1", app.http_port) for _ in range(5)]
    for _reader, writer in slow:
        writer.write(sent)
    await asyncio.sleep(0.2)
    assert await raw(app.http_port, b"") == b"", "one more is closed at once"
    began = time.monotonic()
    await asyncio.gather(*(asyncio.wait_for(reader.read(), 5) for reader, _ in slow))
    assert time.monotonic() - began < 3
    async with authority.http(app.http_port) as client:
        assert (await client.get("/v1/models")).status_code == 200
    for _reader, writer in slow:
        writer.close()


async def test_grpc_handshakes_have_a_deadline_too(stack: AsyncExitStack, tmp_path: Path) -> None:
    app = await start(stack, tmp_path, Authority(), header_timeout=700)
    began = time.monotonic()
    assert await raw(app.grpc_port, b"") == b""
    assert time.monotonic() - began < 3


async def test_a_connection_too_many_gets_503(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    app = await start(stack, tmp_path, authority, max_connections=1)
    async with authority.http(app.http_port) as first, authority.http(app.http_port) as second:
        assert (await first.get("/v1/models")).status_code == 200
        assert (await second.get("/v1/models")).status_code == 503
        assert (await first.get("/v1/models")).status_code == 200


async def test_idle_clients_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    authority = Authority()
    async with AsyncExitStack() as stack:
        app = await start(stack, tmp_path, authority, shutdown_grace=20_000)
        clients = [authority.http(port) for port in (app.http_port, app.control_port)]
        for client, path in zip(clients, ("/v1/models", "/health"), strict=True):
            assert (await client.get(path)).status_code == 200
        silent = socket.create_connection(("127.0.0.1", app.http_port))
        began = time.monotonic()
    assert time.monotonic() - began < 6
    silent.close()
    for client in clients:
        await client.aclose()


async def test_a_stream_in_flight_ends_before_a_stop(tmp_path: Path) -> None:
    authority = Authority()
    async with AsyncExitStack() as stack:
        app = await start(stack, tmp_path, authority)
        client = await stack.enter_async_context(authority.http(app.http_port))
        asked = asyncio.create_task(client.post("/v1/chat/completions", json={**BODY, "stream": True}))
        await until(lambda: app.gateway.in_flight > 0 or asked.done())
        stopping = asyncio.create_task(app.__aexit__(None, None, None))
        assert (await asked).text.rstrip().endswith("data: [DONE]")
        await stopping
