"""One door for chat requests in any schema: journal, admission, the reply or the stream, and every error's way out.

What the gateway did travels in reply headers: `x-request-id`, `x-gateway-provider|model|tier|score|cache|attempts`, of
a cascade `x-gateway-cascade`, and, on whole replies, `x-gateway-cost-usd`. Knows no schema (a Dialect reads and writes
it) and decides nothing.
"""

from __future__ import annotations

import math

import structlog

from model_gateway.domain.chat import ChatChunk, ChatReply, ChatRequest
from model_gateway.domain.errors import GatewayError, InternalError
from model_gateway.domain.record import Record
from model_gateway.domain.usage import usd_from_nano
from model_gateway.pipeline import Gateway
from model_gateway.recording import note_failure
from model_gateway.server.http.details import details
from model_gateway.server.http.dialect import Dialect, stream_writer, translated
from model_gateway.server.http.errors import status_of
from model_gateway.server.http.options import credential_of, request_id_of
from model_gateway.server.http.protocol import HttpConnection
from model_gateway.server.http.request import Request
from model_gateway.streams import ReplyStream
from model_gateway.wire.openai import encode, with_field
from model_gateway.wire.protocol import Head

_log = structlog.get_logger("model_gateway.http")

JSON = b"Content-Type: application/json\r\n"
_EVENTS = b"Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"


class ChatDoor:
    """`name` is the record's `door`."""

    def __init__(self, name: str, gateway: Gateway, dialect: Dialect) -> None:
        self._name = name
        self._gateway = gateway
        self.dialect = dialect

    async def __call__(self, http: Request, connection: HttpConnection) -> None:
        record: Record | None = None
        try:
            with self._gateway.journal(self._name, request_id_of(http)) as record:
                caller = self._gateway.admit(credential_of(http), record)
                request = self.dialect.decode(http, record.request_id)
                if request.stream:
                    stream = await self._gateway.stream(request, caller, record)
                    await self._send_stream(stream, request, http, connection, record)
                else:
                    reply = await self._gateway.complete(request, caller, record)
                    self._send_reply(reply, request, http, connection, record)
        except GatewayError as error:
            send_error(error, self.dialect, http, connection, record.request_id if record else "", self._left(record))
        except Exception as error:  # noqa: BLE001 (the last line of defence: the caller gets a 500, the log the fault)
            _log.exception("unexpected fault", request_id=record.request_id if record else "", error=str(error))
            fault = InternalError("an unexpected fault of the gateway; its log has the details")
            send_error(fault, self.dialect, http, connection, record.request_id if record else "")

    def _send_reply(
        self, reply: ChatReply, request: ChatRequest, http: Request, connection: HttpConnection, record: Record
    ) -> None:
        same = reply.protocol == self.dialect.protocol
        body = reply.body if same else translated(self.dialect, reply, _head(record, request))
        if request.explain:
            body = with_field(body, "gateway", encode(details(record)))
        headers = self.dialect.headers(record.request_id)
        if record.lease is not None:
            headers += self._left(record)
        connection.respond(200, JSON + _facts(record, cost=True) + headers, body, http)

    async def _send_stream(
        self, stream: ReplyStream, request: ChatRequest, http: Request, connection: HttpConnection, record: Record
    ) -> None:
        """Events as they come. A stream that breaks ends with an error event and without a terminal one."""
        dialect = self.dialect
        try:
            writer = stream_writer(dialect, stream.protocol, _head(record, request), request)
            headers = dialect.headers(record.request_id)
            if record.lease is not None:
                headers += self._left(record)
            connection.start_stream(_EVENTS + _facts(record) + headers, http)

            def show(chunks: list[ChatChunk]) -> bool:
                connection.write(writer.chunks(chunks))
                return not connection.write_paused

            while await stream.flow(show):
                await connection.drain()
        except GatewayError as error:
            stream.abandon(error)
            note_failure(record, error)
            connection.write(dialect.error_event(error))
        except BaseException as error:
            stream.abandon(error)
            raise
        else:
            connection.write(writer.end(details(record) if request.explain else None))
        connection.end_stream()

    def _left(self, record: Record | None) -> bytes:
        quota = None if record is None else self._gateway.quota(record)
        return b"" if quota is None else self.dialect.quota_headers(quota)


def _head(record: Record, request: ChatRequest) -> Head:
    return Head(record.request_id, record.model, int(record.started_at), request.body)


def send_error(
    error: GatewayError,
    dialect: Dialect,
    http: Request,
    connection: HttpConnection,
    request_id: str = "",
    more: bytes = b"",
) -> None:
    """`more`: further header lines."""
    if connection.started or connection.transport.is_closing():
        # Too late for a status: a reply that is cut off must not look whole.
        connection.transport.abort()
        return
    headers = JSON
    if request_id:
        headers += b"x-request-id: %s\r\n" % request_id.encode("latin-1") + dialect.headers(request_id)
    if error.retry_after_s is not None:
        # Whole seconds are the standard; the SDKs of both vendors also read the exact time, and wait for that.
        headers += b"Retry-After: %d\r\n" % max(1, math.ceil(error.retry_after_s))
        headers += b"retry-after-ms: %d\r\n" % max(1, math.ceil(error.retry_after_s * 1000))
    connection.respond(status_of(error), headers + more, dialect.error(error), http)


def _facts(record: Record, *, cost: bool = False) -> bytes:
    text = (
        f"x-request-id: {record.request_id}\r\nx-gateway-provider: {record.provider}\r\n"
        f"x-gateway-model: {record.model}\r\nx-gateway-tier: {record.tier}\r\n"
        f"x-gateway-score: {record.score:.3f}\r\nx-gateway-cache: {record.cache}\r\n"
        f"x-gateway-attempts: {len(record.attempts)}\r\n"
    )
    if record.cascade is not None:
        text += f"x-gateway-cascade: {record.cascade.told()}\r\n"
    if cost:
        text += f"x-gateway-cost-usd: {usd_from_nano(record.cost_nano):.9f}\r\n"
    return text.encode("latin-1", "replace")
