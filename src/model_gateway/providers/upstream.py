"""The one HTTP client: opens, pools and closes upstream connections, applies deadlines, checks addresses.

A kept connection serves whoever goes the same way next: another key of its provider, another provider at its address.
Nothing else in the gateway opens a connection to a provider. It adds no retry of its own but one: a pooled connection
that turns out to be dead before a single byte of reply arrived is replaced by a fresh one.

Deadlines are checked by one timer every SWEEP_S instead of one per call: a deadline is therefore kept to within
SWEEP_S, and costs an attribute store. Busy connections are only looked at when one of them may be late.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import os
import socket
import ssl
import sys
from collections.abc import Mapping
from math import inf
from typing import TypeAlias
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

import msgspec

from model_gateway.cohort import Cohort
from model_gateway.domain.errors import UpstreamConnectError, UpstreamError, UpstreamTimeout
from model_gateway.providers.connection import UpstreamConnection

SWEEP_S = 0.1
LAST_LOOK_S = 0.01
"""After a deadline has passed the loop reads the network once more before anybody is given up."""
LAST_LOOKS = 8
"""So often where a connection is waited for and the loop was late by more than BUSY_S: its waiter is woken in steps."""
BUSY_S = 0.05
IDLE_KEEP_S = 55.0
MAX_REPLY_BYTES = 32 * 1024 * 1024
_NAMES_OF_THIS_HOST = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".svc", ".cluster.local")


class Deadlines(msgspec.Struct, frozen=True):
    """Seconds. `total_s` is the ceiling of one attempt."""

    connect_s: float
    first_token_s: float
    idle_s: float
    total_s: float


Way: TypeAlias = "tuple[bool, str, int, bool]"
"""TLS, host, port, and whether the address may be private: connections that agree in these are the same to anybody."""


class Endpoint:
    """Where a provider lives and how it is addressed: all that can be prepared once per configuration.

    `headers` are credentials and further fixed headers; they appear in no repr, log or error.
    """

    def __init__(self, base_url: str, headers: Mapping[str, str], *, private_allowed: bool = False) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"base URL {base_url!r} must start with http:// or https:// and name a host")
        if parts.username or parts.password:
            raise ValueError("the base URL must not hold a user or password; use apiKey or headers")
        self.tls = parts.scheme == "https"
        self.host: str = parts.hostname
        self.port: int = parts.port or (443 if self.tls else 80)
        self.base_path = parts.path.rstrip("/")
        self.query = f"?{parts.query}" if parts.query else ""
        self.private_allowed = private_allowed or _names_a_private_host(self.host)
        self.proxy = _proxy_for(parts.scheme, self.host, self.port)
        lines = {
            "Host": parts.netloc.rpartition("@")[2],
            "User-Agent": "model-gateway",
            "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            **headers,
        }
        for name, value in lines.items():
            if any(c in f"{name}{value}" for c in "\r\n\0"):
                raise ValueError(f"header {name!r} holds a line break")
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._heads: dict[str, bytes] = {}
        self.way: Way = (self.tls, self.host, self.port, self.private_allowed)
        self.idle: list[UpstreamConnection] | None = None  # those of its way, once somebody has asked for them

    def head(self, path: str) -> bytes:
        """Request line and headers up to the value of Content-Length."""
        head = self._heads.get(path)
        if head is None:
            target = f"{self.base_path}{path}{self.query}"
            if self.proxy and not self.tls:
                target = f"http://{self.host}:{self.port}{target}"
            extra = self.proxy.auth_header if self.proxy and not self.tls else ""
            text = f"POST {target} HTTP/1.1\r\n{self._headers}{extra}Content-Length: "
            head = self._heads[path] = text.encode("latin-1")
        return head


class Proxy(msgspec.Struct, frozen=True):
    host: str
    port: int
    auth_header: str


class Upstream:
    """Connections to all providers of one worker. `post` starts an exchange; `release` ends it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tls_context: ssl.SSLContext | None = None,
        cohort: Cohort | None = None,
    ) -> None:
        self._loop = loop
        self._cohort = cohort or Cohort()
        self._tls = tls_context
        self._busy: set[UpstreamConnection] = set()
        self._kept: dict[Way, tuple[list[UpstreamConnection], WeakSet[Endpoint]]] = {}  # and for whom
        self._sweeper: asyncio.TimerHandle | None = None
        self._due = inf  # before that nobody can be late
        self._closed = False

    async def post(
        self, endpoint: Endpoint, path: str, body: bytes, deadlines: Deadlines, headers: bytes = b""
    ) -> UpstreamConnection:
        """Send a request and wait for the reply's head. The caller must `release` what it gets.

        `headers`: further header lines, each ended by CR LF.
        """
        now = self._loop.time()
        total_deadline = now + deadlines.total_s
        request_head = endpoint.head(path) + b"%d\r\n%s\r\n" % (len(body), headers)
        connection = self._take_idle(endpoint, now)
        fresh = connection is None
        while True:
            if connection is None:
                connection = await self._open(endpoint, min(deadlines.connect_s, deadlines.total_s))
                now = self._loop.time()
            connection.total_deadline = total_deadline
            connection.idle_timeout_s = deadlines.idle_s
            connection.deadline = min(now + deadlines.first_token_s, total_deadline)
            due = _soonest(connection, now)
            if due < self._due:
                self._due = due
            connection.begin(request_head, body)
            self._busy.add(connection)
            if self._sweeper is None:
                self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)
            try:
                while not connection.started:
                    if connection.error is not None:
                        raise connection.error
                    await connection.more()
                return connection
            except BaseException as error:
                self._busy.discard(connection)
                connection.abort()
                if fresh or connection.got_bytes or not isinstance(error, UpstreamConnectError):
                    raise
            fresh, connection = True, None

    def release(self, endpoint: Endpoint, connection: UpstreamConnection) -> None:
        """The exchange is over. A connection whose reply was read to its end is kept; any other is closed."""
        self._busy.discard(connection)
        if connection.reusable and not self._closed:
            connection.idle_since = self._loop.time()
            self.kept(endpoint).append(connection)
        else:
            connection.abort()

    def kept(self, endpoint: Endpoint) -> list[UpstreamConnection]:
        """Connections that wait for whoever goes this way next. From now on they wait for this endpoint, too."""
        if endpoint.idle is None:
            endpoint.idle, users = self._kept.setdefault(endpoint.way, ([], WeakSet()))
            users.add(endpoint)
        return endpoint.idle

    def forget(self, endpoint: Endpoint) -> None:
        """It will not ask any more: close what was kept open, where nobody else goes that way."""
        if endpoint.idle is None:
            return
        idle, users = self._kept[endpoint.way]
        endpoint.idle = None
        users.discard(endpoint)
        if not users:
            del self._kept[endpoint.way]
            for connection in idle:
                connection.abort()

    def close(self) -> None:
        """Close everything. Live exchanges fail: call it only after the drain."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in tuple(self._busy):
            connection.fail(UpstreamConnectError("the gateway is stopping"))
        for idle, _ in self._kept.values():
            for connection in idle:
                connection.abort()
            idle.clear()

    def _take_idle(self, endpoint: Endpoint, now: float) -> UpstreamConnection | None:
        idle = endpoint.idle or self.kept(endpoint)
        oldest = now - IDLE_KEEP_S
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            if connection.idle_since >= oldest:
                return connection
            connection.abort()
        return None

    def _sweep(self, *, looked: bool = False) -> None:
        """`looked`: what the network has brought since the deadlines passed is known."""
        now = self._loop.time()
        if now >= self._due:
            late = [connection for connection in self._busy if now >= connection.deadline]
            if late and not looked:
                self._sweeper = self._loop.call_later(LAST_LOOK_S, lambda: self._sweep(looked=True))
                return
            for connection in late:
                connection.fail(_timeout_of(connection, now))
            self._due = min([_soonest(connection, now) for connection in self._busy], default=inf)
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep) if self._busy else None

    async def _open(self, endpoint: Endpoint, timeout_s: float) -> UpstreamConnection:
        loop = self._loop
        due, looks = loop.time() + timeout_s, LAST_LOOKS

        def look() -> None:
            # Timers come before what the network has brought, and who waits for a connection is woken after them: in a
            # loop that was busy for all of the time, with thousands of requests at once, it may long be there.
            nonlocal due, looks, timer
            now = loop.time()
            if looks and (looks < LAST_LOOKS or now - due > BUSY_S):
                due, looks = now + LAST_LOOK_S, looks - 1
                timer = loop.call_at(due, look)
            else:
                limit.reschedule(now)

        timer = loop.call_at(due, look)
        try:
            async with asyncio.timeout(None) as limit:
                return await self._open_now(endpoint)
        except TimeoutError:
            raise UpstreamTimeout(f"no connection to {endpoint.host} within {timeout_s:g} s") from None
        finally:
            timer.cancel()

    async def _open_now(self, endpoint: Endpoint) -> UpstreamConnection:
        if endpoint.proxy is not None:
            return await self._open_through_proxy(endpoint, endpoint.proxy)
        addresses = await self._resolve(endpoint.host, endpoint.port)
        _check_addresses(endpoint, addresses)
        return await self._connect_any(endpoint, addresses)

    async def _connect_any(self, endpoint: Endpoint, addresses: list[str]) -> UpstreamConnection:
        error: Exception | None = None
        for address in addresses:
            try:
                _, connection = await self._loop.create_connection(
                    self._new_connection,
                    address,
                    endpoint.port,
                    ssl=self._tls_context() if endpoint.tls else None,
                    server_hostname=endpoint.host if endpoint.tls else None,
                )
                return connection
            except (OSError, ssl.SSLError) as failure:
                error = failure
        raise _connect_error(endpoint.host, error)

    async def _open_through_proxy(self, endpoint: Endpoint, proxy: Proxy) -> UpstreamConnection:
        """Plain HTTP is sent to the proxy whole; TLS goes through a CONNECT tunnel."""
        try:
            if not endpoint.tls:
                _, connection = await self._loop.create_connection(self._new_connection, proxy.host, proxy.port)
                return connection
            tunnel = await asyncio.to_thread(_tunnel, proxy, endpoint.host, endpoint.port)
            _, connection = await self._loop.create_connection(
                self._new_connection, sock=tunnel, ssl=self._tls_context(), server_hostname=endpoint.host
            )
        except (OSError, ssl.SSLError) as error:
            raise _connect_error(f"{endpoint.host} through the proxy {proxy.host}:{proxy.port}", error) from None
        return connection

    def _new_connection(self) -> UpstreamConnection:
        return UpstreamConnection(self._loop, MAX_REPLY_BYTES, self._cohort)

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    async def _resolve(self, host: str, port: int) -> list[str]:
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        try:
            found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UpstreamConnectError(f"the name {host} cannot be resolved: {error.strerror or error}") from None
        return list(dict.fromkeys(str(info[4][0]) for info in found))


def _soonest(connection: UpstreamConnection, now: float) -> float:
    """No deadline that it has or may get from now on is earlier: silence is reckoned from when something arrives."""
    deadline, idle_s = connection.deadline, connection.idle_timeout_s
    return now + idle_s if idle_s and now + idle_s < deadline else deadline


def _timeout_of(connection: UpstreamConnection, now: float) -> UpstreamTimeout:
    if now >= connection.total_deadline:
        return UpstreamTimeout("the provider did not finish within the time allowed for one attempt")
    if connection.started:
        return UpstreamTimeout(
            f"the provider sent nothing for {connection.idle_timeout_s:g} s in the middle of a reply"
        )
    return UpstreamTimeout("the provider did not begin its reply in time")


def _connect_error(where: str, error: Exception | None) -> UpstreamError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return UpstreamConnectError(f"TLS to {where} failed: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return UpstreamConnectError(f"TLS to {where} failed: {error.reason or error}")
    reason = getattr(error, "strerror", None) or error
    return UpstreamConnectError(f"no connection to {where}: {reason}")


def _names_a_private_host(host: str) -> bool:
    """True where whoever wrote the URL clearly meant a private address: an IP literal, localhost, a one-label name."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        return not address.is_link_local
    return "." not in host or host.endswith(_NAMES_OF_THIS_HOST)


def _check_addresses(endpoint: Endpoint, addresses: list[str]) -> None:
    """A public-looking name must not lead into the private network (SSRF by DNS); metadata services never."""
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not address.is_global and not endpoint.private_allowed:
            raise UpstreamConnectError(
                f"{endpoint.host} resolves to the private address {text}; "
                "set allowPrivateNetwork: true on the provider if that is meant"
            )


def _proxy_for(scheme: str, host: str, port: int) -> Proxy | None:
    """HTTP_PROXY, HTTPS_PROXY and NO_PROXY, read as the standard library reads them; loopback is never proxied."""
    if sys.platform == "linux" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    import urllib.request  # here: it brings an HTTP client and an e-mail parser (0.6 MB), and few have a proxy

    url = urllib.request.getproxies().get(scheme)
    if not url or urllib.request.proxy_bypass(f"{host}:{port}") or urllib.request.proxy_bypass(host):
        return None
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return None
    if host == "localhost":
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"the proxy for {scheme} must be an http:// URL")
    auth = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        auth = f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
    return Proxy(parts.hostname, parts.port or 80, auth)


def _tunnel(proxy: Proxy, host: str, port: int) -> socket.socket:
    """A CONNECT tunnel, made with blocking calls in a thread: it happens once per pooled connection."""
    tunnel = socket.create_connection((proxy.host, proxy.port), timeout=10)
    try:
        tunnel.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{proxy.auth_header}\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer and len(answer) < 16_384:
            received = tunnel.recv(1)
            if not received:
                break
            answer += received
        status = answer.split(b" ", 2)[1:2]
        if status != [b"200"]:
            raise OSError(f"the proxy answered {b''.join(status).decode('latin-1') or 'nothing'} to CONNECT")
        tunnel.setblocking(False)
    except BaseException:
        tunnel.close()
        raise
    return tunnel
