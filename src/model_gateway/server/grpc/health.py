"""grpc.health.v1: whether this process takes calls. Decides nothing; it is told when it leaves."""

from __future__ import annotations

import asyncio

from grpc_health.v1 import health_pb2 as pb

from model_gateway.server.grpc.http2.calls import Call
from model_gateway.server.grpc.http2.messages import Code


class Health:
    """Of the whole server, which is called "", and of its services. Named as the protocol wants it."""

    def __init__(self, *services: str) -> None:
        self._status = dict.fromkeys(("", *services), pb.HealthCheckResponse.SERVING)
        self._watchers: set[asyncio.Event] = set()

    async def Check(self, request: pb.HealthCheckRequest, context: Call) -> pb.HealthCheckResponse:  # noqa: N802
        status = self._status.get(request.service)
        if status is None:
            await context.abort(Code.NOT_FOUND, f"there is no service {request.service[:100]!r}")
        return pb.HealthCheckResponse(status=status)

    async def Watch(self, request: pb.HealthCheckRequest, context: Call) -> None:  # noqa: N802
        """The status now, and each time that it changes."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            while True:
                status = self._status.get(request.service, pb.HealthCheckResponse.SERVICE_UNKNOWN)
                await context.write(pb.HealthCheckResponse(status=status))
                await changed.wait()
                changed.clear()
        finally:
            self._watchers.discard(changed)

    def leave(self) -> None:
        """No service takes calls any more."""
        self._status = dict.fromkeys(self._status, pb.HealthCheckResponse.NOT_SERVING)
        for changed in self._watchers:
            changed.set()
