"""The OpenAI-compatible door: /v1/chat/completions and /v1/models. Translates; decides nothing about models.

The gateway's own words travel in headers, so that any OpenAI client works unchanged:
request `x-request-id`, `x-gateway-provider` (preferred), `x-gateway-budget-usd`, `x-gateway-timeout-ms`,
`x-gateway-details: 1` (adds a `gateway` object to the reply), `Cache-Control: no-cache | no-store`;
reply `x-request-id`, `x-gateway-provider|model|tier|score|cache|cost-usd`.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import structlog

from model_gateway.domain.chat import AUTO_MODEL, ChatReply, ChatRequest
from model_gateway.domain.errors import GatewayError, InternalError, InvalidRequest, UnknownModel
from model_gateway.domain.record import Record
from model_gateway.domain.usage import NANO_PER_USD, usd_from_nano
from model_gateway.pipeline import Gateway, ReplyStream, note_failure
from model_gateway.server.http.details import details
from model_gateway.server.http.errors import body_of, status_of
from model_gateway.server.http.protocol import HttpConnection, Request
from model_gateway.wire import openai as wire
from model_gateway.wire.sse import frame, frame_any

_log = structlog.get_logger("model_gateway.http")

_JSON = b"Content-Type: application/json\r\n"
_EVENTS = b"Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"
_DONE = frame(wire.DONE)
_MAX_ID_CHARACTERS = 128
_IMAGE_PARTS = frozenset(("image_url", "input_image"))
_AUDIO_PARTS = frozenset(("input_audio",))


class OpenAIDoor:
    """Handlers for the routes of server/http/routes.py."""

    def __init__(self, gateway: Gateway, started_at: int) -> None:
        self._gateway = gateway
        self._created = started_at
        names = {AUTO_MODEL: "model-gateway"}
        for target in gateway.targets:
            names.setdefault(target.model, target.provider)
        self._owners = names
        self._models = wire.models_body(tuple(names.items()), started_at)

    async def chat(self, http: Request, connection: HttpConnection) -> None:
        record: Record | None = None
        try:
            with self._gateway.journal("http", _request_id(http)) as record:
                caller = self._gateway.admit(credential_of(http), record)
                request = decode_request(http, record.request_id)
                if request.stream:
                    stream = await self._gateway.stream(request, caller, record)
                    await self._send_stream(stream, http, connection, record)
                else:
                    reply = await self._gateway.complete(request, caller, record)
                    self._send_reply(reply, http, connection, record)
        except GatewayError as error:
            send_error(error, http, connection, record.request_id if record else "")
        except Exception as error:  # noqa: BLE001 (the last line of defence: the caller gets a 500, the log the fault)
            _log.exception("unexpected fault", request_id=record.request_id if record else "", error=str(error))
            fault = InternalError("an unexpected fault of the gateway; its log has the details")
            send_error(fault, http, connection, record.request_id if record else "")

    def _send_reply(self, reply: ChatReply, http: Request, connection: HttpConnection, record: Record) -> None:
        body = reply.body
        if "x-gateway-details" in http.headers:
            body = wire.with_field(body, "gateway", wire.encode(details(record)))
        cost = b"x-gateway-cost-usd: %.9f\r\n" % usd_from_nano(record.cost_nano)
        connection.respond(200, _JSON + _facts(record) + cost, body, http)

    async def _send_stream(
        self, stream: ReplyStream, http: Request, connection: HttpConnection, record: Record
    ) -> None:
        """Events as they come. A stream that breaks ends with an error event and without [DONE]."""
        try:
            connection.start_stream(_EVENTS + _facts(record), http)
            async for chunks in stream:
                if len(chunks) == 1:
                    connection.write(frame_any(chunks[0].data))
                else:
                    connection.write(b"".join([frame_any(chunk.data) for chunk in chunks]))
                if connection.write_paused:
                    await connection.drain()
        except GatewayError as error:
            note_failure(record, error)
            connection.write(frame(body_of(error)))
        except BaseException as error:
            stream.abandon(error)
            raise
        else:
            last = _DONE
            if "x-gateway-details" in http.headers:
                chunk = wire.details_chunk(record.request_id, self._created, record.model, details(record))
                last = frame(chunk) + _DONE
            connection.write(last)
        connection.end_stream()

    async def models(self, http: Request, connection: HttpConnection) -> None:
        connection.respond(200, _JSON, self._models, http)

    async def model(self, http: Request, connection: HttpConnection) -> None:
        name = http.target.partition("?")[0].removeprefix("/v1/models/")
        owner = self._owners.get(name)
        if owner is None:
            raise UnknownModel(f"the model `{name}` does not exist; GET /v1/models lists what does", param="model")
        connection.respond(200, _JSON, wire.model_body(name, owner, self._created), http)

    def admit(self, http: Request) -> None:
        """For the routes that only list: the same key is needed, nothing is recorded."""
        self._gateway.check_key(credential_of(http))


def send_error(error: GatewayError, http: Request, connection: HttpConnection, request_id: str = "") -> None:
    if connection.started or connection.transport.is_closing():
        # Too late for a status: a reply that is cut off must not look whole.
        connection.transport.abort()
        return
    headers = _JSON
    if request_id:
        headers += b"x-request-id: %s\r\n" % request_id.encode("latin-1")
    if error.retry_after_s is not None:
        headers += b"Retry-After: %d\r\n" % max(1, round(error.retry_after_s))
    connection.respond(status_of(error), headers, body_of(error), http)


def credential_of(http: Request) -> str:
    """The caller's key: `Authorization: Bearer …`, or `x-api-key`."""
    authorization = http.headers.get("authorization", "")
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return http.headers.get("x-api-key", "")


def decode_request(http: Request, request_id: str) -> ChatRequest:
    """The body and our headers as a ChatRequest. Raises InvalidRequest that names the field or header."""
    body, fields = wire.decode_chat(http.body)
    headers = http.headers
    stream = bool(body.stream)
    max_tokens = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    if max_tokens is not None and max_tokens < 1:
        field = "max_completion_tokens" if body.max_completion_tokens is not None else "max_tokens"
        raise InvalidRequest(f"`{field}` must be at least 1", param=field)
    if not body.messages:
        raise InvalidRequest("`messages` must hold at least one message", param="messages")
    if body.n is not None and not 1 <= body.n <= 128:
        raise InvalidRequest("`n` must be between 1 and 128", param="n")
    caching = headers.get("cache-control", "")
    budget, timeout = headers.get("x-gateway-budget-usd"), headers.get("x-gateway-timeout-ms")
    return ChatRequest(
        request_id=request_id,
        model=body.model,
        messages=body.messages,
        body=fields,
        stream=stream,
        include_usage=bool(stream and body.stream_options and body.stream_options.include_usage),
        max_tokens=max_tokens,
        budget_nano=None if budget is None else _usd(budget),
        timeout_s=None if timeout is None else _seconds(timeout),
        preferred_provider=headers.get("x-gateway-provider", ""),
        required_capabilities=_capabilities(body),
        cache_read=not caching or ("no-cache" not in caching and "no-store" not in caching),
        cache_write="no-store" not in caching,
        explain="x-gateway-details" in headers,
    )


def _capabilities(body: wire.ChatBody) -> frozenset[str]:
    """What the request needs beyond text: models without it are not asked."""
    needed: set[str] = set()
    if wire.present(body.tools):
        needed.add("tools")
    for message in body.messages:
        if isinstance(message.content, list):
            for part in message.content:
                if part.type in _IMAGE_PARTS:
                    needed.add("vision")
                elif part.type in _AUDIO_PARTS:
                    needed.add("audio")
    return frozenset(needed)


def _usd(text: str) -> int:
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal("NaN")
    if not usd.is_finite() or not 0 <= usd <= 1_000_000:
        raise InvalidRequest(
            "header x-gateway-budget-usd must be an amount in USD, such as 0.05", param="x-gateway-budget-usd"
        )
    return int(usd * NANO_PER_USD)


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and len(text) <= 8) or not 0 < int(text) <= 86_400_000:
        raise InvalidRequest(
            "header x-gateway-timeout-ms must be whole milliseconds, such as 30000", param="x-gateway-timeout-ms"
        )
    return int(text) / 1000


def _request_id(http: Request) -> str:
    """The caller's id is echoed where it is harmless in headers and logs; otherwise a new one is made."""
    given = http.headers.get("x-request-id", "")
    if given and len(given) <= _MAX_ID_CHARACTERS and given.isascii() and given.isprintable():
        return given
    return ""


def _facts(record: Record) -> bytes:
    text = (
        f"x-request-id: {record.request_id}\r\nx-gateway-provider: {record.provider}\r\n"
        f"x-gateway-model: {record.model}\r\nx-gateway-tier: {record.tier}\r\n"
        f"x-gateway-score: {record.score:.3f}\r\nx-gateway-cache: {record.cache}\r\n"
    )
    return text.encode("latin-1", "replace")
