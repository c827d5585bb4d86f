"""The gRPC door's listening port: the service, health (grpc.health.v1) and reflection on the running loop.

Decides nothing about a request.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from model_gateway.config.errors import StartupError
from model_gateway.config.schema import ServerConfig
from model_gateway.pb import gateway_pb2_grpc
from model_gateway.server.grpc.leaving import leaving_s
from model_gateway.server.grpc.peer import credential_of, reader_of, server_credentials
from model_gateway.server.grpc.service import GatewayService
from model_gateway.server.http.server import listen
from model_gateway.tls.door import TlsDoor

if TYPE_CHECKING:
    from model_gateway.pipeline import Gateway

SERVICE: Final = "modelgateway.ModelGatewayService"
_OPTION = "PORT or server.port"
_FLUSH_S = 1.0  # for replies whose call is done but which are not sent yet
_LOOK_S = 0.2
_NICENESS = 10  # a tenth of a core is left to it where the loop would take all: more than it needs


class GrpcServer:
    """One port. `start` once, then `stop` once."""

    def __init__(self, gateway: Gateway, config: ServerConfig, tls: TlsDoor | None = None) -> None:
        self._config = config
        self._tls = tls
        self._server: grpc.aio.Server | None = None
        self._port = 0
        self._health: Any = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        reader = reader_of(config.tls.min_version, config.tls.client_identity) if tls else credential_of
        self._service = GatewayService(gateway, reader)

    async def start(self, shared_port: int | None = None) -> int:
        """Serve, and return the port. Raises StartupError when it is taken or may not be used.

        `shared_port`: where other processes of this gateway serve too; somebody has made sure that nobody else does.
        """
        config = self._config
        server = _begun(_options(config, shared=shared_port is not None))
        gateway_pb2_grpc.add_ModelGatewayServiceServicer_to_server(self._service, server)  # pyright: ignore[reportUnknownMemberType]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)  # pyright: ignore[reportUnknownMemberType]
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        if config.grpc.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        if shared_port is None:
            # Asked first with a plain socket: it knows the reason, where grpc only says that it failed.
            listen(config.host, config.port, "gRPC", _OPTION).close()
        credentials = server_credentials(self._tls) if self._tls is not None else None
        port = _bind(server, config.host, config.port if shared_port is None else shared_port, credentials)
        await server.start()
        self._server, self._port = server, port
        return port

    def adopt(self, gateway: Gateway) -> None:
        """This one answers from the next call on."""
        self._service.adopt(gateway)

    async def leave(self, hurry: asyncio.Event) -> None:
        """New connections go to the other processes that share the port; those there are end as they reach their age.

        A call that meets `stop` on its way here is cancelled by grpc. One that meets the end of a connection's age is
        answered, or sent again by its client without a word. Returns when no connection is left, `hurry` is set, or
        `leaving_s` are over.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + leaving_s(self._config)
        for each in _sockets(self._port, listening=True):
            each.shutdown(socket.SHUT_RDWR)  # the kernel asks it no more; grpc notes on stderr that it accepts no more
        while loop.time() < until and any(_sockets(self._port, listening=False)):
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await hurry.wait()
                    return

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those in flight finish for `grace_s` seconds, then cancel what is left."""
        server = self._server
        if server is None:
            return
        self._server = None
        await self._health.enter_graceful_shutdown()
        # Whoever only watches this server's health must not hold up a shutdown. One call decides: grpc crashes the
        # process when a second `stop` overtakes the first.
        await server.stop(grace_s if self._service.in_flight else min(grace_s, _FLUSH_S))


def _options(config: ServerConfig, *, shared: bool) -> list[tuple[str, int]]:
    options = config.grpc
    ages = {
        "grpc.max_connection_age_ms": options.max_connection_age,
        "grpc.max_connection_age_grace_ms": options.max_connection_age_grace,
    }
    return [
        *((name, value) for name, value in ages.items() if value),
        # Otherwise a second gateway on the same port would silently take half of the calls.
        ("grpc.so_reuseport", int(shared)),
        ("grpc.keepalive_time_ms", options.keepalive_time),
        ("grpc.keepalive_timeout_ms", options.keepalive_timeout),
        ("grpc.keepalive_permit_without_calls", 1),
        # How often clients may ping: by default grpc cuts off who does so more than once in five minutes.
        ("grpc.http2.min_ping_interval_without_data_ms", options.keepalive_time // 2),
        ("grpc.server_handshake_timeout_ms", config.header_timeout),
        ("grpc.max_receive_message_length", options.max_receive_message_length),
        ("grpc.max_send_message_length", options.max_send_message_length),
    ]


def _begun(options: list[tuple[str, int]]) -> grpc.aio.Server:
    """A server whose thread does not interrupt the event loop where both share a core.

    It wakes the loop for each of the four things that happen to a call. With a lower priority it tells of several at
    once, when the loop waits or its slice is over; a core that is free it has as before. Linux only: elsewhere threads
    have no priority of their own. What it gains and why it is not lower still: docs/performance.md.
    """
    before = set(threading.enumerate())
    server = grpc.aio.server(options=options)
    if sys.platform == "linux":
        for thread in set(threading.enumerate()) - before:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, thread.native_id or 0, _NICENESS)
    return server


def _bind(server: grpc.aio.Server, host: str, port: int, tls: grpc.ServerCredentials | None) -> int:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return server.add_secure_port(address, tls) if tls else server.add_insecure_port(address)
    except RuntimeError as error:
        raise StartupError(
            f"cannot listen on {address} for gRPC: {error}", f"check server.host and {_OPTION}"
        ) from None


def _sockets(port: int, *, listening: bool) -> Iterator[socket.socket]:
    """This process's own at that port. Linux: grpc tells nobody which it has, but /proc does."""
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(descriptor.name))) as found:
                internet = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
                if not internet or found.getsockname()[1] != port:
                    continue
                if not listening:
                    found.getpeername()
                elif not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    continue
                yield found
        except OSError:
            continue  # no socket, closed meanwhile, or without a peer
