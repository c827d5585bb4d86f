"""What makes one HTTP door different from another: how its schema is read and written.

A dialect translates; `ChatDoor` (door.py) does everything else. Decides nothing about models and never awaits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from model_gateway.admission.limits import Quota
from model_gateway.domain.chat import ChatChunk, ChatReply, ChatRequest
from model_gateway.domain.errors import GatewayError
from model_gateway.server.http.request import Request
from model_gateway.wire.protocol import DeltaReader, DeltaWriter, Head
from model_gateway.wire.protocols import PROTOCOLS, answer_of


class EventWriter(Protocol):
    """Writes one stream as server-sent events."""

    def chunks(self, chunks: Sequence[ChatChunk]) -> bytes: ...

    def end(self, gateway: Mapping[str, Any] | None) -> bytes:
        """The terminal events; `gateway` is our own words, where they were asked for. Never for a broken stream."""
        ...


class Dialect(Protocol):
    """One door's schema."""

    @property
    def protocol(self) -> str:
        """Its name in `wire.protocols.PROTOCOLS`: replies of this schema pass untouched."""
        ...

    def decode(self, http: Request, request_id: str) -> ChatRequest:
        """Raises InvalidRequest that names the field or header."""
        ...

    def writer(self, head: Head, request: ChatRequest) -> EventWriter:
        """For a stream whose events are of this very schema."""
        ...

    def error(self, error: GatewayError) -> bytes:
        """The body of an error reply."""
        ...

    def error_event(self, error: GatewayError) -> bytes:
        """The last event of a stream that broke, framed."""
        ...

    def headers(self, request_id: str) -> bytes:
        """Header lines that this schema's clients look for, each ended by CR LF; empty for none."""
        ...

    def quota_headers(self, quota: Quota) -> bytes:
        """The same for what the caller's key has left."""
        ...


def translated(dialect: Dialect, reply: ChatReply, head: Head) -> bytes:
    """A whole reply of another schema in the door's."""
    return PROTOCOLS[dialect.protocol].reply(answer_of(reply), head)


class TranslatedWriter:
    """For a stream whose events are of another schema, or of none (`protocol` empty: a replay's deltas)."""

    def __init__(self, dialect: Dialect, protocol: str, head: Head, request: ChatRequest) -> None:
        self._reader: DeltaReader | None = PROTOCOLS[protocol].reader() if protocol else None
        self._writer: DeltaWriter = PROTOCOLS[dialect.protocol].writer(head, request.include_usage)

    def chunks(self, chunks: Sequence[ChatChunk]) -> bytes:
        reader, writer = self._reader, self._writer
        if reader is None:
            return b"".join([writer.feed(chunk.deltas) for chunk in chunks])
        return b"".join([writer.feed(reader.feed(chunk.data)) for chunk in chunks])

    def end(self, gateway: Mapping[str, Any] | None) -> bytes:
        return self._writer.end(gateway)


def stream_writer(dialect: Dialect, protocol: str, head: Head, request: ChatRequest) -> EventWriter:
    """`protocol`: the schema of the stream's events."""
    if protocol == dialect.protocol:
        return dialect.writer(head, request)
    return TranslatedWriter(dialect, protocol, head, request)
