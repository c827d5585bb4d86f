"""What a stream told, put together again, and answers in a form that does not depend on who told them."""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

from model_gateway.domain.conversation import (
    Answer,
    AnswerPart,
    Delta,
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
from model_gateway.wire.protocol import DeltaReader
from model_gateway.wire.sse import SseParser


def put_together(stream: bytes, reader: DeltaReader) -> Answer:
    """The answer that a stream told."""
    deltas: list[Delta] = []
    for event in SseParser().feed(stream):
        deltas += reader.feed(event)
    return collected(deltas)


def collected(deltas: Iterable[Delta]) -> Answer:
    """Fails where calls grow before they begin, or where anything but usage follows the end."""
    parts: list[AnswerPart] = []
    calls: dict[int, int] = {}
    usage: Usage | None = None
    reason: FinishReason | None = None
    sequence = ""
    for delta in deltas:
        if isinstance(delta, UsageSeen):
            usage = delta.usage
            continue
        assert reason is None, f"told after the end: {delta}"
        if isinstance(delta, ToolBegan):
            assert delta.index == len(calls), "calls are numbered from 0"
            calls[delta.index] = len(parts)
            parts.append(ToolUse(delta.id, delta.name, "", delta.signature))
        elif isinstance(delta, ToolArguments):
            call = parts[calls[delta.index]]
            assert isinstance(call, ToolUse)
            parts[calls[delta.index]] = ToolUse(call.id, call.name, call.arguments + delta.text, call.signature)
        elif isinstance(delta, TextDelta | RefusalDelta | ReasoningDelta):
            _say(parts, delta)
        else:
            reason, sequence = delta.reason, delta.stop_sequence
    return Answer(parts=tuple(parts), finish_reason=reason or "stop", usage=usage, stop_sequence=sequence)


def _say(parts: list[AnswerPart], delta: TextDelta | RefusalDelta | ReasoningDelta) -> None:
    last = parts[-1] if parts else None
    if isinstance(delta, TextDelta) and isinstance(last, Text):
        parts[-1] = Text(last.text + delta.text)
    elif isinstance(delta, TextDelta):
        parts.append(Text(delta.text))
    elif isinstance(delta, RefusalDelta) and isinstance(last, Refusal):
        parts[-1] = Refusal(last.text + delta.text)
    elif isinstance(delta, RefusalDelta):
        parts.append(Refusal(delta.text))
    elif isinstance(last, Reasoning) and not last.signature and not last.redacted and not delta.redacted:
        parts[-1] = Reasoning(last.text + delta.text, delta.signature)
    else:
        parts.append(Reasoning(delta.text, delta.signature, delta.redacted))


def normal(answer: Answer) -> Answer:
    """The same with every call's arguments written alike."""
    parts = tuple(
        ToolUse(part.id, part.name, json.dumps(json.loads(part.arguments)), part.signature)
        if isinstance(part, ToolUse)
        else part
        for part in answer.parts
    )
    return Answer(
        parts=parts, finish_reason=answer.finish_reason, usage=answer.usage, stop_sequence=answer.stop_sequence
    )


def portable(answer: Answer) -> Answer:
    """What every schema can tell: no proof of a thought, no stop sequence, no cache; a refusal is its words."""
    parts: list[AnswerPart] = []
    for part in normal(answer).parts:
        if isinstance(part, Reasoning):
            if part.text:
                _say(parts, ReasoningDelta(part.text))
        elif isinstance(part, ToolUse):
            parts.append(ToolUse(part.id, part.name, part.arguments))
        else:
            _say(parts, TextDelta(part.text))
    usage = answer.usage and msgspec.structs.replace(answer.usage, cache_write_tokens=0)
    return Answer(parts=tuple(parts), finish_reason=answer.finish_reason, usage=usage)
