"""Anthropic's Messages schema: what of it the gateway reads, its usage and its errors.

Reads only the fields that decide something; every other field of a request stays undecoded and reaches a provider of
this schema as it came. Never opens a connection and never reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from model_gateway.domain.chat import Message, Part
from model_gateway.domain.conversation import FinishReason
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.usage import Usage
from model_gateway.wire.openai import ABSENT, invalid_field

NAME = "anthropic"
# The header `anthropic-beta` as a field, as other clouds that serve this schema have it: it travels with the body.
BETA = "anthropic_beta"
_MAX_DEPTH = 3
EMPTY_OBJECT = msgspec.Raw(b"{}")

REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    # A turn paused between a provider's own tools is cut short, not finished.
    "pause_turn": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
STOP_REASONS: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
# What an error's type means as a status: errors inside a stream have no status of their own.
ERROR_STATUSES: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


# --- a request, as far as a door looks at it --------------------------------------------------------------------------


class SeenBlock(msgspec.Struct):
    """Any content block, known or not: its text is what a guard must see."""

    type: str
    text: str | None = None
    content: msgspec.Raw = ABSENT
    input: msgspec.Raw = ABSENT
    source: msgspec.Raw = ABSENT

    def texts(self, depth: int = 0) -> Iterator[str]:
        if self.text:
            yield self.text
        if self.input is not ABSENT:
            yield _text(self.input)
        elif self.content is not ABSENT:
            yield from _texts_in(self.content, depth)
        elif self.type == "document" and self.source is not ABSENT:
            yield from _document_texts(self.source, depth)


class _Source(msgspec.Struct):
    type: str = ""
    data: str = ""
    content: msgspec.Raw = ABSENT


def _text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode("utf-8", "replace")


def _texts_in(raw: msgspec.Raw, depth: int) -> Iterator[str]:
    """A result's content: text, or blocks that may hold it. Content of another shape (a server tool's) has no text."""
    if depth == _MAX_DEPTH:
        # Nothing that the schema allows is so deep; as it is, it cannot hide anything.
        yield _text(raw)
        return
    try:
        content = _seen_content(raw)
    except msgspec.ValidationError:
        return
    if isinstance(content, str):
        yield content
    else:
        for block in content or ():
            yield from block.texts(depth + 1)


def _document_texts(raw: msgspec.Raw, depth: int) -> Iterator[str]:
    try:
        source = _source(raw)
    except msgspec.ValidationError:
        return
    if source.type == "text":
        yield source.data
    elif source.content is not ABSENT:
        yield from _texts_in(source.content, depth)


class SeenMessage(msgspec.Struct):
    role: str
    content: str | list[SeenBlock] | None = None

    def message(self) -> Message:
        """The same in the common shape."""
        if isinstance(self.content, str) or self.content is None:
            return Message(role=self.role, content=self.content)
        parts = [Part(type=block.type, text="\n".join(block.texts())) for block in self.content]
        return Message(role=self.role, content=parts)


class MessagesBody(msgspec.Struct):
    """The fields of a request that the gateway itself reads. `max_tokens` is missing where tokens are only counted."""

    model: str
    messages: list[SeenMessage]
    system: str | list[SeenBlock] | None = None
    stream: bool | None = None
    max_tokens: int | None = None

    def all_messages(self) -> list[Message]:
        """System prompt and turns in the common shape."""
        found = [message.message() for message in self.messages]
        if self.system:
            found.insert(0, SeenMessage("system", self.system).message())
        return found


_decode_body = msgspec.json.Decoder(MessagesBody).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_seen_content = msgspec.json.Decoder(str | list[SeenBlock] | None).decode
_source = msgspec.json.Decoder(_Source).decode


def decode_messages(body: bytes) -> tuple[MessagesBody, dict[str, msgspec.Raw]]:
    """The fields we read, and all fields as they came. Raises InvalidRequest that names the field."""
    try:
        if not body.isascii():
            body.decode()  # fields that are skipped are not checked for it, and are read later
        return _decode_body(body), _decode_fields(body)
    except msgspec.ValidationError as error:
        raise invalid_field(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the request body is not valid JSON: {error}") from None


# --- replies and events -----------------------------------------------------------------------------------------------


class CacheCreation(msgspec.Struct):
    ephemeral_1h_input_tokens: int | None = None


class OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """`input_tokens` leaves out what the cache read or wrote: the three add up to the whole input."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None
    cache_creation: CacheCreation | None = None
    service_tier: Any = None

    def updated(self, later: WireUsage) -> WireUsage:
        """Counts are cumulative: a later one replaces an earlier one, a missing one leaves it."""
        names = self.__struct_fields__
        values = {name: getattr(later, name) for name in names if getattr(later, name) is not None}
        return msgspec.structs.replace(self, **values)

    def usage(self) -> Usage:
        """As counted by the provider; missing counts are 0, and so are negative ones."""
        read, wrote = _count(self.cache_read_input_tokens), _count(self.cache_creation_input_tokens)
        details, kept = self.output_tokens_details, self.cache_creation
        return Usage(
            _count(self.input_tokens) + wrote + read,
            _count(self.output_tokens),
            read,
            _count(details.thinking_tokens) if details else 0,
            cache_write_tokens=wrote,
            cache_write_1h_tokens=min(_count(kept.ephemeral_1h_input_tokens), wrote) if kept else 0,
            service_tier="batch" if self.service_tier == "batch" else "",  # no other has a price of its own
        )


def _count(tokens: int | None) -> int:
    return max(tokens or 0, 0)


def usage_fields(usage: Usage | None) -> dict[str, Any]:
    """Zeros where nothing is known: the schema wants the numbers."""
    usage = usage or Usage()
    fields: dict[str, Any] = {
        "input_tokens": max(usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens, 0),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        fields["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return fields


class Block(msgspec.Struct):
    """A block of an answer; of a type we do not know, only the type."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = EMPTY_OBJECT

    def arguments(self) -> str:
        """A call's arguments as JSON text. Raises UnicodeDecodeError for bytes that are none."""
        return bytes(self.input).decode()


class StopDetails(msgspec.Struct):
    explanation: str | None = None


class Reply(msgspec.Struct):
    content: list[Block]
    model: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None
    usage: WireUsage | None = None


class EventDelta(msgspec.Struct):
    """What `content_block_delta` adds to a block, or `message_delta` says of the message."""

    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None


class Event(msgspec.Struct):
    """Any event of a stream."""

    type: str
    index: int | None = None
    message: Reply | None = None
    content_block: Block | None = None
    delta: EventDelta | None = None
    usage: WireUsage | None = None
    error: msgspec.Raw = ABSENT


class ErrorDetail(msgspec.Struct):
    type: str = ""
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: ErrorDetail


decode_reply = msgspec.json.Decoder(Reply, strict=False).decode
decode_event = msgspec.json.Decoder(Event, strict=False).decode
decode_error = msgspec.json.Decoder(_ErrorBody).decode
encode = msgspec.json.encode


def error_body(message: str, kind: str, request_id: str = "") -> bytes:
    """The error object that Anthropic's SDKs turn into typed exceptions."""
    body: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": message}}
    if request_id:
        body["request_id"] = request_id
    return encode(body)


def frame(kind: str, fields: Mapping[str, Any]) -> bytes:
    """One event of this schema, which names its type twice."""
    return framed(kind, encode({"type": kind, **fields}))


def framed(kind: str, data: bytes) -> bytes:
    """One event from JSON that holds no line break."""
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def joined(texts: Iterable[str | None]) -> str:
    return "".join(text for text in texts if text)
