"""Gemini's replies, whole and streamed, as answers, and back. Used only between different schemas.

Parts of the provider's own tools, sources and the signatures of texts are left out of an answer: only a request that
needs this very schema can have asked for the former, and nobody demands the latter back. A call's signature is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from model_gateway.domain.conversation import (
    Answer,
    AnswerPart,
    Delta,
    Ended,
    FinishReason,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Text,
    TextDelta,
    ToolArguments,
    ToolBegan,
    ToolUse,
    UsageSeen,
)
from model_gateway.domain.errors import UpstreamProtocolError
from model_gateway.domain.usage import Usage
from model_gateway.wire.gemini import (
    EMPTY_OBJECT,
    FINISH_REASONS,
    FunctionCall,
    Part,
    Reply,
    WireUsage,
    decode_reply,
    encode,
    finish_reason_of,
    frame,
    usage_fields,
)
from model_gateway.wire.openai import arguments_object
from model_gateway.wire.protocol import Head


def answer(body: bytes) -> Answer:
    read = decode_reply(body)
    candidate = read.first()
    parts: list[AnswerPart] = []
    calls = 0
    for part in candidate.parts() if candidate else ():
        if part.function_call is not None:
            parts.append(_tool_use(part, part.function_call, read.response_id, calls))
            calls += 1
        elif part.text and part.thought:
            parts.append(Reasoning(part.text))
        elif part.text:
            parts.append(Text(part.text))
    return Answer(
        parts=tuple(_joined(parts)),
        finish_reason=finish_reason_of(read.reason() or "STOP", calls=calls > 0),
        usage=read.usage_metadata.usage() if read.usage_metadata else None,
    )


def _joined(parts: list[AnswerPart]) -> Iterator[AnswerPart]:
    """Texts that follow each other are one: this schema splits them where a signature stands."""
    before: AnswerPart | None = None
    for part in parts:
        if isinstance(part, Text) and isinstance(before, Text):
            before = Text(before.text + part.text)
        elif isinstance(part, Reasoning) and isinstance(before, Reasoning):
            before = Reasoning(before.text + part.text)
        else:
            if before is not None:
                yield before
            before = part
    if before is not None:
        yield before


def _tool_use(part: Part, call: FunctionCall, response_id: str | None, index: int) -> ToolUse:
    return ToolUse(_id(call, response_id, index), call.name, call.arguments(), part.thought_signature or "")


def _id(call: FunctionCall, response_id: str | None, index: int) -> str:
    """Calls need no id in this schema, and need one in every other: unique within a conversation."""
    return call.id or f"call_{response_id or ''}_{index}"


def reply(answer: Answer, head: Head) -> bytes:
    """Raises UpstreamProtocolError where a model called a tool with something else than a JSON object."""
    refused = any(isinstance(part, Refusal) for part in answer.parts)
    parts = [_part(part, answer.finish_reason) for part in answer.parts]
    return encode(
        {
            "candidates": [_candidate(parts, "content_filter" if refused else answer.finish_reason)],
            "usageMetadata": usage_fields(answer.usage or Usage()),
            "modelVersion": head.model,
            "responseId": head.id,
        }
    )


def _part(part: AnswerPart, reason: FinishReason) -> dict[str, Any]:
    if isinstance(part, ToolUse):
        arguments = arguments_object(part.arguments)
        if arguments is None and reason == "length":
            arguments = EMPTY_OBJECT  # the limit cut the call in two; MAX_TOKENS says that it is not whole
        if arguments is None:
            raise UpstreamProtocolError(f"the model called {part.name} with arguments that are no JSON object")
        call = {"functionCall": {"id": part.id, "name": part.name, "args": arguments}}
        return {**call, "thoughtSignature": part.signature} if part.signature else call
    if isinstance(part, Reasoning):
        return {"text": part.text, "thought": True}
    return {"text": part.text}


def _candidate(parts: list[dict[str, Any]], reason: FinishReason | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    return {**candidate, "finishReason": FINISH_REASONS[reason]} if reason else candidate


class Reader:
    """Events → deltas. Each event is a reply of its own; calls come whole."""

    __slots__ = ("_calls", "_ended", "_usage")

    def __init__(self) -> None:
        self._calls = 0
        self._ended = False
        self._usage = WireUsage()

    def feed(self, data: bytes) -> Sequence[Delta]:
        event = decode_reply(data)
        found: list[Delta] = []
        candidate = event.first()
        for part in candidate.parts() if candidate else ():
            found += self._part(part, event)
        if event.usage_metadata is not None:
            self._usage = self._usage.updated(event.usage_metadata)
            found.append(UsageSeen(self._usage.usage()))
        reason = event.reason()
        if reason and not self._ended:
            self._ended = True
            found.append(Ended(finish_reason_of(reason, calls=self._calls > 0)))
        return found

    def _part(self, part: Part, event: Reply) -> Iterator[Delta]:
        call = part.function_call
        if call is not None:
            index = self._calls
            self._calls += 1
            yield ToolBegan(index, _id(call, event.response_id, index), call.name, part.thought_signature or "")
            yield ToolArguments(index, call.arguments())
        elif part.text and part.thought:
            yield ReasoningDelta(part.text)
        elif part.text:
            yield TextDelta(part.text)


class Writer:
    """Deltas → events. A call is told whole, so what comes after its beginning waits until the end of the answer.

    This schema has no end marker but the finish reason: it is written by `end` alone.
    """

    __slots__ = ("_calls", "_head", "_reason", "_refused", "_usage", "_waiting")

    def __init__(self, head: Head, include_usage: bool) -> None:  # noqa: ARG002 (this schema always tells its usage)
        self._head = head
        self._calls: dict[int, ToolBegan] = {}
        self._waiting: list[tuple[int, list[str]] | dict[str, Any]] = []
        self._usage: Usage | None = None
        self._reason: FinishReason = "stop"
        self._refused = False

    def feed(self, deltas: Sequence[Delta]) -> bytes:
        """Raises UpstreamProtocolError where a model called a tool with something else than a JSON object."""
        parts: list[dict[str, Any]] = []
        for delta in deltas:
            if isinstance(delta, UsageSeen):
                self._usage = delta.usage
            elif isinstance(delta, Ended):
                self._reason = delta.reason
                parts += self._flush()
            elif isinstance(delta, ToolBegan):
                self._calls[delta.index] = delta
                self._waiting.append((delta.index, []))
            elif isinstance(delta, ToolArguments):
                self._arguments(delta)
            else:
                parts += self._said(delta)
        return frame(encode(self._event(_candidate(parts)))) if parts else b""

    def _said(self, delta: TextDelta | RefusalDelta | ReasoningDelta) -> Iterator[dict[str, Any]]:
        self._refused |= isinstance(delta, RefusalDelta)
        if delta.text:
            part: dict[str, Any] = {"text": delta.text}
            if isinstance(delta, ReasoningDelta):
                part["thought"] = True
            if self._waiting:
                self._waiting.append(part)
            else:
                yield part

    def _arguments(self, delta: ToolArguments) -> None:
        for item in self._waiting:
            if isinstance(item, tuple) and item[0] == delta.index:
                item[1].append(delta.text)

    def _flush(self) -> Iterator[dict[str, Any]]:
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            if isinstance(item, tuple):
                began = self._calls[item[0]]
                call = ToolUse(began.id, began.name, "".join(item[1]), began.signature)
                yield _part(call, self._reason)
            else:
                yield item

    def _event(self, candidate: dict[str, Any]) -> dict[str, Any]:
        return {"candidates": [candidate], "modelVersion": self._head.model, "responseId": self._head.id}

    def end(self, gateway: Mapping[str, Any] | None = None) -> bytes:
        parts = list(self._flush()) or [{"text": ""}]
        event = self._event(_candidate(parts, "content_filter" if self._refused else self._reason))
        event["usageMetadata"] = usage_fields(self._usage or Usage())
        if gateway is not None:
            event["gateway"] = dict(gateway)
        return frame(encode(event))
