"""The gRPC door's listening port, on the running loop. What it serves: services.py.

Accepts, sweeps deadlines, drains. Decides nothing about a request. Who has no clients here has no protobuf loaded.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from model_gateway.cohort import Cohort
from model_gateway.config.schema import ServerConfig
from model_gateway.server.grpc.http2.limits import Limits
from model_gateway.server.grpc.leaving import leaving_s
from model_gateway.server.http.secure import handshakes_of
from model_gateway.server.http.server import BACKLOG, cut_off, listen
from model_gateway.sockets.listener import Listener
from model_gateway.tls.door import TlsDoor
from model_gateway.tls.listener import TlsListener

if TYPE_CHECKING:
    from model_gateway.pipeline import Gateway
    from model_gateway.server.grpc.http2.connection import Connection
    from model_gateway.server.grpc.services import Services

_OPTION = "PORT or server.port"
_FLUSH_S = 1.0  # for replies whose call is done but which are not sent yet
_SWEEP_S = 0.25


class GrpcServer:
    """One port. `start` once, then `stop` once."""

    def __init__(
        self, gateway: Gateway, config: ServerConfig, tls: TlsDoor | None = None, cohort: Cohort | None = None
    ) -> None:
        self._config = config
        self._tls = tls
        self._cohort = cohort or Cohort()
        self._listener: Listener | None = None
        self._gateway = gateway
        self._services: Services | None = None
        self._connections: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, shared_port: int | None = None) -> int:
        """Serve, and return the port. Raises StartupError when it is taken or may not be used.

        `shared_port`: where other processes of this gateway serve too; somebody has made sure that nobody else does.
        """
        config = self._config
        listener = listen(
            config.host,
            config.port if shared_port is None else shared_port,
            "gRPC",
            _OPTION,
            shared=shared_port is not None,
        )
        listener.listen(BACKLOG)
        loop = asyncio.get_running_loop()

        def accept() -> asyncio.Protocol:
            if len(self._connections) >= config.max_connections:
                return _Full()
            services = self._services or self._first()
            return services.connection(loop, self._connections)

        def count() -> int:
            return len(self._connections)

        if self._tls is None:
            self._listener = Listener(listener, accept, None, count)
        else:
            self._listener = TlsListener(
                listener, self._tls, accept, handshakes=handshakes_of(config), plain=b"", count=count, http2=True
            )
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep, loop)
        return int(listener.getsockname()[1])

    def adopt(self, gateway: Gateway) -> None:
        """This one answers from the next call on."""
        self._gateway = gateway
        if self._services is not None:
            self._services.service.adopt(gateway)

    async def leave(self, hurry: asyncio.Event) -> None:
        """New connections go to the other processes that share the port; those there are end as they reach their age.

        Returns when no connection is left, `hurry` is set, or `leaving_s` are over.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + leaving_s(self._config)
        if self._listener is not None:
            self._listener.close()
        while loop.time() < until and self._connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_S):
                    await hurry.wait()
                    return

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those in flight finish for `grace_s` seconds, then cancel what is left."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.close()
        await listener.wait_closed()
        services = self._services
        if services is not None:
            services.health.leave()
        for connection in tuple(self._connections):
            connection.leave()
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        idle_until = loop.time() + min(grace_s, _FLUSH_S)
        # Whoever only watches this server's health must not hold up a shutdown.
        while self._connections and loop.time() < (  # noqa: ASYNC110 (once per process life: no event is worth it)
            until if services is not None and services.service.in_flight else idle_until
        ):
            await asyncio.sleep(0.02)
        for connection in tuple(self._connections):
            connection.cut()
        until = loop.time() + _FLUSH_S
        while self._connections and loop.time() < until:  # noqa: ASYNC110 (as above)
            await asyncio.sleep(0.01)
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._cohort.flush()
        await cut_off(self._connections)

    def _first(self) -> Services:
        """Somebody has come."""
        from model_gateway.server.grpc.services import Services

        config = self._config
        identity = "none" if self._tls is None else config.tls.client_identity
        reflects = config.grpc.reflection
        self._services = services = Services(
            self._gateway, _limits_of(config), identity, self._cohort, reflects=reflects
        )
        return services

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in tuple(self._connections):
            connection.sweep(now)
        self._sweeper = loop.call_later(_SWEEP_S, self._sweep, loop)


class _Full(asyncio.Protocol):
    """A connection beyond the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


def _limits_of(config: ServerConfig) -> Limits:
    options = config.grpc
    return Limits(
        header_bytes=config.max_header_size,
        received_bytes=options.max_receive_message_length,
        sent_bytes=options.max_send_message_length,
        header_s=config.header_timeout / 1000,
        body_s=config.body_timeout / 1000,
        age_s=options.max_connection_age / 1000,
        age_grace_s=options.max_connection_age_grace / 1000,
        alive_s=options.keepalive_time / 1000,
        answer_s=options.keepalive_timeout / 1000,
        ping_s=options.keepalive_time / 2000,
    )
