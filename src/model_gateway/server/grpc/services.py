"""What the gRPC door serves, by path: the service, health (grpc.health.v1) and reflection, and its connections.

Loaded with protobuf when the first client connects (server.py). Decides nothing about a request.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from model_gateway.cohort import Cohort
from model_gateway.pb import gateway_pb2
from model_gateway.server.grpc import reflection
from model_gateway.server.grpc.handlers import handlers_of
from model_gateway.server.grpc.health import Health
from model_gateway.server.grpc.http2.connection import Connection
from model_gateway.server.grpc.http2.limits import Limits
from model_gateway.server.grpc.service import GatewayService

if TYPE_CHECKING:
    from model_gateway.pipeline import Gateway

SERVICE: Final = "modelgateway.ModelGatewayService"


class Services:
    """`reflects`: reflection is served, too. `identity`: what of a client's certificate says who it is."""

    def __init__(self, gateway: Gateway, limits: Limits, identity: str, cohort: Cohort, *, reflects: bool) -> None:
        self.service = GatewayService(gateway)
        self.health = Health(SERVICE)
        self._limits = limits
        self._identity = identity
        self._cohort = cohort
        services, health = gateway_pb2.DESCRIPTOR.services_by_name, health_pb2.DESCRIPTOR.services_by_name["Health"]
        handlers = handlers_of(services["ModelGatewayService"], self.service) | handlers_of(health, self.health)
        if reflects:
            told = reflection.Reflection((SERVICE, health.full_name, reflection.SERVICE))
            handlers |= handlers_of(reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"], told)
        self._handlers = handlers

    def connection(self, loop: asyncio.AbstractEventLoop, connections: set[Connection]) -> Connection:
        """One more of `connections`, which it joins and leaves by itself."""
        return Connection(loop, self._handlers, self._limits, connections, self._cohort, self._identity)
