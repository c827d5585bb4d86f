"""Load: N chat streams at once over loopback, each read to its [DONE]. Prints chunks and first-chunk time as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time


async def one(port: int, number: int, salt: str) -> tuple[int, float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps(
        {"model": "auto", "stream": True, "messages": [{"role": "user", "content": f"Tell story {number} of {salt}."}]},
        separators=(",", ":"),
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    begun = time.perf_counter()
    writer.write(head.encode() + body)
    first, chunks, tail = 0.0, 0, b""
    while b"[DONE]" not in tail:
        data = await reader.read(65_536)
        if not data:
            raise SystemExit("a stream ended without [DONE]")
        chunks += data.count(b'"delta"')
        if chunks and not first:
            first = time.perf_counter() - begun
        tail = (tail + data)[-64:]
    writer.close()
    return chunks, first


async def main(port: int, streams: int, salt: str) -> None:
    begun = time.perf_counter()
    results = await asyncio.gather(*(one(port, i, salt) for i in range(streams)))
    seconds = time.perf_counter() - begun
    first = sorted(first for _, first in results)
    found = {"chunks": sum(chunks for chunks, _ in results), "seconds": seconds, "first_ms": first[streams // 2] * 1e3}
    print(json.dumps(found))


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
