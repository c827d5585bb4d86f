"""The verdict on an answer: `check(said, policy) -> Verdict`. Pure: no clock, no model, no I/O.

The first thing that is wrong decides, the surest signs first. Sees the answer and what was asked of its form; never
whether it is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from model_gateway.cascade import formats, signs
from model_gateway.config.cascades import CascadeCheck
from model_gateway.config.patterns import compile_pattern
from model_gateway.domain.conversation import Answer, Refusal, ResponseFormat, Text, ToolUse

PASSED: Final = "passed"
MAX_CHARACTERS: Final = 1_000_000
"""A weaker model that says more has lost its way; and checking it would hold up the event loop."""


class Said(msgspec.Struct, frozen=True):
    """`text` of the answer, its `calls` of tools as JSON, whether it is a `refusal` by the model's own account.

    `logprobs`: of each of its tokens; None: the provider gave none. `wanted`: the form that the request asked for.
    """

    text: str
    finish_reason: str = "stop"
    calls: Sequence[str] = ()
    refusal: bool = False
    logprobs: Sequence[float] | None = None
    wanted: ResponseFormat | None = None


class Verdict(msgspec.Struct, frozen=True):
    """`reason`: `passed`, or what is wrong in one word. `logprob`: the mean, where it was known."""

    reason: str
    logprob: float | None = None

    @property
    def passed(self) -> bool:
        return self.reason == PASSED


class Policy:
    """A check as configured, its pattern compiled once."""

    def __init__(self, config: CascadeCheck) -> None:
        self.config = config
        self.pattern: Any = compile_pattern(config.pattern) if config.pattern else None


def said_by(
    answer: Answer, finish_reason: str, logprobs: Sequence[float] | None, wanted: ResponseFormat | None
) -> Said:
    """What `check` looks at of an answer."""
    return Said(
        text="".join([part.text for part in answer.parts if isinstance(part, Text)]),
        finish_reason=finish_reason,
        calls=[part.arguments for part in answer.parts if isinstance(part, ToolUse)],
        refusal=any(isinstance(part, Refusal) for part in answer.parts),
        logprobs=logprobs,
        wanted=wanted,
    )


def check(said: Said, policy: Policy) -> Verdict:
    """Is it good enough?"""
    config = policy.config
    logprob = sum(said.logprobs) / len(said.logprobs) if said.logprobs else None
    reason = _form(said, policy) or ""
    if not reason and config.logprob is not None:
        if logprob is None:
            reason = "no_logprobs"
        elif logprob < config.logprob:
            reason = "logprob"
    return Verdict(reason or PASSED, logprob)


def _form(said: Said, policy: Policy) -> str | None:
    config, text = policy.config, said.text.strip()
    if said.finish_reason == "length":
        return "length"
    if len(text) > MAX_CHARACTERS:
        return "long"
    if said.finish_reason == "content_filter":
        return "filtered"
    if said.calls:
        return None if all(formats.is_json(call or "{}", object_only=True) for call in said.calls) else "call"
    if said.refusal or (config.refusal and signs.refuses(text)):
        return "refusal"
    if not text:
        return "empty"
    if config.repetition and signs.repeats(text):
        return "repetition"
    if signs.words(text) < config.min_words:
        return "short"
    return _format(text, policy, said.wanted)


def _format(text: str, policy: Policy, wanted: ResponseFormat | None) -> str | None:
    config = policy.config
    asked = wanted.kind if wanted is not None and config.format != "any" else "text"
    if (config.format == "json" or asked != "text") and not formats.is_json(text, object_only=asked == "json"):
        return "json"
    if wanted is not None and asked == "schema" and not formats.fits(text, bytes(wanted.schema)):
        return "schema"
    if policy.pattern is not None and not policy.pattern.search(text):
        return "pattern"
    return None
