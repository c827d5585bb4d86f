"""Certificates that change while the gateway serves: nobody notices, and bad ones change nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest
from cryptography import x509

from certificates import DAY, Authority, Pair
from gateway import QUESTION
from model_gateway.app import App
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from model_gateway.telemetry import logs
from model_gateway.tls import door
from tls.gateways import BODY, start
from upstream import until

ROTATIONS = 4


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LOOK_S", 0.05)


async def shown(port: int, authority: Authority, speaking: str = "http/1.1") -> int:
    """The serial number of the certificate that a new connection sees."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.set_alpn_protocols([speaking])
    _reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(der).serial_number


def serial_of(pair: Pair) -> int:
    return x509.load_pem_x509_certificate(pair.cert).serial_number


async def everywhere(app: App, authority: Authority, serial: int) -> bool:
    return {
        await shown(app.http_port, authority),
        await shown(app.control_port, authority),
        await shown(app.grpc_port, authority, "h2"),
    } == {serial}


async def in_use(app: App, authority: Authority, pair: Pair) -> None:
    async with asyncio.timeout(10):
        while not await everywhere(app, authority, serial_of(pair)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def logged(folder: Path) -> str:
    """What the gateway has told so far."""
    logs.flush()
    return (folder / "gateway.log").read_text()


class Callers:
    """Every kind of client, as fast as they can, until told to stop; what each met is counted."""

    def __init__(self, app: App, authority: Authority) -> None:
        self.app = app
        self.authority = authority
        self.done = asyncio.Event()
        self.met: Counter[str] = Counter()

    async def run(self) -> None:
        await asyncio.gather(self.kept(), self.new(), self.streams(), self.sdk(), self.calls(), self.probes())

    def count(self, what: str, outcome: object) -> None:
        self.met[f"{what}: {outcome}"] += 1

    async def kept(self) -> None:
        async with self.authority.http(self.app.http_port) as client:
            while not self.done.is_set():
                self.count("kept", (await client.post("/v1/chat/completions", json=BODY)).status_code)

    async def new(self) -> None:
        while not self.done.is_set():
            async with self.authority.http(self.app.http_port) as client:
                self.count("new", (await client.post("/v1/chat/completions", json=BODY)).status_code)

    async def streams(self) -> None:
        async with self.authority.http(self.app.http_port) as client:
            while not self.done.is_set():
                reply = await client.post("/v1/chat/completions", json={**BODY, "stream": True})
                self.count("stream", "whole" if reply.text.rstrip().endswith("[DONE]") else "cut")

    async def sdk(self) -> None:
        trusting = ssl.create_default_context(cadata=self.authority.pem.decode())
        http = openai.DefaultAsyncHttpxClient(verify=trusting)
        url = f"https://127.0.0.1:{self.app.http_port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0, http_client=http) as sdk:
            while not self.done.is_set():
                reply = await sdk.chat.completions.create(model="auto", messages=BODY["messages"])
                self.count("sdk", bool(reply.choices[0].message.content))

    async def calls(self) -> None:
        async with self.authority.channel(self.app.grpc_port) as channel:
            kept = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
            while not self.done.is_set():
                await kept.ProcessQuery(pb.ModelRequest(query=QUESTION))
                self.count("call", "ok")
                async with self.authority.channel(self.app.grpc_port) as fresh:
                    stub = gateway_pb2_grpc.ModelGatewayServiceStub(fresh)
                    chunks = [chunk async for chunk in stub.ProcessQueryStream(pb.ModelRequest(query=QUESTION))]
                    self.count("call on a new channel", "whole" if chunks[-1].HasField("result") else "cut")

    async def probes(self) -> None:
        async with self.authority.http(self.app.control_port) as client:
            while not self.done.is_set():
                self.count("probe", (await client.get("/health")).status_code)


async def test_rotated_under_load_without_a_failed_request(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    app = await start(stack, tmp_path, authority)
    held = await stack.enter_async_context(authority.http(app.http_port))
    assert (await held.get("/v1/models")).status_code == 200
    callers = Callers(app, authority)
    calling = asyncio.create_task(callers.run())
    for _ in range(ROTATIONS):
        renewed = authority.issue()
        renewed.write(tmp_path)
        await in_use(app, authority, renewed)
        assert not calling.done()
    callers.done.set()
    await calling  # raises what any of them has met
    good = {"kept: 200", "new: 200", "stream: whole", "sdk: True", "call: ok"}
    assert set(callers.met) == good | {"call on a new channel: whole", "probe: 200"}, callers.met
    assert (await held.get("/v1/models")).status_code == 200


def half(pair: Pair, folder: Path) -> None:
    (folder / "server.pem").write_bytes(pair.cert[: len(pair.cert) // 2])


def mismatched(pair: Pair, folder: Path) -> None:
    (folder / "server.pem").write_bytes(pair.cert)  # the key is still the old one's


def expired(pair: Pair, folder: Path) -> None:
    Authority().issue(until_s=-60).write(folder)


def empty(pair: Pair, folder: Path) -> None:
    (folder / "server.key").write_bytes(b"")


def gone(pair: Pair, folder: Path) -> None:
    (folder / "server.key").unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (half, "server.pem holds no certificate"),
        (mismatched, "server.key is not the key of "),
        (expired, "server.pem expired at "),
        (empty, "server.key is empty"),
        (gone, "server.key cannot be read: No such file or directory"),
    ],
)
async def test_what_cannot_be_used_is_told_and_the_last_good_one_stays(
    stack: AsyncExitStack, tmp_path: Path, spoil: Any, reason: str
) -> None:
    authority = Authority()
    app = await start(stack, tmp_path, authority)
    control = await stack.enter_async_context(authority.http(app.control_port))
    before = await shown(app.http_port, authority)
    coming = authority.issue()
    spoil(coming, tmp_path)
    await until(lambda: not app.health().checks["tls"].ok and not app.health().checks["control_tls"].ok)
    assert await everywhere(app, authority, before)

    health = (await control.get("/health")).json()
    assert health["status"] == "degraded" and health["ready"] is True
    assert reason in health["checks"]["tls"]["detail"]
    assert health["checks"]["tls"]["detail"].startswith("server.tls.")
    assert health["checks"]["control_tls"]["detail"].startswith("server.control_tls.")
    metrics = (await control.get("/metrics")).text
    for name in ("http", "grpc", "control"):
        assert f'model_gateway_certificate_refused{{door="{name}"}} 1.0' in metrics
    told = [line for line in logged(tmp_path).splitlines() if "certificate refused" in line]
    assert len(told) == 2 and all(reason in line for line in told), "once for each section"

    coming.write(tmp_path)
    await in_use(app, authority, coming)
    await until(lambda: app.health().status == "healthy")
    assert 'model_gateway_certificate_refused{door="http"} 0.0' in (await control.get("/metrics")).text


async def test_a_pair_that_is_written_in_two_steps_is_no_problem(
    stack: AsyncExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "LOOK_S", 0.4)
    authority = Authority()
    app = await start(stack, tmp_path, authority)
    renewed = authority.issue()
    (tmp_path / "server.pem").write_bytes(renewed.cert)
    await asyncio.sleep(0.3)
    (tmp_path / "server.key").write_bytes(renewed.key)
    await in_use(app, authority, renewed)
    assert "refused" not in logged(tmp_path)


async def test_as_kubernetes_swaps_a_secret(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    mount = tmp_path / "mount"
    mount.mkdir()
    cert, key = authority.issue().swap_in(mount, 1)
    files = {"cert": cert, "key": key}
    app = await start(stack, tmp_path, authority, tls=files, control_tls=files)
    renewed = authority.issue()
    renewed.swap_in(mount, 2)
    await in_use(app, authority, renewed)


async def test_an_authority_that_is_trusted_no_more(stack: AsyncExitStack, tmp_path: Path) -> None:
    """Whoever is connected stays; whoever comes anew needs a certificate of the new one, resumed session or not."""
    authority, old, new = Authority(), Authority("old"), Authority("new")
    cert, key = authority.issue().write(tmp_path)
    files = {"cert": cert, "key": key, "client_ca": old.write(tmp_path, "clients")}
    app = await start(stack, tmp_path, authority, tls=files, control_tls=files)
    own = old.issue("client").write(tmp_path, "client")
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.load_cert_chain(*own)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # its sessions are told in the handshake already
    held = await stack.enter_async_context(authority.http(app.http_port, own))
    assert (await held.get("/v1/models")).status_code == 200
    _, writer = await asyncio.open_connection("127.0.0.1", app.http_port, ssl=context)
    session = writer.get_extra_info("ssl_object").session
    writer.transport.abort()

    new.write(tmp_path, "clients")
    later = new.issue("client")
    files_later = later.write(tmp_path, "later")
    async with asyncio.timeout(10):
        while True:
            try:
                async with authority.http(app.http_port, files_later) as client:
                    assert (await client.get("/v1/models")).status_code == 200
                break
            except (httpx.TransportError, ssl.SSLError):
                await asyncio.sleep(0.05)
    assert (await held.get("/v1/models")).status_code == 200
    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(_resumed, context, session, app.http_port)
    async with authority.channel(app.grpc_port, old.issue("client")) as channel:
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ProcessQuery(pb.ModelRequest(query=QUESTION), timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    async with authority.channel(app.grpc_port, later) as channel:
        await gateway_pb2_grpc.ModelGatewayServiceStub(channel).ProcessQuery(pb.ModelRequest(query=QUESTION))


def _resumed(context: ssl.SSLContext, session: ssl.SSLSession, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 5) as plain:
        context.wrap_socket(plain, server_hostname="127.0.0.1", session=session)


async def test_an_expiry_that_comes_near_is_told(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.issue(until_s=5 * DAY).write(tmp_path, "short")
    app = await start(stack, tmp_path, authority, tls={"cert": cert, "key": key})
    check = app.health().checks["tls"]
    assert not check.ok and "short.pem expires at " in check.detail and "in 5.0 days: renew it" in check.detail
    assert app.health().checks["control_tls"].ok and app.health().status == "degraded" and app.health().ready
    await until(lambda: "certificate expires" in logged(tmp_path))
    authority.issue().write(tmp_path, "short")
    await until(lambda: app.health().status == "healthy")


async def test_one_that_expires_while_it_is_used_serves_on_and_says_so(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.issue(until_s=5).write(tmp_path, "short")
    app = await start(stack, tmp_path, authority, tls={"cert": cert, "key": key})
    held = await stack.enter_async_context(authority.http(app.http_port))
    assert (await held.get("/v1/models")).status_code == 200
    await until(lambda: " expired at " in app.health().checks["tls"].detail, 15)
    assert (await held.get("/v1/models")).status_code == 200
    await asyncio.sleep(0.05)  # OpenSSL reads the kernel's coarse clock, which was seen to be 8 ms behind the gateway's
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        await shown(app.http_port, authority)
