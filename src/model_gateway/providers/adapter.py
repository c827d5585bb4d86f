"""The seam between the gateway and a provider's protocol: four pure functions, no key, clock or client inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from model_gateway.domain.chat import ChatChunk, ChatReply, ChatRequest
from model_gateway.domain.errors import UpstreamError


class WireRequest(msgspec.Struct, frozen=True):
    """What to POST. `path` is relative to the provider's base URL; credentials are added by the upstream client.

    `embeds`: how many vectors are asked for; 0 for an answer in words. `headers`: further header lines of this
    request alone, each ended by CR LF.
    """

    path: str
    body: bytes
    embeds: int = 0
    headers: bytes = b""


class StreamDecoder(Protocol):
    """Turns the events of one stream into chunks."""

    def feed(self, data: bytes) -> ChatChunk | None:
        """One event's data. None: nothing to show. Raises UpstreamError for an error inside the stream."""
        ...

    def finish(self) -> None:
        """The connection ended. Raises StreamBroken unless the protocol's end marker was seen."""
        ...

    @property
    def done(self) -> bool:
        """True once the end marker was seen: nothing after it counts."""
        ...


class Adapter(Protocol):
    """encode → (the wire) → decode | decode_error | stream_decoder."""

    def encode(self, request: ChatRequest, model: str) -> WireRequest:
        """Raises InvalidRequest for what the provider's schema cannot say."""
        ...

    def decode(self, body: bytes, *, embeds: int = 0) -> ChatReply:
        """Raises UpstreamProtocolError. `embeds`: as in the request."""
        ...

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError: ...

    def stream_decoder(self) -> StreamDecoder: ...
