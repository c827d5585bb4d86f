"""How a sensitive pattern is written: plain RE2, or a `/…/flags` literal as JavaScript has them.

Decides what a literal means and whether it compiles. Never sees a prompt: matching is the guard's.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

import re2

_KEPT_FLAGS = "ims"
_IDLE_FLAGS = "gu"  # a search stops at the first match, and RE2 always matches characters, not bytes

_re2 = cast("Any", re2)  # the library has no types; Pattern below is what we use of it

# RE2 would write its own copy of every parse error to stderr.
_OPTIONS = _re2.Options()
_OPTIONS.log_errors = False


class Match(Protocol):
    def span(self) -> tuple[int, int]: ...

    def group(self) -> str: ...


class Pattern(Protocol):
    """A compiled RE2 pattern: time linear in the text, whatever the pattern."""

    def search(self, text: str) -> Match | None: ...


def compile_pattern(literal: str) -> Pattern:
    """Compile plain RE2, or a `/…/` literal with the flags i, m, s, g, u.

    A pattern that begins with a slash is always a literal: reading `/secret/ix` as plain text would be a rule that
    silently never matches. Raises ValueError with the reason.
    """
    source, flags = _split_literal(literal)
    if not source:
        raise ValueError("the pattern is empty")
    kept = "".join(sorted(set(flags) & set(_KEPT_FLAGS)))
    try:
        pattern: Pattern = _re2.compile(f"(?{kept}){source}" if kept else source, _OPTIONS)
    except _re2.error as error:
        detail: object = error.args[0] if error.args else "not a valid pattern"
        reason = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
        raise ValueError(f"{reason} (RE2 syntax: no look-around, no back-references)") from None
    if pattern.search("") is not None:
        raise ValueError("it matches the empty text, so it would refuse every query")
    return pattern


def _split_literal(literal: str) -> tuple[str, str]:
    if not literal.startswith("/"):
        return literal, ""
    end = literal.rfind("/")
    if end == 0:
        raise ValueError(r"it begins with / but no / ends it; a pattern for a slash itself is written \/")
    source, flags = literal[1:end], literal[end + 1 :]
    unknown = "".join(flag for flag in flags if flag not in _KEPT_FLAGS + _IDLE_FLAGS)
    if unknown:
        raise ValueError(f"unknown flags {unknown!r} after the last /; known are i, m, s, g, u")
    return source, flags
