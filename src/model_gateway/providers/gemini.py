"""The adapter for every provider that speaks Gemini's generateContent. Pure: no key, clock or client.

A caller's body of this schema goes upstream as it came but for `model`, which stands in the path; any other is
translated. The base URL ends in the API's version: https://generativelanguage.googleapis.com/v1beta
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

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
from model_gateway.wire import gemini as wire
from model_gateway.wire import gemini_request
from model_gateway.wire.openai import ABSENT, DECODE_ERRORS
from model_gateway.wire.protocols import conversation_of

_NOTHING = msgspec.Raw(b"{}")
_WHOLE, _STREAM = "generateContent", "streamGenerateContent?alt=sse"


class GeminiAdapter:
    protocol = wire.NAME

    def encode(self, request: ChatRequest, model: str) -> WireRequest:
        """Raises InvalidRequest that names what this schema cannot say."""
        if request.embeds:
            raise InvalidRequest("no embeddings are asked of Gemini's schema here: ask another model", param="model")
        path = f"/models/{quote(model.removeprefix('models/'))}:{_STREAM if request.stream else _WHOLE}"
        if request.protocol != wire.NAME:
            body = gemini_request.request(conversation_of(request), model, request.stream)
            return WireRequest(path, wire.encode(body))
        fields: dict[str, Any] = {name: raw for name, raw in request.body.items() if name != "model"}
        if request.output_limit is not None:
            given = msgspec.json.decode(request.body.get("generationConfig", _NOTHING), type=dict[str, Any])
            fields["generationConfig"] = {**given, "maxOutputTokens": request.output_limit}
        return WireRequest(path, wire.encode(fields))

    def decode(self, body: bytes, *, embeds: int = 0) -> ChatReply:  # noqa: ARG002 (`encode` has refused it)
        reply = _decoded(body, "the reply is not one of generateContent")
        candidate, reason = reply.first(), reply.reason()
        if not reason and (candidate is None or not candidate.parts()):
            raise UpstreamProtocolError("the reply is empty and does not say why")
        _check(reply)
        calls = candidate is not None and any(candidate.calls())
        return ChatReply(
            text=candidate.text() if candidate else "",
            finish_reason=wire.finish_reason_of(reason or "STOP", calls=calls),
            usage=reply.usage_metadata.usage() if reply.usage_metadata else None,
            body=body,
            protocol=wire.NAME,
            model=reply.model_version or "",
        )

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """Status first: the text only explains. A refused key, which is a 400 here, is a 401 to us."""
        detail = _detail_of(body)
        if detail.refused_key():
            status = 401
        # A refused key may be quoted in the explanation, and it is not the caller's.
        refused = status in (401, 403)
        why = "the gateway's key was refused" if refused else detail.message or "no explanation"
        waits = [wait for wait in (retry_after(headers), detail.retry_delay_s()) if wait is not None]
        return UpstreamStatusError(
            f"the provider answered {status}: {why}"[:500],
            status=status,
            retryable=status in RETRYABLE_STATUSES,
            retry_after_s=max(waits, default=None),
            logged=f"the provider answered {status}",
        )

    def stream_decoder(self) -> StreamDecoder:
        return _GeminiStream()


class _GeminiStream:
    """There is no end marker: a stream is whole that gave its reason to finish and then ended properly."""

    __slots__ = ("_calls", "_finished", "_usage", "done")

    def __init__(self) -> None:
        self._calls = False
        self._finished = False
        self._usage = wire.WireUsage()
        self.done = False

    def feed(self, data: bytes) -> ChatChunk | None:
        event = _decoded(data, "the stream holds an event that is not one of generateContent")
        if event.error is not ABSENT:
            raise _error_inside(data)
        candidate, reason = event.first(), event.reason()
        if candidate is None and not reason and event.usage_metadata is None:
            raise UpstreamProtocolError("the stream holds an event without candidates")
        _check(event)
        text, plain = "", True
        if candidate is not None:
            text = candidate.text()
            self._calls |= any(candidate.calls())
            plain = len(event.candidates or ()) == 1 and all(_is_plain(part) for part in candidate.parts())
        usage = None
        if event.usage_metadata is not None:
            self._usage = self._usage.updated(event.usage_metadata)
            usage = self._usage.usage()
        finish_reason = wire.finish_reason_of(reason, calls=self._calls) if reason else None
        self._finished |= bool(reason)
        return ChatChunk(
            data=data,
            text=text,
            finish_reason=finish_reason,
            usage=usage,
            plain=plain,
            usage_only=candidate is None and not reason,
        )

    def finish(self) -> None:
        if not self._finished:
            raise StreamBroken("the stream ended before its finish reason")


def _is_plain(part: wire.Part) -> bool:
    """Nothing but text; an empty part may bear a signature that nobody needs back."""
    return part.text is not None and not part.thought and part.function_call is None


def _decoded(data: bytes, complaint: str) -> wire.Reply:
    try:
        return wire.decode_reply(data)
    except DECODE_ERRORS as error:
        raise UpstreamProtocolError(f"{complaint}: {error}") from None


def _check(reply: wire.Reply) -> None:
    """Raises UpstreamProtocolError where the model failed, or called what nobody can read."""
    for candidate in reply.candidates or ():
        if wire.is_failure(candidate.finish_reason):
            why = (candidate.finish_message or "no explanation")[:300]
            raise UpstreamProtocolError(f"the model failed with {candidate.finish_reason}: {why}")
        for call in candidate.calls():
            try:
                whole = bool(call.name) and call.arguments().startswith("{")
            except UnicodeDecodeError:
                whole = False
            if not whole:
                raise UpstreamProtocolError("a tool is called without its name or with arguments that are no object")


def _detail_of(body: bytes) -> wire.ErrorDetail:
    try:
        read = wire.decode_error(body)
    except DECODE_ERRORS:
        return wire.ErrorDetail()
    if isinstance(read, list):
        return read[0].error if read else wire.ErrorDetail()
    return read.error


def _error_inside(data: bytes) -> UpstreamStatusError:
    """A provider may fail after it has begun; the error's code stands for the status."""
    detail = _detail_of(data)
    status = detail.code if 400 <= detail.code <= 599 else 500
    return UpstreamStatusError(
        f"the provider reported an error inside the stream: {(detail.message or 'no explanation')[:300]}",
        status=status,
        retryable=status in RETRYABLE_STATUSES,
        retry_after_s=detail.retry_delay_s(),
        logged="the provider reported an error inside the stream",
    )
