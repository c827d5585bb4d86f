from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trustme

from model_gateway.domain.errors import (
    StreamBroken,
    UpstreamConnectError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from model_gateway.providers import upstream as module
from model_gateway.providers.connection import UpstreamConnection
from model_gateway.providers.upstream import Deadlines, Endpoint, Upstream
from upstream import Answer, FixtureUpstream, Seen, events, fixture, hang_up, silence, until, whole

QUICK = Deadlines(connect_s=1, first_token_s=0.3, idle_s=0.3, total_s=2)


@pytest.fixture
async def client() -> AsyncIterator[Upstream]:
    upstream = Upstream(asyncio.get_running_loop())
    yield upstream
    upstream.close()


async def ask(client: Upstream, endpoint: Endpoint, deadlines: Deadlines = QUICK) -> tuple[int, bytes]:
    connection = await client.post(endpoint, "/chat/completions", b"{}", deadlines)
    try:
        return connection.status, await connection.read_all()
    finally:
        client.release(endpoint, connection)


async def test_a_connection_is_reused_and_headers_are_sent(client: Upstream) -> None:
    async with FixtureUpstream(whole(b"ok")) as server:
        endpoint = Endpoint(server.url, {"Authorization": "Bearer k"})
        for _ in range(3):
            assert await ask(client, endpoint) == (200, b"ok")
        assert server.connections == 1
        assert server.seen[0].path == "/v1/chat/completions"
        assert server.seen[0].headers["authorization"] == "Bearer k"
        assert server.seen[0].headers["host"] == f"127.0.0.1:{server.port}"


async def test_whoever_goes_the_same_way_shares_what_is_kept(client: Upstream) -> None:
    async with FixtureUpstream(whole(b"ok")) as server:
        other = server.url.replace("127.0.0.1", "localhost")
        keys = [Endpoint(server.url, {"Authorization": f"Bearer {key}"}) for key in "abc"]
        for endpoint in (*keys, Endpoint(f"{server.url}/another/path", {}), *keys):
            assert await ask(client, endpoint) == (200, b"ok")
        assert server.connections == 1
        assert [seen.headers.get("authorization") for seen in server.seen[:4]] == [
            "Bearer a",
            "Bearer b",
            "Bearer c",
            None,
        ]
        # A name may lead elsewhere by the time it is looked up again.
        assert await ask(client, Endpoint(other, {})) == (200, b"ok")
        assert server.connections == 2


async def test_what_was_reached_by_leave_is_not_for_those_without(
    client: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that may not lead into the private network must not get there by a connection of one that may."""
    monkeypatch.setattr(client, "_resolve", resolving("127.0.0.1"))
    async with FixtureUpstream(whole(b"ok")) as server:
        url = f"http://api.example.com:{server.port}"
        assert await ask(client, Endpoint(url, {}, private_allowed=True)) == (200, b"ok")
        with pytest.raises(UpstreamConnectError, match="private"):
            await ask(client, Endpoint(url, {}))
        assert await ask(client, Endpoint(url, {}, private_allowed=True)) == (200, b"ok")
        assert server.connections == 1


async def test_what_is_kept_is_closed_when_the_last_that_goes_there_is_forgotten(client: Upstream) -> None:
    async with FixtureUpstream(whole(b"ok")) as server:
        first, second = Endpoint(server.url, {"X-Key": "1"}), Endpoint(server.url, {"X-Key": "2"})
        assert await ask(client, first) == (200, b"ok")
        client.kept(second)
        client.forget(first)
        (connection,) = client.kept(second)
        assert await ask(client, second) == (200, b"ok")
        client.forget(second)
        assert connection.closed and server.connections == 1
        client.forget(second)
        assert await ask(client, second) == (200, b"ok")  # and who comes back opens a new one
        assert server.connections == 2


async def test_one_that_was_never_asked_keeps_nothing_open(client: Upstream) -> None:
    """As those of a configuration that was prepared, and not taken."""
    async with FixtureUpstream(whole(b"ok")) as server:
        endpoint = Endpoint(server.url, {})
        assert await ask(client, endpoint) == (200, b"ok")
        (connection,) = client.kept(endpoint)
        client.kept(Endpoint(server.url, {}))
        client.forget(endpoint)
        assert connection.closed


async def test_a_pooled_connection_found_dead_is_replaced_once(client: Upstream) -> None:
    async def once(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await whole(b"ok")(seen, writer)
        writer.close()  # although keep-alive was promised

    async with FixtureUpstream(once) as server:
        endpoint = Endpoint(server.url, {})
        assert await ask(client, endpoint) == (200, b"ok")
        assert await ask(client, endpoint) == (200, b"ok")
        assert server.connections == 2


def raw(data: bytes, *, close: bool = True) -> Answer:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return answer


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (hang_up, UpstreamConnectError),
        (silence, UpstreamTimeout),
        (raw(b"nonsense\r\n\r\n"), UpstreamProtocolError),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), StreamBroken),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), StreamBroken),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", close=False), UpstreamProtocolError),
        (raw(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, close=False), UpstreamProtocolError),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", close=False), UpstreamTimeout),
        (whole(b"x" * 300_000), UpstreamProtocolError),
    ],
)
async def test_faults_become_typed_errors(
    client: Upstream, monkeypatch: pytest.MonkeyPatch, answer: Answer, kind: type[UpstreamError]
) -> None:
    monkeypatch.setattr(module, "MAX_REPLY_BYTES", 200_000)
    async with FixtureUpstream(answer) as server:
        endpoint = Endpoint(server.url, {})
        with pytest.raises(kind) as caught:
            await ask(client, endpoint)
        assert type(caught.value) is kind
        assert endpoint.idle == []


@pytest.mark.parametrize("extra", [b"HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\nbad", b"X"])
async def test_bytes_nobody_asked_for_end_the_connection(client: Upstream, extra: bytes) -> None:
    async with FixtureUpstream(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + extra, close=False)) as server:
        endpoint = Endpoint(server.url, {})
        with contextlib.suppress(UpstreamProtocolError):
            assert await ask(client, endpoint) == (200, b"ok")
        assert endpoint.idle == []


async def test_a_reply_that_ends_with_its_connection_is_whole(client: Upstream) -> None:
    async with FixtureUpstream(raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it")) as server:
        assert await ask(client, Endpoint(server.url, {})) == (200, b"all of it")


@pytest.mark.parametrize("deadlines", [QUICK, Deadlines(connect_s=1, first_token_s=30, idle_s=0.3, total_s=30)])
async def test_a_stream_that_stalls_is_left_at_the_idle_deadline(client: Upstream, deadlines: Deadlines) -> None:
    async with FixtureUpstream(events(fixture("stream.sse"), cut_at=700, stall_s=30)) as server:
        endpoint = Endpoint(server.url, {})
        connection = await client.post(endpoint, "/chat/completions", b"{}", deadlines)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(UpstreamTimeout, match="in the middle"):
            while await connection.read_some():
                pass
        client.release(endpoint, connection)
        assert loop.time() - begun < 1.0


async def test_open_streams_are_not_looked_at_while_none_may_be_late(
    client: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    real = module._soonest  # pyright: ignore[reportPrivateUsage]

    def counted(connection: UpstreamConnection, now: float) -> float:
        looks.append(now)
        return real(connection, now)

    monkeypatch.setattr(module, "_soonest", counted)
    async with FixtureUpstream(events(fixture("stream.sse"), cut_at=700, stall_s=30)) as server:
        endpoint = Endpoint(server.url, {})
        patient = Deadlines(connect_s=1, first_token_s=30, idle_s=30, total_s=30)
        connections = [await client.post(endpoint, "/chat/completions", b"{}", patient) for _ in range(3)]
        await asyncio.sleep(3 * module.SWEEP_S)
        assert len(looks) == 3, "each when it began"
        late = await client.post(endpoint, "/chat/completions", b"{}", QUICK)
        with pytest.raises(UpstreamTimeout):
            while await late.read_some():
                pass
        for connection in (*connections, late):
            client.release(endpoint, connection)


async def test_a_reader_that_lags_pauses_the_provider_and_loses_nothing(client: Upstream) -> None:
    body = b"".join(b"data: %07d%s\n\n" % (i, b"x" * 4000) for i in range(1000))
    async with FixtureUpstream(events(body)) as server:
        endpoint = Endpoint(server.url, {})
        connection = await client.post(endpoint, "/chat/completions", b"{}", Deadlines(1, 1, 0.3, 10))
        await asyncio.sleep(0.6)  # longer than the idle deadline: the silence is ours
        assert len(server.seen) == 1
        received = b""
        while data := await connection.read_some():
            assert len(data) < 1_000_000
            received += data
        client.release(endpoint, connection)
        assert received == body


async def test_a_cancelled_call_drops_its_connection(client: Upstream) -> None:
    async with FixtureUpstream(silence) as server:
        task = asyncio.ensure_future(ask(client, Endpoint(server.url, {}), Deadlines(1, 30, 30, 30)))
        await until(lambda: bool(server.seen))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: server.hung_up == 1)


async def test_nobody_listens(client: Upstream) -> None:
    with pytest.raises(UpstreamConnectError, match=r"no connection to 127\.0\.0\.1"):
        await ask(client, Endpoint("http://127.0.0.1:9", {}))
    with pytest.raises(UpstreamConnectError, match="cannot be resolved"):
        await ask(client, Endpoint("http://no-such-host.invalid/v1", {}))


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls_is_verified(trusted: bool) -> None:
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    if trusted:
        authority.configure_trust(client_context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    client = Upstream(asyncio.get_running_loop(), client_context)
    endpoint = Endpoint(f"https://localhost:{port}", {})
    try:
        if trusted:
            assert await ask(client, endpoint) == (200, b"ok")
        else:
            with pytest.raises(UpstreamConnectError, match="TLS to localhost failed"):
                await ask(client, endpoint)
    finally:
        client.close()
        server.close()


async def proxied(head: list[str]) -> tuple[asyncio.Server, int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if head[-1].startswith("CONNECT"):
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def test_proxies_come_from_the_environment(client: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    head: list[str] = []
    server, port = await proxied(head)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://user:p%40ss@127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "direct.example")
    assert Endpoint("http://direct.example/v1", {}).proxy is None
    assert Endpoint("http://127.0.0.1:1/v1", {}).proxy is None
    assert await ask(client, Endpoint("http://models.example/v1", {})) == (200, b"ok")
    assert head[0].startswith("POST http://models.example:80/v1/chat/completions HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in head[0]
    with pytest.raises(UpstreamConnectError, match="answered 403 to CONNECT"):
        await ask(client, Endpoint("https://models.example/v1", {}))
    assert head[1].startswith("CONNECT models.example:443 HTTP/1.1\r\n")
    server.close()


def resolving(address: str) -> Callable[[str, int], Awaitable[list[str]]]:
    async def resolve(host: str, port: int) -> list[str]:
        return [address]

    return resolve


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "fe80::1%eth0", "::1"])
async def test_a_public_name_must_not_lead_inside(
    client: Upstream, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(client, "_resolve", resolving(address))
    with pytest.raises(UpstreamConnectError, match="allowPrivateNetwork"):
        await ask(client, Endpoint("http://models.example/v1", {}))


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://localhost:11434/v1", True),
        ("http://ollama:11434/v1", True),
        ("http://10.0.0.5/v1", True),
        ("http://vllm.models.svc.cluster.local/v1", True),
        ("http://169.254.169.254/v1", False),
        ("https://api.example.com/v1", False),
    ],
)
def test_a_url_that_names_a_private_host_means_it(url: str, private: bool) -> None:
    assert Endpoint(url, {}).private_allowed is private


@pytest.mark.parametrize("url", ["", "api.example.com/v1", "ftp://x/y", "http://", "http://user:pw@host/v1"])
def test_a_bad_base_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base URL"):
        Endpoint(url, {})


def test_a_header_cannot_smuggle_a_line() -> None:
    with pytest.raises(ValueError, match="line break"):
        Endpoint("http://localhost/v1", {"Authorization": "Bearer a\r\nX: y"})
