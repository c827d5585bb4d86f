"""OpenAI's Responses: replies and stream events as answers, and whole replies back. Pure; used between schemas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
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
from model_gateway.domain.usage import Usage, with_tier
from model_gateway.wire.protocol import Head
from model_gateway.wire.responses_conversation import Item, call_of, thought_of

COMPLETED = "response.completed"
INCOMPLETE = "response.incomplete"
FAILED = "response.failed"


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class WireUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None

    def usage(self, service_tier: Any = None) -> Usage:
        """As counted by the provider; missing and negative counts are 0."""
        cached = self.input_tokens_details.cached_tokens if self.input_tokens_details else 0
        thought = self.output_tokens_details.reasoning_tokens if self.output_tokens_details else 0
        usage = Usage(
            max(self.input_tokens or 0, 0), max(self.output_tokens or 0, 0), max(cached or 0, 0), max(thought or 0, 0)
        )
        return usage if service_tier is None else with_tier(usage, service_tier)


class WireError(msgspec.Struct):
    message: str | None = None
    code: str | None = None


class _IncompleteDetails(msgspec.Struct):
    reason: str | None = None


class Response(msgspec.Struct):
    output: list[Item]
    status: str | None = None
    model: str | None = None
    usage: WireUsage | None = None
    service_tier: Any = None
    error: WireError | None = None
    incomplete_details: _IncompleteDetails | None = None

    def finish_reason(self) -> FinishReason:
        if self.status == "incomplete":
            reason = self.incomplete_details.reason if self.incomplete_details else None
            return "content_filter" if reason == "content_filter" else "length"
        return "tool_calls" if any(item.type == "function_call" for item in self.output) else "stop"


class Event(msgspec.Struct):
    """One event of a stream: which fields it has depends on its type."""

    type: str
    delta: str | dict[str, msgspec.Raw] | None = None  # an object only from a provider's own tools
    output_index: int = 0
    item: Item | None = None
    response: Response | None = None
    message: str | None = None
    error: WireError | None = None

    def text(self) -> str:
        """What is added to a text; empty for what is none."""
        return self.delta if isinstance(self.delta, str) else ""


decode_response = msgspec.json.Decoder(Response).decode
decode_event = msgspec.json.Decoder(Event).decode


def text_of(response: Response) -> str:
    """All that was said aloud."""
    return "".join(part.text for part in parts_of(response.output) if isinstance(part, Text))


def parts_of(items: Iterable[Item]) -> Iterable[AnswerPart]:
    for item in items:
        if item.type == "function_call":
            yield call_of(item)
        elif item.type == "reasoning":
            yield thought_of(item)
        elif item.type == "message":
            for part in item.content if isinstance(item.content, list) else ():
                if part.type == "refusal":
                    yield Refusal(part.refusal)
                elif part.text:
                    yield Text(part.text)


def answer(body: bytes) -> Answer:
    response = decode_response(body)
    return Answer(
        parts=tuple(parts_of(response.output)),
        finish_reason=response.finish_reason(),
        usage=response.usage.usage() if response.usage else None,
    )


# --- whole replies ----------------------------------------------------------------------------------------------------


def reply(answer: Answer, head: Head) -> bytes:
    output = [item_of(part, f"{head.id}_{at}") for at, part in enumerate(answer.parts)]
    return msgspec.json.encode(response_fields(head, output, answer.finish_reason, answer.usage))


def item_of(part: AnswerPart, item_id: str) -> dict[str, Any]:
    """An output item that is complete."""
    if isinstance(part, ToolUse):
        return {
            "type": "function_call",
            "id": f"fc_{item_id}",
            "call_id": part.id,
            "name": part.name,
            "arguments": part.arguments,
            "status": "completed",
        }
    if isinstance(part, Reasoning):
        item: dict[str, Any] = {
            "type": "reasoning",
            "id": f"rs_{item_id}",
            "summary": [{"type": "summary_text", "text": part.text}] if part.text else [],
        }
        if part.signature or part.redacted:
            item["encrypted_content"] = part.signature or part.redacted
        return item
    return {
        "type": "message",
        "id": f"msg_{item_id}",
        "role": "assistant",
        "status": "completed",
        "content": [content_of(part)],
    }


def content_of(part: Text | Refusal) -> dict[str, Any]:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    return {"type": "output_text", "text": part.text, "annotations": [], "logprobs": []}


# What a response repeats of its request: clients look there for what they asked for.
_REPEATED: AbstractSet[str] = {
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "reasoning",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
}


def response_fields(
    head: Head, output: Sequence[dict[str, Any]], reason: FinishReason | None, usage: Usage | None
) -> dict[str, Any]:
    """A response; `reason` None: it is still being written."""
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    why = reasons.get(reason or "")
    return {
        "id": head.id if head.id.startswith("resp_") else f"resp_{head.id}",
        "object": "response",
        "created_at": head.created,
        "status": "in_progress" if reason is None else "incomplete" if why else "completed",
        "model": head.model,
        "output": list(output),
        "error": None,
        "incomplete_details": {"reason": why} if why else None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None if usage is None else usage_fields(usage),
        **{name: head.asked[name] for name in _REPEATED & head.asked.keys()},
    }


def usage_fields(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_input_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


# --- streams ----------------------------------------------------------------------------------------------------------

_TEXT = "response.output_text.delta"
_REFUSAL = "response.refusal.delta"
_THOUGHTS = frozenset(("response.reasoning_summary_text.delta", "response.reasoning_text.delta"))
_ARGUMENTS = "response.function_call_arguments.delta"
_ITEM_ADDED = "response.output_item.added"
_ITEM_DONE = "response.output_item.done"


class Reader:
    """Events → deltas. Items are known by their `output_index`."""

    __slots__ = ("_calls", "_told")

    def __init__(self) -> None:
        self._calls: dict[int, int] = {}
        self._told: set[int] = set()  # calls whose arguments came in pieces

    def feed(self, data: bytes) -> Sequence[Delta]:
        event = decode_event(data)
        kind, delta = event.type, event.text()
        if kind == _TEXT:
            return (TextDelta(delta),)
        if kind in _THOUGHTS:
            return (ReasoningDelta(delta),)
        if kind == _REFUSAL:
            return (RefusalDelta(delta),)
        if kind == _ARGUMENTS and event.output_index in self._calls:
            self._told.add(event.output_index)
            return (ToolArguments(self._calls[event.output_index], delta),)
        if event.item is not None:
            return self._item(kind, event.output_index, event.item)
        if kind in (COMPLETED, INCOMPLETE) and event.response is not None:
            usage = event.response.usage
            ended = Ended(event.response.finish_reason())
            return (UsageSeen(usage.usage()), ended) if usage is not None else (ended,)
        return ()

    def _item(self, kind: str, index: int, item: Item) -> Sequence[Delta]:
        found: list[Delta] = []
        if item.type == "function_call":
            if index not in self._calls:
                self._calls[index] = len(self._calls)
                call = call_of(item)
                found.append(ToolBegan(self._calls[index], call.id, call.name))
            if kind == _ITEM_DONE and index not in self._told:
                self._told.add(index)
                found.append(ToolArguments(self._calls[index], call_of(item).arguments))
        elif item.type == "reasoning" and kind == _ITEM_DONE and item.encrypted_content:
            thought = thought_of(item)
            found.append(ReasoningDelta("", thought.signature, thought.redacted))
        return found
