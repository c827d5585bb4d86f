"""The adapter for OpenAI's Responses protocol. Pure: no key, clock or client.

A body in the same schema goes upstream as it came but for `model` and `stream`. A stream is complete with
`response.completed` or `response.incomplete`, whose event holds the whole response.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_gateway.domain.chat import ChatChunk, ChatReply, ChatRequest
from model_gateway.domain.errors import (
    InvalidRequest,
    StreamBroken,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamStatusError,
)
from model_gateway.providers.adapter import StreamDecoder, WireRequest
from model_gateway.providers.openai import decode_error
from model_gateway.wire import responses as wire
from model_gateway.wire.openai import DECODE_ERRORS, DONE, encode
from model_gateway.wire.protocols import PROTOCOLS, conversation_of
from model_gateway.wire.responses_conversation import PROTOCOL

_PATH = "/responses"


class ResponsesAdapter:
    def encode(self, request: ChatRequest, model: str) -> WireRequest:
        if request.embeds:
            raise InvalidRequest("this provider's protocol has no embeddings", param="model")
        fields: dict[str, Any]
        if request.protocol == PROTOCOL:
            fields = {**request.body, "model": model}
            fields.pop("stream", None)
            if request.output_limit is not None:
                fields["max_output_tokens"] = request.output_limit
            if request.stream:
                fields["stream"] = True
        else:
            fields = PROTOCOLS[PROTOCOL].request(conversation_of(request), model, request.stream)
        return WireRequest(_PATH, encode(fields))

    def decode(self, body: bytes, *, embeds: int = 0) -> ChatReply:  # noqa: ARG002 (encode refuses embeddings)
        try:
            response = wire.decode_response(body)
        except DECODE_ERRORS as error:
            raise UpstreamProtocolError(f"the reply is not a response: {error}") from None
        if response.status in ("failed", "cancelled"):
            raise _failure(response.error)
        if not response.output and response.status != "incomplete":
            raise UpstreamProtocolError("the reply has no output")
        return ChatReply(
            text=wire.text_of(response),
            finish_reason=response.finish_reason(),
            usage=response.usage.usage(response.service_tier) if response.usage else None,
            body=body,
            protocol=PROTOCOL,
            model=response.model or "",
        )

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return decode_error(status, headers, body)

    def stream_decoder(self) -> StreamDecoder:
        return _ResponsesStream()


class _ResponsesStream:
    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes) -> ChatChunk | None:
        if data == DONE:
            return None
        try:
            event = wire.decode_event(data)
        except DECODE_ERRORS as error:
            raise UpstreamProtocolError(f"the stream holds an event that is not one of a response: {error}") from None
        kind = event.type
        if kind == "error":
            raise _failure(event.error or wire.WireError(message=event.message))
        if kind == wire.FAILED:
            raise _failure(event.response.error if event.response else None)
        if kind == "response.output_text.delta":
            return ChatChunk(data=data, text=event.text())
        if kind not in (wire.COMPLETED, wire.INCOMPLETE):
            # What a text alone needs besides its pieces says nothing new; any other item cannot be made from text.
            plain = event.item is None or event.item.type == "message"
            return ChatChunk(data=data, plain=plain and "refusal" not in kind)
        if event.response is None:
            raise UpstreamProtocolError("the stream's last event holds no response")
        self.done = True
        usage = event.response.usage
        return ChatChunk(
            data=data,
            finish_reason=event.response.finish_reason(),
            usage=usage.usage(event.response.service_tier) if usage is not None else None,
        )

    def finish(self) -> None:
        if not self.done:
            raise StreamBroken("the stream ended before its last event")


def _failure(error: wire.WireError | None) -> UpstreamStatusError:
    why = (error.message if error else None) or "no explanation"
    return UpstreamStatusError(
        f"the provider reported that the response failed: {why[:300]}",
        logged="the provider reported that the response failed",
    )
