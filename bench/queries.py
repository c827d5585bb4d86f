"""Load: queries.py PORT COUNT short|same KEY: ProcessQuery over gRPC, CONCURRENCY at a time; KEY "" for none.

Prints their number and latencies as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import grpc
import uvloop

from model_gateway.pb import gateway_pb2, gateway_pb2_grpc

CONCURRENCY = 16
FILLER = "Compare renting and buying a flat for a young family. " * 2


async def main(port: int, count: int, kind: str, key: str) -> None:
    salt = time.time_ns()
    metadata = (("authorization", f"Bearer {key}"),) if key else None
    times: list[float] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)

        async def worker(first: int) -> None:
            for number in range(first, count, CONCURRENCY):
                which = "same" if kind == "same" else f"{salt}.{number}"
                query = f"Explain what a black hole is in one sentence, number {which}. {FILLER}"[:100]
                begun = time.perf_counter()
                request = gateway_pb2.ModelRequest(query=query)
                await stub.ProcessQuery(request, metadata=metadata, wait_for_ready=True, timeout=60)
                times.append(time.perf_counter() - begun)

        begun = time.perf_counter()
        await asyncio.gather(*(worker(first) for first in range(CONCURRENCY)))
        seconds = time.perf_counter() - begun
    times.sort()
    p50, p99 = (times[int(len(times) * share)] * 1e6 for share in (0.5, 0.99))
    print(json.dumps({"requests": len(times), "seconds": seconds, "p50_us": p50, "p99_us": p99}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
