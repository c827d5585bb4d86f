"""A conversation, its answer and the pieces of a streamed answer, in no provider's schema.

Every wire schema translates to and from these types (`wire/`): N schemas need N translations, not N². They are used
only where caller and provider speak different schemas; where both speak the same one, bytes pass nearly untouched.

JSON inside (a tool's schema, a call's arguments) stays JSON: nothing here is decoded further than a translation needs.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from model_gateway.domain.usage import Usage

# --- what a turn is made of -------------------------------------------------------------------------------------------


class Text(msgspec.Struct, frozen=True):
    text: str


class Media(msgspec.Struct, frozen=True):
    """An image, a sound or a document: either `data` (base64) with its `mime`, or a `url`.

    `detail` is OpenAI's resolution hint; `name` a file's name.
    """

    kind: Literal["image", "audio", "file"]
    mime: str = ""
    data: str = ""
    url: str = ""
    detail: str = ""
    name: str = ""


class ToolUse(msgspec.Struct, frozen=True):
    """A model's call of a tool. `arguments`: a JSON object as text; `signature` as in Reasoning (Gemini's)."""

    id: str
    name: str
    arguments: str
    signature: str = ""


class ToolResult(msgspec.Struct, frozen=True):
    """What a tool answered. `name` may be empty: not every schema repeats it (`tool_name` finds it)."""

    id: str
    parts: tuple[Text | Media, ...]
    name: str = ""
    is_error: bool = False


class Reasoning(msgspec.Struct, frozen=True):
    """What a model thought. `signature` proves it to the provider that wrote it; `redacted` is its encrypted form."""

    text: str
    signature: str = ""
    redacted: str = ""


class Refusal(msgspec.Struct, frozen=True):
    """The model's own words for not answering (OpenAI's `refusal`)."""

    text: str


Part: TypeAlias = Text | Media | ToolUse | ToolResult | Reasoning | Refusal


class Turn(msgspec.Struct, frozen=True):
    """One turn. A tool's results are parts of a user's turn; `system` may stand anywhere."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]

    def text(self) -> str:
        """All text of the turn, tool results and thoughts included, joined by line breaks: what a guard must see."""
        return "\n".join(text for text in map(_text_of, self.parts) if text)


def _text_of(part: Part) -> str:
    if isinstance(part, ToolUse):
        return part.arguments
    if isinstance(part, ToolResult):
        return "\n".join(piece.text for piece in part.parts if isinstance(piece, Text))
    return "" if isinstance(part, Media) else part.text


# --- what is asked ----------------------------------------------------------------------------------------------------


class Tool(msgspec.Struct, frozen=True):
    """A function the model may call. `parameters`: a JSON schema (an object)."""

    name: str
    description: str = ""
    parameters: msgspec.Raw = msgspec.Raw(b'{"type":"object","properties":{}}')
    strict: bool | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    """`named` calls the tool `name`; `required` any tool."""

    mode: Literal["auto", "none", "required", "named"]
    name: str = ""


class ResponseFormat(msgspec.Struct, frozen=True):
    """`json`: any JSON object. `schema`: an object that fits `schema`."""

    kind: Literal["text", "json", "schema"]
    name: str = ""
    schema: msgspec.Raw = msgspec.Raw(b"{}")
    description: str = ""
    strict: bool | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A request, without the model's name. None and empty mean "not said".

    `reasoning_effort`: none, minimal, low, medium, high or xhigh; `reasoning_budget`: tokens (0 forbids thinking).
    A translation uses the one its schema knows and derives it from the other (`effort_of`, `budget_of`).
    """

    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    reasoning_effort: str = ""
    reasoning_budget: int | None = None
    user: str = ""

    def system_text(self) -> str:
        """All system turns, joined by empty lines: for schemas that hold them apart from the turns."""
        return "\n\n".join(turn.text() for turn in self.turns if turn.role == "system")

    def tool_name(self, call_id: str) -> str:
        """The name of the tool that call `call_id` called; empty if no turn holds that call."""
        for turn in self.turns:
            for part in turn.parts:
                if isinstance(part, ToolUse) and part.id == call_id:
                    return part.name
        return ""


# Anthropic publishes budgets, OpenAI efforts; the pairs follow what Google documents for its OpenAI endpoint.
_EFFORTS = (("none", 0), ("minimal", 1024), ("low", 1024), ("medium", 8192), ("high", 24576), ("xhigh", 32768))


def budget_of(conversation: Conversation) -> int | None:
    """Tokens to think with: as said, or as the effort implies. None: not said."""
    if conversation.reasoning_budget is not None:
        return conversation.reasoning_budget
    return dict(_EFFORTS).get(conversation.reasoning_effort)


def effort_of(conversation: Conversation) -> str:
    """How hard to think: as said, or the least effort whose budget holds what was said. Empty: not said.

    Never `minimal` or `xhigh` unless it was said: many models that think know neither.
    """
    budget = conversation.reasoning_budget
    if conversation.reasoning_effort or budget is None:
        return conversation.reasoning_effort
    known = ((effort, tokens) for effort, tokens in _EFFORTS if effort not in ("minimal", "xhigh"))
    return next((effort for effort, tokens in known if tokens >= budget), "high")


# --- what is answered -------------------------------------------------------------------------------------------------

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
AnswerPart: TypeAlias = Text | ToolUse | Reasoning | Refusal


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole reply. `stop_sequence`: the one that ended it, where the provider says so."""

    parts: tuple[AnswerPart, ...]
    finish_reason: FinishReason
    usage: Usage | None = None
    stop_sequence: str = ""

    def deltas(self) -> list[Delta]:
        """The answer as a stream would have told it."""
        found: list[Delta] = []
        calls = 0
        for part in self.parts:
            if isinstance(part, ToolUse):
                found += (ToolBegan(calls, part.id, part.name, part.signature), ToolArguments(calls, part.arguments))
                calls += 1
            elif isinstance(part, Reasoning):
                found.append(ReasoningDelta(part.text, part.signature, part.redacted))
            elif isinstance(part, Refusal):
                found.append(RefusalDelta(part.text))
            else:
                found.append(TextDelta(part.text))
        if self.usage is not None:
            found.append(UsageSeen(self.usage))
        found.append(Ended(self.finish_reason, self.stop_sequence))
        return found


class TextDelta(msgspec.Struct, frozen=True):
    text: str


class ReasoningDelta(msgspec.Struct, frozen=True):
    """More of a thought. A `signature` belongs to, and ends, the thought told so far."""

    text: str
    signature: str = ""
    redacted: str = ""


class RefusalDelta(msgspec.Struct, frozen=True):
    text: str


class ToolBegan(msgspec.Struct, frozen=True):
    """The model begins to call a tool. `index` counts the calls of one answer from 0."""

    index: int
    id: str
    name: str
    signature: str = ""


class ToolArguments(msgspec.Struct, frozen=True):
    """More of the JSON text of call `index`. Calls may be told in turns."""

    index: int
    text: str


class UsageSeen(msgspec.Struct, frozen=True):
    """Counts so far: a later one replaces an earlier one."""

    usage: Usage


class Ended(msgspec.Struct, frozen=True):
    """Why the model stopped. Told once; only usage may follow."""

    reason: FinishReason
    stop_sequence: str = ""


Delta: TypeAlias = TextDelta | ReasoningDelta | RefusalDelta | ToolBegan | ToolArguments | UsageSeen | Ended
