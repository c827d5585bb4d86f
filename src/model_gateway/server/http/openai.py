"""OpenAI's chat completions as a dialect, and the list of models. Translates; decides nothing about models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from model_gateway.admission.limits import Quota
from model_gateway.domain.caller import Caller
from model_gateway.domain.chat import ChatChunk, ChatRequest
from model_gateway.domain.errors import GatewayError, InvalidRequest, UnknownModel
from model_gateway.pipeline import Gateway
from model_gateway.server.http import quota as quotas
from model_gateway.server.http.door import JSON
from model_gateway.server.http.errors import body_of
from model_gateway.server.http.options import credential_of, with_options
from model_gateway.server.http.protocol import HttpConnection
from model_gateway.server.http.request import Request
from model_gateway.wire import needs
from model_gateway.wire import openai as wire
from model_gateway.wire.openai_conversation import PORTABLE
from model_gateway.wire.protocol import Head
from model_gateway.wire.sse import frame, frame_any

_DONE = frame(wire.DONE)
_PART_NEEDS = {
    "image_url": needs.VISION,
    "input_image": needs.VISION,
    "input_audio": needs.AUDIO,
    "file": needs.FILES,
}
# Fields that no model needs to be asked about: the most common requests hold no other.
_PLAIN = frozenset(
    ("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p")
) | {"stop", "user", "metadata", "store"}
_FIELD_NEEDS = {"seed": needs.SEED, "frequency_penalty": needs.PENALTIES, "presence_penalty": needs.PENALTIES}
_NATIVE = needs.native("openai")
# What such a field says when it asks for nothing special; `false` unless named here.
_IDLE = {
    "n": b"1",
    "logit_bias": b"{}",
    "modalities": b'["text"]',
    "verbosity": b'"medium"',
    "function_call": b'"none"',
}


class OpenAIDialect:
    """POST /v1/chat/completions."""

    protocol = "openai"

    def decode(self, http: Request, request_id: str) -> ChatRequest:
        body, fields = wire.decode_chat(http.body)
        stream = bool(body.stream)
        max_tokens = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
        if max_tokens is not None and max_tokens < 1:
            field = "max_completion_tokens" if body.max_completion_tokens is not None else "max_tokens"
            raise InvalidRequest(f"`{field}` must be at least 1", param=field)
        if not body.messages:
            raise InvalidRequest("`messages` must hold at least one message", param="messages")
        if body.n is not None and not 1 <= body.n <= 128:
            raise InvalidRequest("`n` must be between 1 and 128", param="n")
        request = ChatRequest(
            request_id=request_id,
            model=body.model,
            messages=body.messages,
            body=fields,
            stream=stream,
            include_usage=bool(stream and body.stream_options and body.stream_options.include_usage),
            max_tokens=max_tokens,
            required_capabilities=_needs(body, fields),
        )
        return with_options(request, http)

    def writer(self, head: Head, request: ChatRequest) -> _Writer:  # noqa: ARG002 (the chunks name themselves)
        return _Writer(head)

    def error(self, error: GatewayError) -> bytes:
        return body_of(error)

    def error_event(self, error: GatewayError) -> bytes:
        return frame(body_of(error))

    def headers(self, request_id: str) -> bytes:  # noqa: ARG002 (every door sends x-request-id)
        return b""

    def quota_headers(self, quota: Quota) -> bytes:
        return quotas.openais(quota)


class _Writer:
    """Chunks as they came. `[DONE]` is ours to write: only after the stream has come to its proper end."""

    def __init__(self, head: Head) -> None:
        self._head = head

    def chunks(self, chunks: Sequence[ChatChunk]) -> bytes:
        if len(chunks) == 1:
            return frame_any(chunks[0].data)
        return b"".join([frame_any(chunk.data) for chunk in chunks])

    def end(self, gateway: Mapping[str, Any] | None) -> bytes:
        if gateway is None:
            return _DONE
        head = self._head
        return frame(wire.details_chunk(head.id, head.created, head.model, dict(gateway))) + _DONE


def _needs(body: wire.ChatBody, fields: Mapping[str, msgspec.Raw]) -> frozenset[str]:
    """What the request needs beyond text: targets without it are not asked."""
    found: set[str] = set()
    for message in body.messages:
        if isinstance(message.content, list):
            found.update([_PART_NEEDS[part.type] for part in message.content if part.type in _PART_NEEDS])
    if fields.keys() <= _PLAIN:
        return frozenset(found)
    for name in fields.keys() - _PLAIN:
        if not wire.present(fields[name]):
            continue
        if name == "tools":
            found.add(needs.TOOLS)
        elif name in _FIELD_NEEDS:
            found.add(_FIELD_NEEDS[name])
        elif name == "response_format":
            if body.response_format is not None and body.response_format.type == "json_schema":
                found.add(needs.JSON_SCHEMA)
        elif name not in PORTABLE and bytes(fields[name]) != _IDLE.get(name, b"false"):
            found.add(_NATIVE)
    return frozenset(found)


class ModelList:
    """GET /v1/models and /v1/models/{id}."""

    def __init__(self, gateway: Gateway, started_at: int) -> None:
        self._gateway = gateway
        self._created = started_at
        self._owners = gateway.model_owners()
        self._body = wire.models_body(tuple(self._owners.items()), started_at)

    async def models(self, http: Request, connection: HttpConnection) -> None:
        owners = self._owners_for(self._gateway.check_key(credential_of(http)))
        body = self._body if owners is self._owners else wire.models_body(tuple(owners.items()), self._created)
        connection.respond(200, JSON, body, http)

    async def model(self, http: Request, connection: HttpConnection) -> None:
        name = http.target.partition("?")[0].removeprefix("/v1/models/")
        owner = self._owners_for(self._gateway.check_key(credential_of(http))).get(name)
        if owner is None:
            raise UnknownModel(f"the model `{name}` does not exist; GET /v1/models lists what does", param="model")
        connection.respond(200, JSON, wire.model_body(name, owner, self._created), http)

    def _owners_for(self, caller: Caller) -> Mapping[str, str]:
        """The same key is needed as to ask; nothing is recorded."""
        return self._owners if caller.scope is None else self._gateway.model_owners(caller)
