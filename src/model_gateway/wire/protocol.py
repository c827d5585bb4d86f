"""The seam between wire schemas: what a schema must offer so that any door can be answered by any provider.

Pure: no schema opens a connection, reads a clock or knows a key. `wire/protocols.py` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from model_gateway.domain.conversation import Answer, Conversation, Delta


class Head(msgspec.Struct, frozen=True):
    """What a reply says of itself: its id, its model and when it was made (Unix seconds).

    `asked`: the caller's request, which some schemas repeat in part.
    """

    id: str
    model: str
    created: int
    asked: Mapping[str, msgspec.Raw] = {}


class DeltaReader(Protocol):
    """Reads one stream of this schema, whose events an adapter has checked already."""

    def feed(self, data: bytes) -> Sequence[Delta]:
        """What one event's data says."""
        ...


class DeltaWriter(Protocol):
    """Writes one stream of this schema, framed as server-sent events."""

    def feed(self, deltas: Sequence[Delta]) -> bytes: ...

    def end(self, gateway: Mapping[str, Any] | None = None) -> bytes:
        """The terminal events, after the last delta; `gateway`, our own words, before them where they are asked for.

        Never called for a stream that broke.
        """
        ...


class WireProtocol(msgspec.Struct, frozen=True):
    """One schema, as functions.

    `features`: which needs (wire/needs.py) its requests can carry; `protocol:<its name>` is one of them.
    `conversation(body)`: a caller's body, read. Raises InvalidRequest that names the field.
    `request(conversation, model, stream)`: a provider's body, to be encoded. Raises InvalidRequest that names what the
    schema cannot say.
    `answer(body)`: a provider's whole reply, which its adapter has checked already. `reply(answer, head)`: one for a
    caller.
    `reader()`, `writer(head, include_usage)`: of one stream.
    """

    name: str
    features: frozenset[str]
    conversation: Callable[[Mapping[str, msgspec.Raw]], Conversation]
    request: Callable[[Conversation, str, bool], dict[str, Any]]
    answer: Callable[[bytes], Answer]
    reply: Callable[[Answer, Head], bytes]
    reader: Callable[[], DeltaReader]
    writer: Callable[[Head, bool], DeltaWriter]
