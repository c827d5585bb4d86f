"""Deltas as the events of OpenAI's Responses: every item opens, grows and closes in the documented order. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from model_gateway.domain.conversation import (
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
from model_gateway.wire.protocol import Head
from model_gateway.wire.responses import COMPLETED, INCOMPLETE, content_of, item_of, response_fields


def event(kind: str, fields: Mapping[str, Any]) -> bytes:
    """One event, framed."""
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode({"type": kind, **fields}) + b"\n\n"


class _Open(msgspec.Struct):
    """An output item that is being written. `kind`: text, refusal, reasoning or call."""

    kind: str
    index: int
    item_id: str
    call_id: str = ""
    name: str = ""
    signature: str = ""
    redacted: str = ""
    pieces: list[str] = msgspec.field(default_factory=list[str])

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def part(self) -> AnswerPart:
        if self.kind == "call":
            return ToolUse(self.call_id, self.name, self.text or "{}")
        if self.kind == "reasoning":
            return Reasoning(self.text, self.signature, self.redacted)
        return Refusal(self.text) if self.kind == "refusal" else Text(self.text)


class Writer:
    """Words and thoughts are one item at a time; calls stay open side by side until the end."""

    def __init__(self, head: Head, include_usage: bool) -> None:  # noqa: ARG002 (this schema always tells the usage)
        self._head = head
        self._sequence = 0
        self._out: list[bytes] = []
        self._current: _Open | None = None
        self._calls: dict[int, _Open] = {}
        self._done: list[tuple[int, dict[str, Any]]] = []
        self._items = 0
        self._begun = False
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None

    def feed(self, deltas: Sequence[Delta]) -> bytes:
        for delta in deltas:
            self._feed(delta)
        return self._taken()

    def end(self, gateway: Mapping[str, Any] | None = None) -> bytes:
        self._begin()
        self._close_current()
        for call in self._calls.values():
            self._close(call)
        reason = self._reason or ("tool_calls" if self._calls else "stop")
        if gateway is not None:
            self._emit("gateway", gateway=gateway)
        output = [item for _, item in sorted(self._done, key=lambda done: done[0])]
        response = response_fields(self._head, output, reason, self._usage)
        self._emit(INCOMPLETE if response["status"] == "incomplete" else COMPLETED, response=response)
        return self._taken()

    def _feed(self, delta: Delta) -> None:
        self._begin()
        if isinstance(delta, TextDelta):
            self._say("text", delta.text)
        elif isinstance(delta, RefusalDelta):
            self._say("refusal", delta.text)
        elif isinstance(delta, ReasoningDelta):
            self._think(delta)
        elif isinstance(delta, ToolBegan):
            self._close_current()
            call = self._calls[delta.index] = self._open("call", call_id=delta.id, name=delta.name)
            self._added(call, {**item_of(call.part(), call.item_id), "arguments": "", "status": "in_progress"})
        elif isinstance(delta, ToolArguments):
            call = self._calls[delta.index]
            call.pieces.append(delta.text)
            self._emit("response.function_call_arguments.delta", **_place(call, "fc"), delta=delta.text)
        elif isinstance(delta, UsageSeen):
            self._usage = delta.usage
        else:
            self._reason = _reason(delta)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            for kind in ("response.created", "response.in_progress"):
                self._emit(kind, response=response_fields(self._head, (), None, None))

    def _say(self, kind: str, text: str) -> None:
        current = self._current
        if current is None or current.kind != kind:
            self._close_current()
            current = self._current = self._open(kind)
            self._added(current, {**item_of(current.part(), current.item_id), "content": [], "status": "in_progress"})
            empty = content_of(Refusal("") if kind == "refusal" else Text(""))
            self._emit("response.content_part.added", **_place(current, "msg"), content_index=0, part=empty)
        current.pieces.append(text)
        if kind == "text":
            place = _place(current, "msg")
            self._emit("response.output_text.delta", **place, content_index=0, delta=text, logprobs=[])
        else:
            self._emit("response.refusal.delta", **_place(current, "msg"), content_index=0, delta=text)

    def _think(self, delta: ReasoningDelta) -> None:
        current = self._current
        if current is None or current.kind != "reasoning":
            self._close_current()
            current = self._current = self._open("reasoning")
            self._added(current, {**item_of(current.part(), current.item_id), "summary": []})
        place = _place(current, "rs")
        if delta.text:
            if not current.pieces:
                part = {"type": "summary_text", "text": ""}
                self._emit("response.reasoning_summary_part.added", **place, summary_index=0, part=part)
            current.pieces.append(delta.text)
            self._emit("response.reasoning_summary_text.delta", **place, summary_index=0, delta=delta.text)
        if delta.signature or delta.redacted:
            # A proof ends its thought: what follows is another one.
            current.signature, current.redacted = delta.signature, delta.redacted
            self._close_current()

    def _open(self, kind: str, *, call_id: str = "", name: str = "") -> _Open:
        index, self._items = self._items, self._items + 1
        return _Open(kind, index, f"{self._head.id}_{index}", call_id, name)

    def _close_current(self) -> None:
        if self._current is not None:
            self._close(self._current)
            self._current = None

    def _close(self, item: _Open) -> None:
        part = item.part()
        done = item_of(part, item.item_id)
        if isinstance(part, ToolUse):
            self._emit("response.function_call_arguments.done", **_place(item, "fc"), arguments=part.arguments)
        elif isinstance(part, Reasoning):
            if part.text:
                place, whole = _place(item, "rs"), {"type": "summary_text", "text": part.text}
                self._emit("response.reasoning_summary_text.done", **place, summary_index=0, text=part.text)
                self._emit("response.reasoning_summary_part.done", **place, summary_index=0, part=whole)
        else:
            place = {**_place(item, "msg"), "content_index": 0}
            if isinstance(part, Refusal):
                self._emit("response.refusal.done", **place, refusal=part.text)
            else:
                self._emit("response.output_text.done", **place, text=part.text, logprobs=[])
            self._emit("response.content_part.done", **place, part=content_of(part))
        self._emit("response.output_item.done", output_index=item.index, item=done)
        self._done.append((item.index, done))

    def _added(self, item: _Open, fields: dict[str, Any]) -> None:
        self._emit("response.output_item.added", output_index=item.index, item=fields)

    def _emit(self, kind: str, **fields: Any) -> None:
        self._out.append(event(kind, {"sequence_number": self._sequence, **fields}))
        self._sequence += 1

    def _taken(self) -> bytes:
        out, self._out = self._out, []
        return b"".join(out)


def _place(item: _Open, prefix: str) -> dict[str, Any]:
    return {"item_id": f"{prefix}_{item.item_id}", "output_index": item.index}


def _reason(delta: Delta) -> FinishReason | None:
    return delta.reason if isinstance(delta, Ended) else None
