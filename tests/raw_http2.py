"""A client of the gRPC door that speaks HTTP/2 frame by frame, and the door for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from model_gateway.config.schema import GrpcOptions, ServerConfig
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.server.grpc.http2 import frames
from model_gateway.server.grpc.http2.frames import DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, frame
from model_gateway.server.grpc.http2.hpack import Decoder, literal
from model_gateway.server.grpc.server import GrpcServer
from scripted_gateway import ScriptedGateway

Frame = tuple[int, int, int, bytes]
PATH = b"/modelgateway.ModelGatewayService/ProcessQuery"
QUERY = pb.ModelRequest(query="why?").SerializeToString()
MESSAGE = b"\0" + len(QUERY).to_bytes(4, "big") + QUERY


def block(path: bytes = PATH, *more: tuple[bytes, bytes]) -> bytes:
    fields = ((b":method", b"POST"), (b":path", path), (b"content-type", b"application/grpc"), *more)
    return b"".join([literal(*field) for field in fields])


def query(stream: int = 1, path: bytes = PATH) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, block(path)) + frame(DATA, END_STREAM, stream, MESSAGE)


class Raw:
    """A client that sends what it is told and answers nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = Decoder(65_536)

    def send(self, *data: bytes) -> None:
        self._writer.write(b"".join(data))

    async def frame(self) -> Frame:
        head = await self._reader.readexactly(9)
        payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
        return head[3], head[4], int.from_bytes(head[5:], "big"), payload

    async def until(self, *kinds: int) -> Frame:
        """The next of these kinds; fails where the connection ends, or nothing comes."""
        async with asyncio.timeout(5):
            while True:
                found = await self.frame()
                if found[0] in kinds:
                    return found

    async def status(self) -> str:
        """Of the call that ends next."""
        while True:
            _, flags, _, payload = await self.until(HEADERS)
            fields = self._decoder.decode(payload)
            if flags & END_STREAM:
                return fields["grpc-status"]

    async def code(self) -> int:
        """Of the goodbye, after which the connection is closed."""
        _, _, _, payload = await self.until(GOAWAY)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            async with asyncio.timeout(5):
                while True:
                    await self.frame()
        return int.from_bytes(payload[4:8], "big")


@asynccontextmanager
async def served(
    gateway: ScriptedGateway | None = None, options: GrpcOptions | None = None, **server: Any
) -> AsyncGenerator[int]:
    door = GrpcServer(gateway or ScriptedGateway(), ServerConfig(port=0, grpc=options or GrpcOptions(), **server))  # pyright: ignore[reportArgumentType]
    port = await door.start()
    try:
        yield port
    finally:
        await door.stop(0)


@asynccontextmanager
async def client(port: int, settings: dict[int, int] | None = None) -> AsyncGenerator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = Raw(reader, writer)
    raw.send(frames.PREFACE, frames.settings(settings or {}))
    try:
        yield raw
    finally:
        writer.close()
