"""The adapter for every provider that speaks OpenAI's chat-completions protocol. Pure: no key, clock or client.

A body in the same schema goes upstream as it came but for `model`, `stream` and, on streams,
`stream_options.include_usage`, without which nobody would know what a stream cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from model_gateway.domain.chat import OPENAI, ChatChunk, ChatReply, ChatRequest
from model_gateway.domain.errors import StreamBroken, UpstreamError, UpstreamProtocolError, UpstreamStatusError
from model_gateway.providers.adapter import StreamDecoder, WireRequest
from model_gateway.providers.statuses import RETRYABLE_STATUSES, retry_after
from model_gateway.wire import openai as wire
from model_gateway.wire.openai_logprobs import LOGPROBS
from model_gateway.wire.openai_request import limit_field
from model_gateway.wire.protocols import PROTOCOLS, conversation_of

_TRUE = msgspec.Raw(b"true")
_INCLUDE_USAGE = msgspec.Raw(b'{"include_usage":true}')
CHAT_PATH = "/chat/completions"
EMBEDDINGS_PATH = "/embeddings"

MAX_OTHERS = 4
"""After so many chunks in a row that hold more than text (tool calls, thoughts), a stream is not taken to be text."""


class OpenAIAdapter:
    """`defaults`: fields sent when the caller did not set them (the embedded model's sampling)."""

    def __init__(self, defaults: Mapping[str, Any] | None = None) -> None:
        self._defaults = {name: msgspec.Raw(wire.encode(value)) for name, value in (defaults or {}).items()}
        self._models: dict[str, msgspec.Raw] = {}

    def encode(self, request: ChatRequest, model: str) -> WireRequest:
        if request.protocol != OPENAI:
            body = PROTOCOLS[OPENAI].request(conversation_of(request), model, request.stream)
            if request.logprobs:
                body.update(LOGPROBS)
            return WireRequest(CHAT_PATH, wire.encode({**self._defaults, **body}))
        fields: dict[str, msgspec.Raw] = dict(request.body) if request.embeds else {**self._defaults, **request.body}
        raw_model = self._models.get(model)
        if raw_model is None:
            # Bounded by the configuration: `model` is a target's, never the caller's own string.
            raw_model = self._models[model] = msgspec.Raw(wire.encode(model))
        fields["model"] = raw_model
        if request.embeds:
            return WireRequest(EMBEDDINGS_PATH, wire.encode(fields), embeds=wire.texts_in(request.body))
        if request.output_limit is not None:
            fields[limit_field(model)] = msgspec.Raw(wire.encode(request.output_limit))
        if request.logprobs:
            fields.update(LOGPROBS)
        if request.stream:
            fields["stream"] = _TRUE
            fields["stream_options"] = _with_usage(fields.get("stream_options"))
        else:
            fields.pop("stream", None)
            fields.pop("stream_options", None)
        return WireRequest(CHAT_PATH, wire.encode(fields))

    def decode(self, body: bytes, *, embeds: int = 0) -> ChatReply:
        if embeds:
            return _vectors(body, embeds)
        try:
            reply = wire.decode_reply(body)
        except wire.DECODE_ERRORS as error:
            raise UpstreamProtocolError(f"the reply is not a chat completion: {error}") from None
        if not reply.choices:
            raise UpstreamProtocolError("the reply has no choices")
        first = reply.choices[0]
        said = first.message
        if said.silent() and not first.finish_reason:
            raise UpstreamProtocolError("the reply is empty and does not say why")
        calls = said.tool_calls
        if calls and any(call.function is not None and not call.function.name for call in calls):
            raise UpstreamProtocolError("the reply calls a tool without its name")
        return ChatReply(
            text=said.text(),
            finish_reason=first.finish_reason or "stop",
            usage=reply.usage.usage(reply.service_tier) if reply.usage else None,
            body=body,
            model=reply.model or "",
        )

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return decode_error(status, headers, body)

    def stream_decoder(self) -> StreamDecoder:
        return _OpenAIStream()


def decode_error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """For every protocol whose error body holds `error.message`. Status first: the text only explains."""
    detail = _detail_of(body)
    # A refused key may be quoted in the explanation, and it is not the caller's.
    why = "the gateway's key was refused" if status in (401, 403) else detail.message or "no explanation"
    message = f"the provider answered {status}: {why}"[:500]
    return UpstreamStatusError(
        message,
        status=status,
        retryable=status in RETRYABLE_STATUSES,
        param=detail.param,
        retry_after_s=retry_after(headers),
        logged=f"the provider answered {status}",
    )


class _OpenAIStream:
    """`[DONE]` is the end marker; so is a finish_reason for every choice begun: some servers leave the marker out."""

    __slots__ = ("_finished", "_open", "_others", "done")

    def __init__(self) -> None:
        self._open = 0  # a bit for each choice that has begun and not finished
        self._others = 0  # chunks in a row that held more than text
        self._finished = False
        self.done = False

    def feed(self, data: bytes) -> ChatChunk | None:
        if data == wire.DONE:
            if not (self._finished or self._open):
                raise UpstreamProtocolError("the stream ended without an answer")
            self.done = True
            return None
        if self._others < MAX_OTHERS:
            try:
                said = wire.decode_plain_chunk(data).choices[0].delta
            except wire.DECODE_ERRORS:
                self._others += 1
            else:
                self._others = 0
                self._open |= 1
                return ChatChunk(data=data, text=said.content or "")
        try:
            chunk = wire.decode_chunk(data)
        except wire.DECODE_ERRORS as error:
            raise UpstreamProtocolError(f"the stream holds an event that is not a chat chunk: {error}") from None
        if wire.present(chunk.error):
            raise UpstreamStatusError(
                f"the provider reported an error inside the stream: {_error_text(chunk.error)}",
                logged="the provider reported an error inside the stream",
            )
        usage = chunk.usage.usage(chunk.service_tier) if chunk.usage is not None else None
        if not chunk.choices:
            return ChatChunk(data=data, usage=usage, usage_only=usage is not None)
        text, reason, plain = "", None, True
        for choice in chunk.choices:
            bit = 1 << (choice.index & 0xFF)
            if choice.finish_reason:  # some servers say "" with every piece
                self._finished, reason = True, choice.finish_reason
                self._open &= ~bit
            else:
                self._open |= bit
            delta = choice.delta
            if choice.index or not wire.only_text(choice):
                plain = False
            if not choice.index and delta is not None:
                text += delta.text()
        return ChatChunk(data=data, text=text, finish_reason=reason, usage=usage, plain=plain)

    def finish(self) -> None:
        if not (self.done or (self._finished and not self._open)):
            raise StreamBroken("the stream ended before its end marker")


def _vectors(body: bytes, asked: int) -> ChatReply:
    try:
        reply = wire.decode_embeddings(body)
    except wire.DECODE_ERRORS as error:
        raise UpstreamProtocolError(f"the reply is not a list of embeddings: {error}") from None
    if len(reply.data) != asked:
        raise UpstreamProtocolError(f"the reply has {len(reply.data)} embeddings for {asked} texts")
    usage = reply.usage.usage() if reply.usage else None
    return ChatReply(text="", finish_reason="stop", usage=usage, body=body, model=reply.model or "")


def _with_usage(options: msgspec.Raw | None) -> msgspec.Raw:
    if options is None:
        return _INCLUDE_USAGE
    try:
        decoded = msgspec.json.decode(options, type=dict[str, Any])
    except wire.DECODE_ERRORS:
        return _INCLUDE_USAGE
    return msgspec.Raw(wire.encode({**decoded, "include_usage": True}))


def _detail_of(body: bytes) -> wire.ErrorDetail:
    """Providers answer {"error": {...}}, {"error": "text"}, {"message": "text"}, or a page of HTML."""
    try:
        decoded = msgspec.json.decode(body, type=dict[str, Any])
        error: Any = decoded.get("error", decoded)
        if isinstance(error, str):
            return wire.ErrorDetail(message=error)
        return msgspec.convert(error, wire.ErrorDetail, strict=False)
    except wire.DECODE_ERRORS:
        pass
    return wire.ErrorDetail()


def _error_text(raw: msgspec.Raw) -> str:
    return (_detail_of(b'{"error":' + bytes(raw) + b"}").message or "no explanation")[:300]
