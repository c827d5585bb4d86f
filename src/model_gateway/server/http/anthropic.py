"""Anthropic's Messages as a dialect, counting of tokens, list of models. Translates; decides nothing about models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from model_gateway.admission.limits import Quota
from model_gateway.budget.charges import MESSAGE_TOKENS
from model_gateway.budget.tokens import count
from model_gateway.domain.chat import ChatChunk, ChatRequest
from model_gateway.domain.conversation import Conversation
from model_gateway.domain.errors import ErrorKind, GatewayError, InvalidRequest, UnknownModel
from model_gateway.pipeline import Gateway
from model_gateway.server.http import quota as quotas
from model_gateway.server.http.door import JSON, send_error
from model_gateway.server.http.options import credential_of, with_options
from model_gateway.server.http.protocol import HttpConnection
from model_gateway.server.http.request import Request
from model_gateway.wire import anthropic as wire
from model_gateway.wire.anthropic_conversation import conversation, native_fields
from model_gateway.wire.needs import needs_of
from model_gateway.wire.protocol import Head

# The `type` that Anthropic's SDKs expect; their exceptions go by the status.
_TYPES: Mapping[ErrorKind, str] = {
    ErrorKind.INVALID_REQUEST: "invalid_request_error",
    ErrorKind.UNSAFE_PROMPT: "invalid_request_error",
    ErrorKind.UNAUTHENTICATED: "authentication_error",
    ErrorKind.PERMISSION_DENIED: "permission_error",
    ErrorKind.UNKNOWN_MODEL: "not_found_error",
    ErrorKind.UNKNOWN_REQUEST: "not_found_error",
    ErrorKind.UNKNOWN_PATH: "not_found_error",
    ErrorKind.RATE_LIMITED: "rate_limit_error",
    ErrorKind.OVERLOADED: "overloaded_error",
    ErrorKind.COST_LIMIT_EXCEEDED: "billing_error",
    ErrorKind.ASSESSMENT_FAILED: "api_error",
    ErrorKind.DEADLINE_EXCEEDED: "timeout_error",
    ErrorKind.MODEL_UNAVAILABLE: "overloaded_error",
    ErrorKind.INTERNAL: "api_error",
    ErrorKind.UPSTREAM_CONNECT: "api_error",
    ErrorKind.UPSTREAM_TIMEOUT: "timeout_error",
    ErrorKind.UPSTREAM_PROTOCOL: "api_error",
    ErrorKind.UPSTREAM_STATUS: "api_error",
    ErrorKind.STREAM_BROKEN: "api_error",
}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")
_EVENT_TYPE = re.compile(rb'\s*\{\s*"type"\s*:\s*"([A-Za-z0-9_]+)"')
_IMAGE_TOKENS = 1600
_DETAILS = "gateway"
DOOR = "anthropic"


class AnthropicDialect:
    """POST /v1/messages."""

    protocol = wire.NAME

    def decode(self, http: Request, request_id: str) -> ChatRequest:
        body, fields = wire.decode_messages(http.body)
        if body.max_tokens is None:
            raise InvalidRequest("missing required field `max_tokens`", param="max_tokens")
        if body.max_tokens < 0:
            raise InvalidRequest("`max_tokens` must be at least 1", param="max_tokens")
        if not body.messages:
            raise InvalidRequest("`messages` must hold at least one message", param="messages")
        betas = [name.strip() for name in http.headers.get("anthropic-beta", "").split(",") if name.strip()]
        if betas:
            fields[wire.BETA] = msgspec.Raw(wire.encode(betas))
        native = native_fields(fields)
        said = _conversation(fields, native)
        request = ChatRequest(
            request_id=request_id,
            model=body.model,
            messages=body.all_messages(),
            body=fields,
            protocol=wire.NAME,
            conversation=None if native else said,
            stream=bool(body.stream),
            include_usage=True,
            max_tokens=body.max_tokens or None,
            required_capabilities=needs_of(said, wire.NAME, native),
        )
        return with_options(request, http)

    def writer(self, head: Head, request: ChatRequest) -> _Writer:  # noqa: ARG002 (the first event names the message)
        return _Writer()

    def error(self, error: GatewayError) -> bytes:
        return wire.error_body(error.message, _TYPES[error.kind])

    def error_event(self, error: GatewayError) -> bytes:
        return wire.framed("error", self.error(error))

    def headers(self, request_id: str) -> bytes:
        return b"request-id: " + request_id.encode("latin-1", "replace") + b"\r\n"

    def quota_headers(self, quota: Quota) -> bytes:
        return quotas.anthropics(quota)


def _conversation(fields: Mapping[str, msgspec.Raw], native: Sequence[str]) -> Conversation:
    """What is asked; of a body that only this schema can say, as much as can be read: its provider judges it."""
    try:
        return conversation(fields)
    except InvalidRequest:
        if not native:
            raise
        return Conversation(turns=())


class _Writer:
    """Events as they came. `message_stop` is ours to write: only after the stream has come to its proper end."""

    def chunks(self, chunks: Sequence[ChatChunk]) -> bytes:
        return b"".join([wire.framed(_type_of(data), data) for data in _lines(chunks)])

    def end(self, gateway: Mapping[str, Any] | None) -> bytes:
        stop = wire.frame("message_stop", {})
        return stop if gateway is None else wire.frame(_DETAILS, {_DETAILS: dict(gateway)}) + stop


def _lines(chunks: Sequence[ChatChunk]) -> Iterator[bytes]:
    """The events' data, each on one line."""
    for chunk in chunks:
        data = chunk.data
        yield msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data


def _type_of(data: bytes) -> str:
    """The event's name: clients skip events without one."""
    found = _EVENT_TYPE.match(data)
    return found[1].decode() if found else _NOT_IN_NAMES.sub("_", wire.decode_event(data).type)


class TokenCounter:
    """POST /v1/messages/count_tokens: our own count, as no model need be asked.

    Texts and tools by a vocabulary, an image as the most that a resized one takes; documents only by their text.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._dialect = AnthropicDialect()

    async def __call__(self, http: Request, connection: HttpConnection) -> None:
        try:
            self._gateway.check_key(credential_of(http), DOOR)
            body, fields = wire.decode_messages(http.body)
            if not body.messages:
                raise InvalidRequest("`messages` must hold at least one message", param="messages")
        except GatewayError as error:
            send_error(error, self._dialect, http, connection)
            return
        connection.respond(200, JSON, wire.encode({"input_tokens": _tokens(body, fields)}), http)


class AnthropicModels:
    """GET /v1/models and /v1/models/{id} as Anthropic tells them: for clients that send its version header."""

    def __init__(self, gateway: Gateway, started_at: int) -> None:
        self._gateway = gateway
        self._dialect = AnthropicDialect()
        since = datetime.fromtimestamp(started_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._models = {
            name: {"type": "model", "id": name, "display_name": name, "created_at": since, "lifecycle": "active"}
            for name in gateway.model_owners()
        }
        self._list = _listed(list(self._models.values()))

    async def __call__(self, http: Request, connection: HttpConnection) -> None:
        name = http.target.partition("?")[0].removeprefix("/v1/models").removeprefix("/")
        try:
            caller = self._gateway.check_key(credential_of(http))
            offered = self._models if caller.scope is None else self._gateway.model_owners(caller)
            model = self._models[name] if name in offered else None
            if name and model is None:
                raise UnknownModel(f"the model `{name}` does not exist; GET /v1/models lists what does", param="model")
        except GatewayError as error:
            send_error(error, self._dialect, http, connection)
            return
        if model is not None:
            body = wire.encode(model)
        else:
            body = self._list if offered is self._models else _listed([self._models[name] for name in offered])
        connection.respond(200, JSON, body, http)


def _listed(models: Sequence[Mapping[str, str]]) -> bytes:
    ends = {"first_id": models[0]["id"], "last_id": models[-1]["id"]}
    return wire.encode({"data": models, "has_more": False, **ends})


def is_anthropics(http: Request) -> bool:
    return "anthropic-version" in http.headers


def _tokens(body: wire.MessagesBody, fields: Mapping[str, msgspec.Raw]) -> int:
    tokens = count(bytes(fields.get("tools", b"")).decode("utf-8", "replace"))
    for message in body.all_messages():
        tokens += count(message.text()) + MESSAGE_TOKENS
        if isinstance(message.content, list):
            tokens += _IMAGE_TOKENS * sum(part.type == "image" for part in message.content)
    return tokens
