"""One HTTP request as the handlers see it, and what a client may send. No behaviour."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Parser(Protocol):
    """What reads a request, llhttp's (httptools)."""

    def feed_data(self, data: bytes) -> None: ...
    def get_method(self) -> bytes: ...
    def should_upgrade(self) -> bool: ...
    def get_http_version(self) -> str: ...
    def should_keep_alive(self) -> bool: ...


class Limits:
    """Bytes and seconds; computed once per configuration."""

    __slots__ = ("body_bytes", "body_s", "header_bytes", "header_s", "idle_s")

    def __init__(self, header_bytes: int, body_bytes: int, header_s: float, body_s: float, idle_s: float) -> None:
        self.header_bytes = header_bytes
        self.body_bytes = body_bytes
        self.header_s = header_s
        self.body_s = body_s
        self.idle_s = idle_s


class Request(msgspec.Struct):
    """One request, whole. Header names are lower-case; a repeated header keeps its last value. Nobody changes the
    headers: those of the connection's next request may be the same object.

    `identities`: of the connection's client certificate. `chunked`: false for HTTP/1.0 clients, whose streams end with
    the connection.
    """

    method: str = ""
    target: str = ""
    headers: dict[str, str] = {}
    identities: tuple[str, ...] = ()
    body: bytes = b""
    chunked: bool = True
    keep_alive: bool = True
