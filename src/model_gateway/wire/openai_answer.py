"""OpenAI's chat completions, whole and streamed, as answers, and back. Used only between different schemas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

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
from model_gateway.domain.usage import Usage
from model_gateway.wire.openai import (
    DONE,
    FunctionCall,
    Said,
    ToolCall,
    decode_chunk,
    decode_reply,
    details_chunk,
    usage_fields,
)
from model_gateway.wire.protocol import Head
from model_gateway.wire.sse import frame

_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    # Vendors' own words for an answer that was cut short.
    "model_length": "length",
    "insufficient_system_resource": "length",
}


def _reason(text: str, called: bool) -> FinishReason:
    """A forced call ends with `stop` here, and some vendors say so of every call: other schemas' callers look for one
    word that says that there is a call to answer."""
    reason = _REASONS.get(text, "stop")
    return "tool_calls" if called and reason == "stop" else reason


def answer(body: bytes) -> Answer:
    """The first choice: no other schema has several."""
    read = decode_reply(body)
    choice = read.choices[0]
    said = choice.message
    parts: list[AnswerPart] = []
    if thought := said.thought():
        parts.append(Reasoning(thought))
    if text := said.text():
        parts.append(Text(text))
    if said.refusal:
        parts.append(Refusal(said.refusal))
    for at, call in enumerate(said.tool_calls or ()):
        function = call.function or FunctionCall()
        parts.append(ToolUse(call.id or f"call_{at}", function.name or "", function.arguments_text() or "{}"))
    return Answer(
        parts=tuple(parts),
        finish_reason=_reason(choice.finish_reason or "", bool(said.tool_calls)),
        usage=read.usage.usage() if read.usage else None,
    )


def reply(answer: Answer, head: Head) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": _joined(answer.parts, Text) or None, "refusal": None}
    if refusal := _joined(answer.parts, Refusal):
        message["refusal"] = refusal
    if thought := _joined(answer.parts, Reasoning):
        message["reasoning_content"] = thought
    calls = [part for part in answer.parts if isinstance(part, ToolUse)]
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    elif message["content"] is None and not refusal:
        message["content"] = ""
    body: dict[str, Any] = {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}],
    }
    if answer.usage is not None:
        body["usage"] = usage_fields(answer.usage)
    return msgspec.json.encode(body)


def _joined(parts: Iterable[AnswerPart], kind: type[Text | Refusal | Reasoning]) -> str:
    return "".join(part.text for part in parts if isinstance(part, kind) and not isinstance(part, ToolUse))


class Reader:
    """Chunks → deltas. Calls are numbered anew from 0: vendors count them from anywhere, or not at all."""

    __slots__ = ("_calls", "_count", "_ended")

    def __init__(self) -> None:
        self._calls: dict[int | None, tuple[int, str]] = {}  # by the vendor's number: ours, and the call's id
        self._count = 0
        self._ended = False

    def feed(self, data: bytes) -> Sequence[Delta]:
        if data == DONE:
            return ()
        read = decode_chunk(data)
        found: list[Delta] = []
        for choice in read.choices or ():
            if choice.index == 0:
                found += self._said(choice.delta or Said())
                if choice.finish_reason and not self._ended:
                    self._ended = True
                    found.append(Ended(_reason(choice.finish_reason, self._count > 0)))
        if read.usage is not None:
            found.append(UsageSeen(read.usage.usage()))
        return found

    def _said(self, said: Said) -> Iterable[Delta]:
        if thought := said.thought():
            yield ReasoningDelta(thought)
        if text := said.text():
            yield TextDelta(text)
        if said.refusal:
            yield RefusalDelta(said.refusal)
        for call in said.tool_calls or ():
            yield from self._called(call)

    def _called(self, call: ToolCall) -> Iterable[Delta]:
        function = call.function or FunctionCall()
        place, call_id = self._calls.get(call.index, (-1, ""))
        # Where all calls have one number, or none, a name with another id begins a new one.
        if place < 0 or (call.id and function.name and call.id != call_id):
            place, self._count = self._count, self._count + 1
            call_id = call.id or f"call_{place}"
            self._calls[call.index] = (place, call_id)
            yield ToolBegan(place, call_id, function.name or "")
        if arguments := function.arguments_text():
            yield ToolArguments(place, arguments)


class Writer:
    """Deltas → chunks. The role comes with the first chunk, the usage in one of its own, if it was asked for."""

    __slots__ = ("_begun", "_called", "_head", "_head_fields", "_include_usage", "_reason", "_usage")

    def __init__(self, head: Head, include_usage: bool) -> None:
        self._head = head
        self._head_fields = {
            "id": head.id,
            "object": "chat.completion.chunk",
            "created": head.created,
            "model": head.model,
        }
        self._include_usage = include_usage
        self._begun = False
        self._called = False
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None

    def feed(self, deltas: Sequence[Delta]) -> bytes:
        out: list[bytes] = []
        for delta in deltas:
            if isinstance(delta, UsageSeen):
                self._usage = delta.usage
            elif isinstance(delta, Ended):
                self._reason = delta.reason
                out.append(self._chunk({}, delta.reason))
            else:
                self._called = self._called or isinstance(delta, ToolBegan)
                fields = _fields(delta)
                if fields:
                    out.append(self._chunk(fields, None))
        return b"".join(out)

    def end(self, gateway: Mapping[str, Any] | None = None) -> bytes:
        out: list[bytes] = []
        if self._reason is None:
            out.append(self._chunk({}, "tool_calls" if self._called else "stop"))
        if self._include_usage and self._usage is not None:
            out.append(self._frame({"choices": [], "usage": usage_fields(self._usage)}))
        if gateway is not None:
            out.append(frame(details_chunk(self._head.id, self._head.created, self._head.model, dict(gateway))))
        out.append(frame(DONE))
        return b"".join(out)

    def _chunk(self, delta: dict[str, Any], reason: FinishReason | None) -> bytes:
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", **delta}
        return self._frame({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    def _frame(self, fields: dict[str, Any]) -> bytes:
        return frame(msgspec.json.encode({**self._head_fields, **fields}))


def _fields(delta: Delta) -> dict[str, Any]:
    """What one delta adds to the message; empty for what this schema cannot tell (a thought's signature)."""
    if isinstance(delta, TextDelta):
        return {"content": delta.text}
    if isinstance(delta, ReasoningDelta):
        return {"reasoning_content": delta.text} if delta.text else {}
    if isinstance(delta, RefusalDelta):
        return {"refusal": delta.text}
    if isinstance(delta, ToolBegan):
        function = {"name": delta.name, "arguments": ""}
        return {"tool_calls": [{"index": delta.index, "id": delta.id, "type": "function", "function": function}]}
    if isinstance(delta, ToolArguments):
        return {"tool_calls": [{"index": delta.index, "function": {"arguments": delta.text}}]}
    return {}
