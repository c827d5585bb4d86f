"""OpenAI's Responses as a dialect: POST /v1/responses. The gateway itself stores no response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from model_gateway.admission.limits import Quota
from model_gateway.domain.chat import ChatChunk, ChatRequest, Message
from model_gateway.domain.chat import Part as SeenPart
from model_gateway.domain.conversation import Media, Part, Text, ToolResult, Turn
from model_gateway.domain.errors import GatewayError, InvalidRequest
from model_gateway.server.http import quota as quotas
from model_gateway.server.http.errors import body_of, shown
from model_gateway.server.http.options import with_options
from model_gateway.server.http.request import Request
from model_gateway.wire import responses_conversation as wire
from model_gateway.wire.needs import needs_of
from model_gateway.wire.openai import decode_fields, read_body
from model_gateway.wire.protocol import Head
from model_gateway.wire.responses import COMPLETED, INCOMPLETE
from model_gateway.wire.responses_stream import event


class ResponsesDialect:
    protocol = wire.PROTOCOL

    def decode(self, http: Request, request_id: str) -> ChatRequest:
        body, fields = wire.read(http.body), read_body(decode_fields, http.body)
        if not body.model:
            raise InvalidRequest("missing required field `model`", param="model")
        if not body.input and not any(name in fields for name in ("previous_response_id", "conversation", "prompt")):
            raise InvalidRequest("`input` must hold a text or at least one item", param="input")
        if body.max_output_tokens is not None and body.max_output_tokens < 1:
            raise InvalidRequest("`max_output_tokens` must be at least 1", param="max_output_tokens")
        native = wire.native_fields(body, fields)
        # What cannot be read as a conversation is forwarded as it is, or refused by the router.
        conversation = None if native else wire.conversation_of_body(body)
        messages = [_message(turn) for turn in conversation.turns] if conversation is not None else list(_texts(body))
        request = ChatRequest(
            request_id=request_id,
            model=body.model,
            messages=messages,
            body=fields,
            protocol=self.protocol,
            conversation=conversation,
            stream=bool(body.stream),
            include_usage=True,
            max_tokens=body.max_output_tokens,
            required_capabilities=needs_of(conversation, self.protocol, native),
        )
        return with_options(request, http)

    def writer(self, head: Head, request: ChatRequest) -> _Writer:  # noqa: ARG002 (the events name themselves)
        return _Writer()

    def error(self, error: GatewayError) -> bytes:
        return body_of(error)

    def error_event(self, error: GatewayError) -> bytes:
        """With an `error` object inside as well: that is what makes the SDKs raise."""
        found = shown(error)
        fields = {"code": found.code, "message": error.message, "param": error.param}
        return event("error", {"sequence_number": 0, **fields, "error": {"type": found.type, **fields}})

    def headers(self, request_id: str) -> bytes:  # noqa: ARG002 (every door sends x-request-id)
        return b""

    def quota_headers(self, quota: Quota) -> bytes:
        return quotas.openais(quota)


def _message(turn: Turn) -> Message:
    """In the common shape: what is not text keeps its place and its kind."""
    if all(isinstance(part, Text) for part in turn.parts):
        return Message(role=turn.role, content=turn.text())
    return Message(role=turn.role, content=[_part(part) for part in turn.parts])


def _part(part: Part) -> SeenPart:
    text = Turn("user", (part,)).text()
    if isinstance(part, Media):
        return SeenPart(type=part.kind, text=text)
    return SeenPart(type="function_call_output" if isinstance(part, ToolResult) else "text", text=text)


def _texts(body: wire.Body) -> Sequence[Message]:
    """All text of a request that is no conversation of ours: the guard must see it all the same."""
    found = [Message(role="system", content=body.instructions)] if body.instructions else []
    if isinstance(body.input, str):
        return [*found, Message(role="user", content=body.input)]
    for item in body.input:
        text = "\n".join(text for text in wire.texts_of(item) if text)
        if text:
            result = item.type.endswith("_output")
            role = item.role or ("tool" if result else "user" if item.type == "message" else "assistant")
            found.append(Message(role=role, content=text))
    return found


class _Type(msgspec.Struct):
    type: str


_type = msgspec.json.Decoder(_Type).decode


class _Writer:
    """Events as they came. The last one waits until the stream has been settled."""

    def __init__(self) -> None:
        self._last = b""

    def chunks(self, chunks: Sequence[ChatChunk]) -> bytes:
        out: list[bytes] = []
        for chunk in chunks:
            kind = _type(chunk.data).type
            framed = b"event: " + kind.encode() + b"\ndata: " + chunk.data + b"\n\n"
            if kind in (COMPLETED, INCOMPLETE):
                self._last = framed
            else:
                out.append(framed)
        return b"".join(out)

    def end(self, gateway: Mapping[str, Any] | None) -> bytes:
        if gateway is None:
            return self._last
        return event("gateway", {"sequence_number": 0, "gateway": gateway}) + self._last
