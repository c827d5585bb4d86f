"""The control plane's HTTP server: /health, /health/live, /health/ready, /metrics, the admin API (admin.py), the
dashboard (dashboard.py).

It shares the event loop with the doors, so that `/health/live` answers exactly as long as the loop turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Generator

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from model_gateway.config.errors import StartupError
from model_gateway.config.schema import ServerConfig
from model_gateway.control import dashboard
from model_gateway.control.admin import PATHS, Admin
from model_gateway.control.asgi import Config, Server
from model_gateway.control.health import Health
from model_gateway.control.secure import listen_with_tls
from model_gateway.tls.door import TlsDoor

MAX_CONNECTIONS = 256
STOP_S = 2
_NO_STORE = {"Cache-Control": "no-store"}
_INDEX = {
    "name": "model-gateway control plane",
    "paths": {
        "/health": "what works and what does not; 503 when unhealthy",
        "/health/live": "200 while the process serves",
        "/health/ready": "200 when new requests are welcome, else 503",
        "/metrics": "Prometheus text format",
        "/dashboard": "a page for people; it asks for the admin token",
    },
    "admin": PATHS,
}


class ControlPlane:
    """One port. `start` once, then `stop` once. `render_metrics` returns body and content type; None: disabled."""

    def __init__(
        self,
        config: ServerConfig,
        health: Callable[[], Health],
        render_metrics: Callable[[], Awaitable[tuple[bytes, str]]] | None,
        admin: Admin | None = None,
        tls: TlsDoor | None = None,
    ) -> None:
        self._config = config
        self._tls = tls
        self._health = health
        self._render_metrics = render_metrics
        self._admin = admin
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Serve, and return the port. Raises StartupError when it is taken or may not be used."""
        routes = [
            Route("/", self._index),
            Route("/health", self._whole_health),
            Route("/health/live", self._live),
            Route("/health/ready", self._ready),
            Route("/metrics", self._metrics),
            *dashboard.routes(),
            *([self._admin.mount()] if self._admin is not None else []),
        ]
        listener = _listen(self._config.control_host, self._config.control_port)
        self._server = server = _Server(
            Config(
                Starlette(routes=routes),
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_graceful_shutdown=STOP_S,
            ),
            self._tls,
        )
        port = int(listener.getsockname()[1])
        self._serving = asyncio.create_task(server.serve(sockets=[listener]), name="control plane")
        listening = asyncio.create_task(server.listening.wait())
        await asyncio.wait((self._serving, listening), return_when=asyncio.FIRST_COMPLETED)
        if not server.listening.is_set():
            listening.cancel()
            await self._serving  # shows why it ended
        return port

    async def stop(self) -> None:
        """Answer what was asked already, then close."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving

    async def _index(self, _request: Request) -> Response:
        return _json(200, _INDEX)

    async def _whole_health(self, _request: Request) -> Response:
        health = self._health()
        # A degraded gateway still answers: 503 would make load balancers and orchestrators take it away.
        return _json(503 if health.status == "unhealthy" else 200, health)

    async def _live(self, _request: Request) -> Response:
        return _json(200, {"status": "alive"})

    async def _ready(self, _request: Request) -> Response:
        ready = self._health().ready
        return _json(200 if ready else 503, {"status": "ready" if ready else "not ready"})

    async def _metrics(self, _request: Request) -> Response:
        if self._render_metrics is None:
            return PlainTextResponse("metrics are disabled; set monitoring.enabled to true\n", 404)
        body, content_type = await self._render_metrics()
        return Response(body, headers={"Content-Type": content_type, **_NO_STORE})


class _Server(Server):
    """uvicorn inside a running application: it tells when it listens, and leaves signals to the application."""

    def __init__(self, config: Config, tls: TlsDoor | None = None) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets if self._tls is None else [])
        if self._tls is not None:
            listen_with_tls(self, self._tls, sockets or ())
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _json(status: int, content: object) -> Response:
    return Response(msgspec.json.encode(content), status, _NO_STORE, "application/json")


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, or a StartupError that says which option to change."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        where = f"control plane port {port} on {host}"
        if error.errno == errno.EADDRINUSE:
            what, remedy = f"the {where} is already in use", "stop the other program or set CONTROL_PORT"
        elif error.errno == errno.EACCES:
            what, remedy = f"no permission to listen on the {where}", "choose a port above 1023 with CONTROL_PORT"
        else:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            what, remedy = f"cannot listen on the {where}: {reason}", "check server.controlHost and CONTROL_PORT"
        raise StartupError(what, f"{remedy} or server.controlPort") from None
