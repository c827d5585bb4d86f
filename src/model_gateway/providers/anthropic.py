"""The adapter for every provider that speaks Anthropic's Messages protocol. Pure: no key, clock or client.

A caller's body of this schema goes upstream as it came but for `model`, `stream`, `anthropic_beta`, which is a header
there, and thoughts that no model signed; any other is translated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from model_gateway.domain.chat import ChatChunk, ChatReply, ChatRequest
from model_gateway.domain.errors import (
    InvalidRequest,
    StreamBroken,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamStatusError,
)
from model_gateway.providers.adapter import StreamDecoder, WireRequest
from model_gateway.providers.statuses import RETRYABLE_STATUSES, retry_after
from model_gateway.wire import anthropic as wire
from model_gateway.wire import anthropic_request
from model_gateway.wire.openai import DECODE_ERRORS
from model_gateway.wire.protocols import conversation_of

_TRUE = msgspec.Raw(b"true")
MESSAGES_PATH = "/messages"
_BETA_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_BLOCK_EVENTS = frozenset(("content_block_start", "content_block_delta", "content_block_stop"))


class AnthropicAdapter:
    """The base URL ends in /v1; `x-api-key` and `anthropic-version` are the endpoint's."""

    protocol = wire.NAME

    def encode(self, request: ChatRequest, model: str) -> WireRequest:
        """Raises InvalidRequest that names what this schema cannot say."""
        if request.embeds:
            raise InvalidRequest("Anthropic's schema has no embeddings: ask another model for them", param="model")
        if request.protocol != wire.NAME:
            body = anthropic_request.request(conversation_of(request), model, request.stream)
            return WireRequest(MESSAGES_PATH, wire.encode(body))
        fields: dict[str, Any] = {**request.body, "model": model}
        if "messages" in fields:
            fields["messages"] = anthropic_request.without_unsigned(fields["messages"])
        if request.stream:
            fields["stream"] = _TRUE
        else:
            fields.pop("stream", None)
        betas = _betas(fields.pop(wire.BETA, wire.ABSENT))
        headers = b"anthropic-beta: " + betas.encode() + b"\r\n" if betas else b""
        return WireRequest(MESSAGES_PATH, wire.encode(fields), headers=headers)

    def decode(self, body: bytes, *, embeds: int = 0) -> ChatReply:  # noqa: ARG002 (`encode` has refused it)
        try:
            reply = wire.decode_reply(body)
            whole = all(_is_whole(block) for block in reply.content)
        except DECODE_ERRORS as error:
            raise UpstreamProtocolError(f"the reply is not a message: {error}") from None
        if not whole:
            raise UpstreamProtocolError("the reply calls a tool without its name or with an input that is no object")
        if not reply.content and not reply.stop_reason:
            raise UpstreamProtocolError("the reply is empty and does not say why")
        return ChatReply(
            text=wire.joined(block.text for block in reply.content if block.type == "text"),
            finish_reason=wire.REASONS.get(reply.stop_reason or "", "stop"),
            usage=reply.usage.usage() if reply.usage else None,
            body=body,
            protocol=wire.NAME,
            model=reply.model or "",
        )

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Status first: the text only explains."""
        # A refused key may be quoted in the explanation, and it is not the caller's.
        refused = status in (401, 403)
        why = "the gateway's key was refused" if refused else _detail_of(body).message or "no explanation"
        return UpstreamStatusError(
            f"the provider answered {status}: {why}"[:500],
            status=status,
            retryable=status in RETRYABLE_STATUSES,
            retry_after_s=retry_after(headers),
            logged=f"the provider answered {status}",
        )

    def stream_decoder(self) -> StreamDecoder:
        return _AnthropicStream()


class _AnthropicStream:
    """`message_stop` is the end marker; nothing else ends a stream properly."""

    __slots__ = ("_begun", "_blocks", "_usage", "done")

    def __init__(self) -> None:
        self._begun = False
        self._blocks: set[int] = set()
        self._usage = wire.WireUsage()
        self.done = False

    def feed(self, data: bytes) -> ChatChunk | None:
        try:
            event = wire.decode_event(data)
            whole = event.content_block is None or _is_whole(event.content_block)
        except DECODE_ERRORS as error:
            raise UpstreamProtocolError(f"the stream holds an event that is not one of a message: {error}") from None
        if event.type == "error":
            raise _error_inside(data)
        if event.type == "ping":
            return None
        if not whole or not self._fits(event):
            raise UpstreamProtocolError(
                f"the stream holds a {event.type[:40]} event that is incomplete or out of order"
            )
        if event.type == "message_stop":
            self.done = True
            return None
        delta = event.delta
        if event.type == "message_start" and event.message is not None:
            return self._counted(data, event.message.usage)
        if event.type == "message_delta" and delta is not None:
            reason = None if delta.stop_reason is None else wire.REASONS.get(delta.stop_reason, "stop")
            return self._counted(data, event.usage, reason)
        if event.type == "content_block_delta" and delta is not None and delta.type == "text_delta":
            return ChatChunk(data=data, text=delta.text or "")
        block = event.content_block
        if block is not None and block.type == "text":
            return ChatChunk(data=data, text=block.text or "")
        # What is no text, or of a kind not known yet, is passed on, but no reply is put together from it.
        return ChatChunk(data=data, plain=event.type == "content_block_stop")

    def _fits(self, event: wire.Event) -> bool:
        """Every reader of this schema relies on the order: the message, its blocks, what is added to a block."""
        kind = event.type
        if kind == "message_start":
            self._begun = True
            return event.message is not None
        if kind == "message_delta":
            return self._begun and event.delta is not None
        if kind == "message_stop":
            return self._begun
        if kind not in _BLOCK_EVENTS:
            return True
        if not self._begun or event.index is None:
            return False
        if kind == "content_block_start":
            self._blocks.add(event.index)
            return event.content_block is not None
        return event.index in self._blocks and (event.delta is not None or kind == "content_block_stop")

    def _counted(self, data: bytes, usage: wire.WireUsage | None, reason: str | None = None) -> ChatChunk:
        if usage is None:
            return ChatChunk(data=data, finish_reason=reason)
        self._usage = self._usage.updated(usage)
        return ChatChunk(data=data, finish_reason=reason, usage=self._usage.usage())

    def finish(self) -> None:
        if not self.done:
            raise StreamBroken("the stream ended before its end marker")


def _betas(raw: msgspec.Raw) -> str:
    """The names of what the caller wants to try, as the header has them. Raises InvalidRequest."""
    if raw is wire.ABSENT:
        return ""
    try:
        names = msgspec.json.decode(raw, type=list[str])
    except DECODE_ERRORS:
        names = [""]
    if not all(_BETA_NAME.fullmatch(name) for name in names):
        raise InvalidRequest(f"`{wire.BETA}` must be a list of names, such as files-api-2025-04-14", param=wire.BETA)
    return ",".join(names)


def _is_whole(block: wire.Block) -> bool:
    """Raises UnicodeDecodeError for an input that is no text."""
    return block.type != "tool_use" or bool(block.name and block.arguments().startswith("{"))


def _detail_of(body: bytes) -> wire.ErrorDetail:
    try:
        return wire.decode_error(body).error
    except DECODE_ERRORS:
        return wire.ErrorDetail()


def _error_inside(data: bytes) -> UpstreamStatusError:
    """An overloaded provider may say so only after it has begun; its error's type stands for the status."""
    detail = _detail_of(data)
    status = wire.ERROR_STATUSES.get(detail.type, 500)
    return UpstreamStatusError(
        f"the provider reported an error inside the stream: {(detail.message or 'no explanation')[:300]}",
        status=status,
        retryable=status in RETRYABLE_STATUSES,
        logged="the provider reported an error inside the stream",
    )
