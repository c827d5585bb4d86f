"""Gemini's generateContent as a dialect, and its door: the model and what is asked of it stand in the path.

`/v1beta/models/{model}:generateContent|streamGenerateContent|countTokens` and the list of models; the same below /v1,
where `is_ours` tells a list for Google's clients from OpenAI's. Translates; decides nothing about models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from model_gateway.admission.limits import Quota
from model_gateway.budget.charges import MESSAGE_TOKENS
from model_gateway.budget.tokens import count
from model_gateway.domain.chat import ChatChunk, ChatRequest
from model_gateway.domain.conversation import Conversation
from model_gateway.domain.errors import ErrorKind, GatewayError, InvalidRequest, UnknownModel, UnknownPath
from model_gateway.pipeline import Gateway
from model_gateway.server.http.door import JSON, ChatDoor, send_error
from model_gateway.server.http.errors import status_of
from model_gateway.server.http.options import credential_of, with_options
from model_gateway.server.http.protocol import HttpConnection
from model_gateway.server.http.request import Request
from model_gateway.wire import gemini as wire
from model_gateway.wire.gemini_conversation import conversation, native_fields
from model_gateway.wire.needs import needs_of
from model_gateway.wire.openai import with_field
from model_gateway.wire.protocol import Head

MODELS = "/v1beta/models"
_PATH = re.compile(r"/v1(?:beta)?/models(?:/(?P<asked>.*))?")
_WHOLE, _STREAM, _COUNT = "generateContent", "streamGenerateContent", "countTokens"
_MEDIA_TOKENS = 258
_DOOR = "gemini"
_KEY, _CLIENT = "x-goog-api-key", "x-goog-api-client"

# google.rpc.Code, which Google's SDKs show beside the number.
_STATUSES: Mapping[ErrorKind, str] = {
    ErrorKind.INVALID_REQUEST: "INVALID_ARGUMENT",
    ErrorKind.UNSAFE_PROMPT: "INVALID_ARGUMENT",
    ErrorKind.UNAUTHENTICATED: "UNAUTHENTICATED",
    ErrorKind.PERMISSION_DENIED: "PERMISSION_DENIED",
    ErrorKind.UNKNOWN_MODEL: "NOT_FOUND",
    ErrorKind.UNKNOWN_REQUEST: "NOT_FOUND",
    ErrorKind.UNKNOWN_PATH: "NOT_FOUND",
    ErrorKind.RATE_LIMITED: "RESOURCE_EXHAUSTED",
    ErrorKind.OVERLOADED: "UNAVAILABLE",
    ErrorKind.COST_LIMIT_EXCEEDED: "FAILED_PRECONDITION",
    ErrorKind.ASSESSMENT_FAILED: "INTERNAL",
    ErrorKind.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    ErrorKind.MODEL_UNAVAILABLE: "UNAVAILABLE",
    ErrorKind.INTERNAL: "INTERNAL",
    ErrorKind.UPSTREAM_CONNECT: "UNAVAILABLE",
    ErrorKind.UPSTREAM_TIMEOUT: "DEADLINE_EXCEEDED",
    ErrorKind.UPSTREAM_PROTOCOL: "INTERNAL",
    ErrorKind.UPSTREAM_STATUS: "UNAVAILABLE",
    ErrorKind.STREAM_BROKEN: "UNAVAILABLE",
}


class GeminiDialect:
    """POST {model}:generateContent and :streamGenerateContent."""

    protocol = wire.NAME

    def decode(self, http: Request, request_id: str) -> ChatRequest:
        model, method = _asked(http)
        stream = method == _STREAM
        if stream and _query(http, "alt") != "sse":
            raise InvalidRequest(f"{_STREAM} answers with server-sent events only: add ?alt=sse", param="alt")
        body, fields = wire.decode_generate(http.body)
        if not body.contents:
            raise InvalidRequest("`contents` must hold at least one turn", param="contents")
        native = native_fields(fields)
        said = _conversation(fields, native)
        request = ChatRequest(
            request_id=request_id,
            model=model,
            messages=body.all_messages(),
            body=fields,
            protocol=wire.NAME,
            conversation=None if native else said,
            stream=stream,
            include_usage=True,
            max_tokens=body.max_tokens(),
            required_capabilities=needs_of(said, wire.NAME, native),
        )
        return with_options(request, http)

    def writer(self, head: Head, request: ChatRequest) -> _Writer:  # noqa: ARG002 (every event names its reply)
        return _Writer()

    def error(self, error: GatewayError) -> bytes:
        return wire.error_body(error.message, status_of(error), _STATUSES[error.kind])

    def error_event(self, error: GatewayError) -> bytes:
        return wire.frame(self.error(error))

    def headers(self, request_id: str) -> bytes:  # noqa: ARG002 (this schema's clients look for none)
        return b""

    def quota_headers(self, quota: Quota) -> bytes:  # noqa: ARG002 (as above)
        return b""


def is_ours(http: Request, path: str) -> bool:
    """Below /v1, OpenAI's clients only list."""
    if path.startswith("/v1/models"):
        return http.method == "POST" or _KEY in http.headers or _CLIENT in http.headers
    return path.startswith(MODELS)


def _asked(http: Request) -> tuple[str, str]:
    """The model and what is asked of it."""
    model, _, method = _name(http).rpartition(":")
    return model, method


def _name(http: Request) -> str:
    """What stands behind `models/` in the path."""
    found = _PATH.fullmatch(http.target.partition("?")[0])
    return unquote(found["asked"] or "") if found else ""


def _query(http: Request, name: str) -> str:
    values = parse_qs(http.target.partition("?")[2]).get(name)
    return values[-1] if values else ""


def _conversation(fields: Mapping[str, msgspec.Raw], native: Sequence[str]) -> Conversation:
    """What is asked; of a body that only this schema can say, as much as can be read: its provider judges it."""
    try:
        return conversation(fields)
    except InvalidRequest:
        if not native:
            raise
        return Conversation(turns=())


class _Writer:
    """Events as they came, but for those from the finish reason on: they say that the answer is whole, and are
    written only when the stream has come to its proper end."""

    def __init__(self) -> None:
        self._last: list[bytes] = []

    def chunks(self, chunks: Sequence[ChatChunk]) -> bytes:
        out: list[bytes] = []
        for chunk in chunks:
            data = chunk.data
            if b"\n" in data or b"\r" in data:
                data = msgspec.json.format(data, indent=-1)
            if chunk.finish_reason is not None or self._last:
                self._last.append(data)
            else:
                out.append(wire.frame(data))
        return b"".join(out)

    def end(self, gateway: Mapping[str, Any] | None) -> bytes:
        *events, last = self._last
        if gateway is not None:
            last = with_field(last, "gateway", wire.encode(dict(gateway)))
        return b"".join([wire.frame(data) for data in (*events, last)])


class GeminiDoor:
    """Everything that `is_ours`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._dialect = GeminiDialect()
        self._chat = ChatDoor(_DOOR, gateway, self._dialect)
        self._models = {name: _model(name) for name in gateway.model_owners()}
        self._list = wire.encode({"models": list(self._models.values())})

    async def __call__(self, http: Request, connection: HttpConnection) -> None:
        key = _query(http, "key")
        if key:
            http.headers = {_KEY: key, **http.headers}
        method = _asked(http)[1]
        if http.method == "POST" and method in (_WHOLE, _STREAM):
            await self._chat(http, connection)
            return
        try:
            body = self._answer(http, method)
        except GatewayError as error:
            send_error(error, self._dialect, http, connection)
        else:
            connection.respond(200, JSON, body, http)

    def _answer(self, http: Request, method: str) -> bytes:
        if http.method in ("GET", "HEAD"):
            caller = self._gateway.check_key(credential_of(http))
            name = _name(http)
            offered = None if caller.scope is None else self._gateway.model_owners(caller)
            if not name and offered is None:
                return self._list
            if not name:
                return wire.encode({"models": [_model(name) for name in offered or ()]})
            if name not in (self._models if offered is None else offered):
                raise UnknownModel(f"the model `{name}` does not exist; GET {MODELS} lists what does", param="model")
            return wire.encode(_model(name))
        if http.method != "POST" or method != _COUNT:
            path = http.target.partition("?")[0]
            known = ", ".join(f"POST {MODELS}/{{model}}:{name}" for name in (_WHOLE, _STREAM, _COUNT))
            raise UnknownPath(f"no such path: {http.method} {path}; try {known} or GET {MODELS}")
        self._gateway.check_key(credential_of(http), _DOOR)
        return wire.encode({"totalTokens": _tokens(http.body)})


def _model(name: str) -> dict[str, Any]:
    methods = [_WHOLE, _STREAM, _COUNT]
    return {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods}


def _tokens(body: bytes) -> int:
    """Our own count, as no model need be asked: texts and tools by a vocabulary, a medium as a small image."""
    read, fields = wire.decode_generate(wire.decode_count(body))
    tokens = count(bytes(fields.get("tools", b"")).decode("utf-8", "replace"))
    for message in read.all_messages():
        tokens += count(message.text()) + MESSAGE_TOKENS
        if isinstance(message.content, list):
            tokens += _MEDIA_TOKENS * sum(part.type == "media" for part in message.content)
    return tokens
