"""What single Claude models want to be told differently: how they are asked to think, and whether they can be stopped.

The facts are Anthropic's published ones, read from a model's name. A name without a version (another vendor's model
behind the same schema) is asked in the oldest way. Only what a translation must choose is decided here: what a model
merely refuses, its provider says itself.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

Thinking: TypeAlias = Literal["omit", "disabled", "between_tools", "always"]

# claude-3-7-sonnet-20250219, claude-opus-4-7, claude-haiku-4-5-20251001, claude-sonnet-5: a date is no minor version.
_VERSION = re.compile(r"claude-(?:[a-z]+-)?(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?![\d])")
_ADAPTIVE_SINCE = (4, 7)


def version_of(model: str) -> tuple[int, int]:
    """(0, 0): no Claude, or one that does not say."""
    found = _VERSION.search(model)
    if found is None:
        return (5, 0) if "claude-mythos" in model else (0, 0)
    return int(found["major"]), int(found["minor"] or 0)


def is_adaptive(model: str) -> bool:
    """True where thinking has an effort and no budget: since 4.7 a budget is refused."""
    return version_of(model) >= _ADAPTIVE_SINCE


def without_thinking(model: str) -> Thinking:
    """How a model is told not to think: by saying nothing, by a word, or not at all."""
    version = version_of(model)
    if version < (5, 0):
        return "omit"
    if "claude-mythos" in model or "claude-fable" in model:
        return "always"
    if version >= (5, 5) and "claude-opus" in model:
        return "always"
    if version >= (5, 5) and "claude-sonnet" in model:
        return "between_tools"
    return "disabled"
