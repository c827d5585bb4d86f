"""Anthropic's messages, whole and streamed, as answers, and back. Used only between different schemas.

Blocks of the provider's own tools and citations are left out of an answer: only a request that needs this very schema
can have asked for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from model_gateway.domain.errors import UpstreamProtocolError
from model_gateway.domain.usage import Usage
from model_gateway.wire.anthropic import (
    EMPTY_OBJECT,
    REASONS,
    STOP_REASONS,
    Block,
    EventDelta,
    StopDetails,
    WireUsage,
    decode_event,
    decode_reply,
    encode,
    frame,
    usage_fields,
)
from model_gateway.wire.openai import arguments_object
from model_gateway.wire.protocol import Head


def answer(body: bytes) -> Answer:
    read = decode_reply(body)
    parts: list[AnswerPart] = []
    for block in read.content:
        if block.type == "text" and block.text:
            parts.append(Text(block.text))
        elif block.type == "thinking":
            parts.append(Reasoning(block.thinking or "", block.signature or ""))
        elif block.type == "redacted_thinking":
            parts.append(Reasoning("", redacted=block.data or ""))
        elif block.type == "tool_use":
            parts.append(ToolUse(block.id or f"toolu_{len(parts)}", block.name or "", block.arguments()))
    explanation = _explanation(read.stop_details)
    if explanation:
        parts.append(Refusal(explanation))
    return Answer(
        parts=tuple(parts),
        finish_reason=REASONS.get(read.stop_reason or "", "stop"),
        usage=read.usage.usage() if read.usage else None,
        stop_sequence=read.stop_sequence or "",
    )


def _explanation(details: StopDetails | None) -> str:
    return (details.explanation or "") if details else ""


def reply(answer: Answer, head: Head) -> bytes:
    """Raises UpstreamProtocolError where a model called a tool with something else than a JSON object."""
    refused = any(isinstance(part, Refusal) for part in answer.parts)
    return encode(
        {
            "id": head.id,
            "type": "message",
            "role": "assistant",
            "model": head.model,
            "content": list(_content(answer)),
            **_stop(answer.finish_reason, answer.stop_sequence, refused),
            "usage": usage_fields(answer.usage),
        }
    )


def _content(answer: Answer) -> Iterator[dict[str, Any]]:
    for part in answer.parts:
        if isinstance(part, ToolUse):
            arguments = arguments_object(part.arguments)
            if arguments is None and answer.finish_reason == "length":
                arguments = EMPTY_OBJECT  # the limit cut the call in two; `max_tokens` says that it is not whole
            if arguments is None:
                raise UpstreamProtocolError(f"the model called {part.name} with arguments that are no JSON object")
            yield {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
        elif isinstance(part, Reasoning):
            if part.redacted:
                yield {"type": "redacted_thinking", "data": part.redacted}
            else:
                yield {"type": "thinking", "thinking": part.text, "signature": part.signature}
        elif part.text:
            yield {"type": "text", "text": part.text}


def _stop(reason: FinishReason, sequence: str, refused: bool) -> dict[str, Any]:
    if refused:
        said = "refusal"
    elif reason == "stop" and sequence:
        said = "stop_sequence"
    else:
        said = STOP_REASONS[reason]
    return {"stop_reason": said, "stop_sequence": sequence or None}


class Reader:
    """Events → deltas. Calls are numbered from 0, whatever blocks stand between them."""

    __slots__ = ("_calls", "_told", "_usage")

    def __init__(self) -> None:
        self._calls: dict[int, int] = {}
        self._told: set[int] = set()  # blocks whose arguments have begun
        self._usage = WireUsage()

    def feed(self, data: bytes) -> Sequence[Delta]:
        event = decode_event(data)
        index = event.index or 0
        if event.type == "message_start" and event.message is not None:
            return self._counted(event.message.usage)
        if event.type == "content_block_start" and event.content_block is not None:
            return list(self._began(index, event.content_block))
        if event.type == "content_block_delta" and event.delta is not None:
            return list(self._more(index, event.delta))
        if event.type == "content_block_stop" and index in self._calls and index not in self._told:
            self._told.add(index)
            return (ToolArguments(self._calls[index], "{}"),)
        if event.type == "message_delta":
            return [*self._counted(event.usage), *_ended(event.delta or EventDelta())]
        return ()

    def _counted(self, usage: WireUsage | None) -> Sequence[Delta]:
        if usage is None:
            return ()
        self._usage = self._usage.updated(usage)
        return (UsageSeen(self._usage.usage()),)

    def _began(self, index: int, block: Block) -> Iterator[Delta]:
        """Blocks begin empty, but nobody promises it."""
        if block.type == "tool_use":
            call = self._calls.setdefault(index, len(self._calls))
            yield ToolBegan(call, block.id or f"toolu_{call}", block.name or "")
            arguments = block.arguments()
            if arguments.strip("{} \t\r\n"):
                self._told.add(index)
                yield ToolArguments(call, arguments)
        elif block.type == "text" and block.text:
            yield TextDelta(block.text)
        elif block.type == "thinking" and (block.thinking or block.signature):
            yield ReasoningDelta(block.thinking or "", block.signature or "")
        elif block.type == "redacted_thinking":
            yield ReasoningDelta("", redacted=block.data or "")

    def _more(self, index: int, delta: EventDelta) -> Iterator[Delta]:
        if delta.type == "text_delta" and delta.text:
            yield TextDelta(delta.text)
        elif delta.type == "input_json_delta" and delta.partial_json and index in self._calls:
            self._told.add(index)
            yield ToolArguments(self._calls[index], delta.partial_json)
        elif delta.type == "thinking_delta" and delta.thinking:
            yield ReasoningDelta(delta.thinking)
        elif delta.type == "signature_delta" and delta.signature:
            yield ReasoningDelta("", delta.signature)


def _ended(delta: EventDelta) -> Iterable[Delta]:
    if delta.stop_reason is None:
        return ()
    ended = Ended(REASONS.get(delta.stop_reason, "stop"), delta.stop_sequence or "")
    explanation = _explanation(delta.stop_details)
    return (RefusalDelta(explanation), ended) if explanation else (ended,)


class _Call(msgspec.Struct):
    """A call that has to wait: its block may begin only when the one before it has ended."""

    id: str
    name: str
    arguments: list[str]


class Writer:
    """Deltas → events. One block ends before the next begins: what comes while a call is open waits until the end."""

    __slots__ = (
        "_begun",
        "_calls",
        "_head",
        "_index",
        "_live",
        "_open",
        "_reason",
        "_refused",
        "_sequence",
        "_usage",
        "_waiting",
    )

    def __init__(self, head: Head, include_usage: bool) -> None:  # noqa: ARG002 (this schema always tells its usage)
        self._head = head
        self._begun = False
        self._open = ""  # the type of the open block
        self._index = -1
        self._live: int | None = None  # the call that is told as it comes: the first
        self._calls: dict[int, _Call] = {}
        self._waiting: list[_Call | TextDelta | ReasoningDelta] = []
        self._usage: Usage | None = None
        self._reason: FinishReason = "stop"
        self._sequence = ""
        self._refused = False

    def feed(self, deltas: Sequence[Delta]) -> bytes:
        out: list[bytes] = []
        for delta in deltas:
            if isinstance(delta, UsageSeen):
                self._usage = delta.usage
        if not self._begun and deltas:
            out.append(self._start())
        for delta in deltas:
            if isinstance(delta, Ended):
                self._reason, self._sequence = delta.reason, delta.stop_sequence
                out += self._flush()
            elif isinstance(delta, ToolBegan):
                out += self._call(delta)
            elif isinstance(delta, ToolArguments):
                out += self._arguments(delta)
            elif not isinstance(delta, UsageSeen):
                out += self._said(delta)
        return b"".join(out)

    def end(self, gateway: Mapping[str, Any] | None = None) -> bytes:
        out: list[bytes] = [] if self._begun else [self._start()]
        out += self._flush()
        stop = _stop(self._reason, self._sequence, self._refused)
        out.append(frame("message_delta", {"delta": stop, "usage": usage_fields(self._usage)}))
        if gateway is not None:
            out.append(frame("gateway", {"gateway": dict(gateway)}))
        out.append(frame("message_stop", {}))
        return b"".join(out)

    def _start(self) -> bytes:
        self._begun = True
        message: dict[str, Any] = {
            "id": self._head.id,
            "type": "message",
            "role": "assistant",
            "model": self._head.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_fields(self._usage),
        }
        return frame("message_start", {"message": message})

    # --- what is told now, and what waits ---

    def _said(self, delta: TextDelta | RefusalDelta | ReasoningDelta) -> Iterator[bytes]:
        if isinstance(delta, RefusalDelta):
            self._refused = True
            delta = TextDelta(delta.text)
        if self._live is not None:
            self._waiting.append(delta)
        else:
            yield from self._tell(delta)

    def _tell(self, delta: TextDelta | ReasoningDelta) -> Iterator[bytes]:
        if isinstance(delta, TextDelta):
            if delta.text:
                yield from self._ensure("text", {"text": ""})
                yield self._delta({"type": "text_delta", "text": delta.text})
            return
        if delta.redacted:
            yield from self._ensure("", {})
            yield from self._ensure("redacted_thinking", {"data": delta.redacted})
            yield from self._ensure("", {})
            return
        if delta.text or delta.signature:
            yield from self._ensure("thinking", {"thinking": "", "signature": ""})
        if delta.text:
            yield self._delta({"type": "thinking_delta", "thinking": delta.text})
        if delta.signature:
            yield self._delta({"type": "signature_delta", "signature": delta.signature})
            yield from self._ensure("", {})

    def _call(self, began: ToolBegan) -> Iterator[bytes]:
        if self._live is None:
            self._live = began.index
            yield from self._begin_call(began.id, began.name)
        elif began.index != self._live and began.index not in self._calls:
            call = self._calls[began.index] = _Call(began.id, began.name, [])
            self._waiting.append(call)

    def _arguments(self, more: ToolArguments) -> Iterator[bytes]:
        if more.index == self._live:
            yield self._delta({"type": "input_json_delta", "partial_json": more.text})
        elif more.index in self._calls:
            self._calls[more.index].arguments.append(more.text)

    def _flush(self) -> Iterator[bytes]:
        """All that waited, and the end of the open block."""
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            if isinstance(item, _Call):
                yield from self._begin_call(item.id, item.name)
                arguments = "".join(item.arguments)
                yield self._delta({"type": "input_json_delta", "partial_json": arguments})
            else:
                yield from self._tell(item)
        yield from self._ensure("", {})
        self._live = None

    # --- blocks ---

    def _begin_call(self, call_id: str, name: str) -> Iterator[bytes]:
        yield from self._ensure("", {})
        yield from self._ensure("tool_use", {"id": call_id, "name": name, "input": {}})

    def _ensure(self, kind: str, fields: Mapping[str, Any]) -> Iterator[bytes]:
        """End the open block unless it is of this kind, and begin one that is; no kind only ends."""
        if self._open == kind:
            return
        if self._open:
            yield frame("content_block_stop", {"index": self._index})
        self._open = kind
        if kind:
            self._index += 1
            yield frame("content_block_start", {"index": self._index, "content_block": {"type": kind, **fields}})

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        return frame("content_block_delta", {"index": self._index, "delta": delta})
