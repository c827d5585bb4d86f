"""Load: N ProcessQuery calls over gRPC, CONCURRENCY at a time. Prints their number and latencies as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import grpc
import uvloop

from model_gateway.pb import gateway_pb2, gateway_pb2_grpc

CONCURRENCY = 16


async def main(port: int, count: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        times: list[float] = []

        async def worker(number: int) -> None:
            for i in range(count // CONCURRENCY):
                begun = time.perf_counter()
                await stub.ProcessQuery(gateway_pb2.ModelRequest(query=f"Explain black hole {number}.{i}.{begun}"))
                times.append(time.perf_counter() - begun)

        await asyncio.gather(*(worker(i) for i in range(CONCURRENCY)))
    times.sort()
    print(
        json.dumps(
            {"requests": len(times), "p50_us": times[len(times) // 2] * 1e6, "p99_us": times[-len(times) // 100] * 1e6}
        )
    )


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
