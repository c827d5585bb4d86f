"""A gRPC server that does nothing but answer ProcessQuery: what grpc.aio itself costs, the floor of the gRPC door."""

from __future__ import annotations

import asyncio
import sys

import grpc
import uvloop

from model_gateway.pb import gateway_pb2, gateway_pb2_grpc

REPLY = gateway_pb2.ModelResponse(response="A black hole is a region of spacetime.", model_used="mock-model")


class Service(gateway_pb2_grpc.ModelGatewayServiceServicer):
    async def ProcessQuery(self, request: object, context: object) -> gateway_pb2.ModelResponse:  # noqa: ARG002, N802
        return REPLY


async def main(port: int) -> None:
    server = grpc.aio.server()
    gateway_pb2_grpc.add_ModelGatewayServiceServicer_to_server(Service(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
