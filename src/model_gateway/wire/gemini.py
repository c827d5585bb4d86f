"""Gemini's generateContent schema: what of it the gateway reads, its usage, its finish reasons and its errors.

Reads only the fields that decide something; every other field of a request stays undecoded and reaches a provider of
this schema as it came. Never opens a connection and never reads a clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from model_gateway.domain.chat import Message
from model_gateway.domain.chat import Part as SeenPart
from model_gateway.domain.conversation import FinishReason
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.usage import Usage
from model_gateway.wire.openai import ABSENT, invalid_field

NAME = "gemini"
EMPTY_OBJECT = msgspec.Raw(b"{}")
_MAX_TOKENS = 2**53

# What is not listed says that something was held back (SAFETY, RECITATION, BLOCKLIST, OTHER …).
_REASONS: Mapping[str, FinishReason] = {"STOP": "stop", "MAX_TOKENS": "length"}
# The model failed; what it wrote until then is no answer.
_FAILURES = frozenset(
    (
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
    )
)
FINISH_REASONS: Mapping[FinishReason, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
}


def is_failure(reason: str | None) -> bool:
    return reason in _FAILURES


def finish_reason_of(reason: str, *, calls: bool) -> FinishReason:
    """`calls`: the answer called a tool, which this schema's own reason does not say."""
    found = _REASONS.get(reason, "content_filter")
    return "tool_calls" if calls and found == "stop" else found


# --- a request, as far as a door looks at it --------------------------------------------------------------------------


class _SeenPart(msgspec.Struct, rename="camel"):
    """Any part, known or not: its text is what a guard must see."""

    text: str | None = None
    inline_data: msgspec.Raw = ABSENT
    file_data: msgspec.Raw = ABSENT
    function_call: msgspec.Raw = ABSENT
    function_response: msgspec.Raw = ABSENT

    def seen(self) -> SeenPart:
        if self.inline_data is not ABSENT or self.file_data is not ABSENT:
            return SeenPart(type="media", text=self.text or "")
        for raw in (self.function_call, self.function_response):
            if raw is not ABSENT:
                return SeenPart(type="function", text=bytes(raw).decode("utf-8", "replace"))
        return SeenPart(type="text", text=self.text or "")


class SeenContent(msgspec.Struct):
    parts: list[_SeenPart] = msgspec.field(default_factory=list[_SeenPart])
    role: str | None = None

    def message(self, role: str) -> Message:
        return Message(role=role, content=[part.seen() for part in self.parts])


class _SeenConfig(msgspec.Struct, rename="camel"):
    max_output_tokens: int | None = None


class GenerateBody(msgspec.Struct, rename="camel"):
    """The fields of a request that the gateway itself reads. The model stands in the path."""

    contents: list[SeenContent]
    system_instruction: SeenContent | None = None
    generation_config: _SeenConfig | None = None

    def all_messages(self) -> list[Message]:
        """System prompt and turns in the common shape."""
        found = [turn.message("assistant" if turn.role == "model" else "user") for turn in self.contents]
        if self.system_instruction is not None:
            found.insert(0, self.system_instruction.message("system"))
        return found

    def max_tokens(self) -> int | None:
        return self.generation_config.max_output_tokens if self.generation_config else None


_SNAKE = re.compile(rb'"[a-z]+(?:_[a-z]+)+"\s*:')
_NAME = re.compile(r"[a-z]+(?:_[a-z]+)+")
_HUMP = re.compile(r"_([a-z])")
# Inside these stand the caller's own names, which are not ours to respell.
_OPAQUE = frozenset(
    (
        "args",
        "response",
        "parametersJsonSchema",
        "responseJsonSchema",
        "properties",
        "defs",
        "default",
        "example",
        "labels",
        "partMetadata",
    )
)


def in_camel_case(body: bytes) -> bytes:
    """Protocol buffers take names in both spellings, and Google's own examples mix them: here is one of them.

    The same bytes where no name is in snake_case. Raises msgspec.DecodeError.
    """
    if not _SNAKE.search(body):
        return body
    return msgspec.json.encode(_camel(msgspec.json.decode(body)))


def _camel(value: Any) -> Any:
    if isinstance(value, list):
        return [_camel(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    spelled: dict[str, Any] = {}
    for name, item in cast("dict[str, Any]", value).items():
        camel = _HUMP.sub(lambda found: found[1].upper(), name) if _NAME.fullmatch(name) else name
        spelled[camel] = item if camel in _OPAQUE else _camel(item)
    return spelled


_decode_body = msgspec.json.Decoder(GenerateBody).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode_generate(body: bytes) -> tuple[GenerateBody, dict[str, msgspec.Raw]]:
    """The fields we read, and all fields, in camelCase. Raises InvalidRequest that names the field."""
    try:
        body = in_camel_case(body)
        if not body.isascii():
            body.decode()  # fields that are skipped are not checked for it, and are read later
        return _decode_body(body), _decode_fields(body)
    except msgspec.ValidationError as error:
        raise invalid_field(str(error)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the request body is not valid JSON: {error}") from None


class _CountBody(msgspec.Struct, rename="camel"):
    generate_content_request: msgspec.Raw = ABSENT


def decode_count(body: bytes) -> bytes:
    """What countTokens shall count: the body itself, or the whole request that it wraps. Raises InvalidRequest."""
    try:
        body = in_camel_case(body)
        wrapped = msgspec.json.decode(body, type=_CountBody).generate_content_request
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequest(f"the request body is not valid JSON: {error}") from None
    return body if wrapped is ABSENT else bytes(wrapped)


# --- replies and events -----------------------------------------------------------------------------------------------


class WireUsage(msgspec.Struct, rename="camel"):
    """`candidates_token_count` leaves out the thoughts; the prompt's count holds what came from the cache."""

    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    cached_content_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None

    def updated(self, later: WireUsage) -> WireUsage:
        """Counts are cumulative: a later one replaces an earlier one, a missing one leaves it."""
        names = self.__struct_fields__
        values = {name: getattr(later, name) for name in names if getattr(later, name) is not None}
        return msgspec.structs.replace(self, **values)

    def usage(self) -> Usage:
        thoughts = _count(self.thoughts_token_count)
        return Usage(
            _count(self.prompt_token_count) + _count(self.tool_use_prompt_token_count),
            _count(self.candidates_token_count) + thoughts,
            _count(self.cached_content_token_count),
            thoughts,
        )


def _count(tokens: int | None) -> int:
    return min(max(tokens or 0, 0), _MAX_TOKENS)


def usage_fields(usage: Usage) -> dict[str, int]:
    fields = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": max(usage.output_tokens - usage.reasoning_tokens, 0),
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_input_tokens:
        fields["cachedContentTokenCount"] = usage.cached_input_tokens
    if usage.reasoning_tokens:
        fields["thoughtsTokenCount"] = usage.reasoning_tokens
    return fields


class FunctionCall(msgspec.Struct):
    name: str = ""
    id: str | None = None
    args: msgspec.Raw = EMPTY_OBJECT

    def arguments(self) -> str:
        """As JSON text. Raises UnicodeDecodeError for bytes that are none."""
        arguments = bytes(self.args).decode()
        return "{}" if arguments == "null" else arguments


class Part(msgspec.Struct, rename="camel"):
    """A part of an answer; of a kind we do not know, nothing."""

    text: str | None = None
    thought: bool | None = None
    function_call: FunctionCall | None = None
    thought_signature: str | None = None


class Content(msgspec.Struct):
    parts: list[Part] | None = None


class Candidate(msgspec.Struct, rename="camel"):
    content: Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None

    def parts(self) -> list[Part]:
        return (self.content.parts or []) if self.content else []

    def text(self) -> str:
        return "".join(part.text for part in self.parts() if part.text and not part.thought)

    def calls(self) -> Iterator[FunctionCall]:
        return (part.function_call for part in self.parts() if part.function_call is not None)


class _PromptFeedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class Reply(msgspec.Struct, rename="camel"):
    """A whole reply, and each event of a stream."""

    candidates: list[Candidate] | None = None
    prompt_feedback: _PromptFeedback | None = None
    usage_metadata: WireUsage | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: msgspec.Raw = ABSENT

    def first(self) -> Candidate | None:
        return self.candidates[0] if self.candidates else None

    def blocked(self) -> bool:
        """The prompt itself was refused: there is no candidate."""
        return bool(self.prompt_feedback and self.prompt_feedback.block_reason)

    def reason(self) -> str:
        """Why the model stopped; empty while it has not."""
        candidate = self.first()
        if candidate is None:
            return "SAFETY" if self.blocked() else ""
        reason = candidate.finish_reason or ""
        return "" if reason == "FINISH_REASON_UNSPECIFIED" else reason


class ErrorDetail(msgspec.Struct):
    code: int = 0
    message: str = ""
    status: str = ""
    details: list[dict[str, Any]] = msgspec.field(default_factory=list[dict[str, Any]])

    def refused_key(self) -> bool:
        """A wrong key is a bad request here; elsewhere it is 401."""
        return any(detail.get("reason") in ("API_KEY_INVALID", "API_KEY_EXPIRED") for detail in self.details)

    def retry_delay_s(self) -> float | None:
        """`RetryInfo`: this schema's Retry-After, such as "34.07s"."""
        for detail in self.details:
            delay = detail.get("retryDelay")
            found = _SECONDS.fullmatch(delay) if isinstance(delay, str) else None
            if found is not None:
                return float(found[1])
        return None


_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


class ErrorBody(msgspec.Struct):
    error: ErrorDetail


decode_reply = msgspec.json.Decoder(Reply, strict=False).decode
# A stream that is not read as events gives its error in a list.
_decode_error: msgspec.json.Decoder[ErrorBody | list[ErrorBody]] = msgspec.json.Decoder(ErrorBody | list[ErrorBody])
decode_error = _decode_error.decode
encode = msgspec.json.encode


def error_body(message: str, code: int, status: str) -> bytes:
    """The error object that Google's SDKs turn into exceptions."""
    return encode({"error": {"code": code, "message": message, "status": status}})


def frame(data: bytes) -> bytes:
    """One event from JSON that holds no line break."""
    return b"data: " + data + b"\r\n\r\n"
