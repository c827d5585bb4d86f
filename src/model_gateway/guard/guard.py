"""May this prompt pass? Decides on the shape and the text of the messages, once, before anything is looked up or sent.

Never calls a model, never changes a message, and never repeats the prompt in an error. Patterns run on RE2 (linear
time): no prompt can hang the loop.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any, Protocol, cast

import re2

from model_gateway.config.patterns import compile_pattern
from model_gateway.config.schema import SecurityConfig
from model_gateway.domain.chat import Message
from model_gateway.domain.errors import InvalidRequest, UnsafePrompt

# Characters that show nothing and could split a forbidden word: soft hyphen, joiners, direction marks, fillers,
# variation selectors, tags, byte order mark.
_INVISIBLE = (
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
# Chinese text is full of these; replacing them first is 25 times faster than normalising, with the same result.
_FULL_WIDTH = tuple((char, unicodedata.normalize("NFKC", char)) for char in "，！？：；（）\u3000")

_re2 = cast("Any", re2)  # the library has no types; _Pattern is what we use of it
_OPTIONS = _re2.Options()
_OPTIONS.log_errors = False  # RE2 would write them to stderr itself


class _Pattern(Protocol):
    """A compiled RE2 pattern. Searching bytes spares it the conversion of offsets to characters."""

    @property
    def pattern(self) -> str: ...

    def search(self, text: bytes) -> object | None: ...

    def sub(self, repl: bytes, text: bytes) -> bytes: ...


class Guard:
    """Checks prompts against one SecurityConfig. Raises ValueError where a pattern is not valid RE2."""

    def __init__(self, config: SecurityConfig) -> None:
        self._validate = config.enable_request_validation
        self._max_length = config.max_query_length
        literals = config.sensitive_patterns if config.enable_content_filtering else ()
        self._patterns = tuple((literal, cast("_Pattern", compile_pattern(literal))) for literal in literals)
        self._invisible: _Pattern = _re2.compile(_INVISIBLE)
        # One pass answers "is there anything to look at": clean text, the usual case, costs one search.
        self._anything = _combine([pattern for _, pattern in self._patterns])

    def check_prompt(self, messages: Sequence[Message]) -> None:
        """Let the messages pass or raise.

        Raises InvalidRequest (`param` names the message) for a shape that is not allowed, UnsafePrompt where a
        sensitive pattern matches.
        """
        if self._validate and not messages:
            raise InvalidRequest("messages is empty: send at least one message", param="messages")
        anything = self._anything
        for index, message in enumerate(messages):
            content = message.content
            text = content if isinstance(content, str) else message.text()
            if self._validate:
                self._check_shape(index, message, text)
            if not anything or not text:
                continue
            data = text.encode() if text.isascii() else _normalise(text).encode(errors="replace")
            for pattern in anything:
                if pattern.search(data) is not None:
                    self._check_text(index, data)
                    break

    def _check_shape(self, index: int, message: Message, text: str) -> None:
        if len(text) > self._max_length:
            raise InvalidRequest(
                f"messages[{index}].content has {len(text)} characters, the limit is {self._max_length}: shorten it, "
                "or raise security.maxQueryLength",
                param=f"messages[{index}].content",
            )
        if message.role == "user" and (not text or text.isspace()) and not _has_medium(message):
            raise InvalidRequest(
                f"messages[{index}].content is blank: a user message needs text", param=f"messages[{index}].content"
            )
        if "\0" in text or not (text.isascii() or _encodable(text)):
            raise InvalidRequest(
                f"messages[{index}].content holds a NUL character or half a surrogate pair: send valid Unicode text",
                param=f"messages[{index}].content",
            )

    def _check_text(self, index: int, data: bytes) -> None:
        """The slow path: something matched, maybe only an invisible character. Strip those and say what is unsafe."""
        visible = self._invisible.sub(b"", data).decode()
        data = unicodedata.normalize("NFKC", visible).encode()
        for number, (literal, pattern) in enumerate(self._patterns):
            if pattern.search(data) is not None:
                raise UnsafePrompt(
                    f"the prompt was refused as unsafe: messages[{index}].content matches "
                    f"security.sensitivePatterns[{number}] ({literal})",
                    param=f"messages[{index}].content",
                )


def _combine(patterns: Sequence[_Pattern]) -> tuple[_Pattern, ...]:
    """All patterns and the invisible characters as one; side by side where RE2 cannot join them."""
    if not patterns:
        return ()
    try:
        return (_re2.compile("|".join([*(f"(?:{pattern.pattern})" for pattern in patterns), _INVISIBLE]), _OPTIONS),)
    except _re2.error:  # two patterns with the same group name, or more than one program may hold
        return (*patterns, _re2.compile(_INVISIBLE))


def _normalise(text: str) -> str:
    """NFKC: full-width and other look-alike forms become the plain ones a pattern is written in."""
    for wide, plain in _FULL_WIDTH:
        text = text.replace(wide, plain)
    return text if unicodedata.is_normalized("NFKC", text) else unicodedata.normalize("NFKC", text)


def _has_medium(message: Message) -> bool:
    return isinstance(message.content, list) and any(part.type != "text" for part in message.content)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
