"""A forwarder in plain Python on the gateway's loop and parser, which decides nothing: the floor of the HTTP door.

    python yardstick.py PORT UPSTREAM_PORT

What it costs to carry a request and its answer with asyncio.Protocol, httptools and uvloop. The ratio of the gateway to
it is the price of everything that the gateway does with a request, and hardly depends on how fast a machine's Python is
beside its C, as the ratio to nginx does. It forwards what it gets, knows no errors, and is no server for anything else.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import cast

import httptools
import uvloop


class ToProvider(asyncio.Protocol):
    """One connection to the provider; serves one client at a time."""

    def __init__(self, pool: list[ToProvider]) -> None:
        self.pool = pool
        self.client: FromClient | None = None
        self.parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.client is not None:
            self.client.transport.write(data)
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.client = None
        self.parser = httptools.HttpResponseParser(self)
        self.pool.append(self)


class FromClient(asyncio.Protocol):
    def __init__(self, upstream: int, pool: list[ToProvider]) -> None:
        self.upstream, self.pool = upstream, pool
        self.parser = httptools.HttpRequestParser(self)
        self.fields: list[bytes] = []
        self.body: list[bytes] = []
        self.waiting: deque[bytes] = deque()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in (b"content-length", b"host"):
            self.fields.append(name + b": " + value + b"\r\n")

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        body = b"".join(self.body)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: mock\r\n%bContent-Length: %d\r\n\r\n"
        request = head % (b"".join(self.fields), len(body)) + body
        self.fields.clear()
        self.body.clear()
        if self.pool:
            self.send(self.pool.pop(), request)
        else:
            self.waiting.append(request)
            asyncio.get_running_loop().create_task(self.dial())

    async def dial(self) -> None:
        loop = asyncio.get_running_loop()
        _, provider = await loop.create_connection(lambda: ToProvider(self.pool), "127.0.0.1", self.upstream)
        self.send(provider, self.waiting.popleft())

    def send(self, provider: ToProvider, request: bytes) -> None:
        provider.client = self
        provider.transport.write(request)


async def main(port: int, upstream: int) -> None:
    pool: list[ToProvider] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FromClient(upstream, pool), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
