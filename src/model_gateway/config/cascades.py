"""Cascades: try a weaker model first, check its answer, ask a stronger one where it fails. Options, and their rules.

Decides what can be configured; the check itself is `cascade/`, the calls are `cascading.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from model_gateway.config.patterns import compile_pattern
from model_gateway.config.section import Millis, Ratio, Section

if TYPE_CHECKING:  # a worker has no use for the YAML parser that this module brings
    from model_gateway.config.document import Keys

TIERS: Final = ("local", "hybrid", "remote")
GIVES_LOGPROBS: Final = frozenset(("openai", "embedded"))
"""Kinds of providers whose protocol has log-probabilities that we read."""


class CascadeCheck(Section):
    """What an answer of `first` must be like to be given. All that is set must hold."""

    logprob: float | None = Field(
        default=None,
        le=0,
        description="Mean log-probability of the answer's tokens; below it the model was guessing, such as -0.4.",
    )
    format: Literal["asked", "json", "any"] = Field(
        default="asked",
        description="asked: JSON, and what fits the schema, where the request asks for it. json: always JSON.",
    )
    pattern: str = Field(default="", description="RE2 pattern, plain or as /…/i, that the answer must hold.")
    min_words: int = Field(default=1, ge=0, description="Words it must have; each Chinese character is one.")
    refusal: bool = Field(default=True, description="An answer that says it cannot answer fails.")
    repetition: bool = Field(default=True, description="An answer that says the same again and again fails.")


class CascadeConfig(Section):
    first: str = Field(description="Asked first: a tier (local, hybrid, remote), a model, or provider/model.")
    then: str = Field(description="Asked where the check fails; written the same way.")
    above: Ratio = Field(
        default=0.0, description="Easier questions (a lower score) are not checked: `first` answers them."
    )
    below: Ratio = Field(
        default=1.0, description="Harder questions (this score or more) are not tried: `then` answers them."
    )
    timeout: Millis = Field(default=30_000, description="Milliseconds `first` may take; then `then` is asked.")
    check: CascadeCheck = CascadeCheck()

    def tries(self, score: float) -> bool:
        """Is `first` to be asked and checked at this score? A score of 1 lies below 1 too."""
        return self.above <= score and (score < self.below or self.below >= 1)


def cascade_problems(
    cascades: Mapping[str, CascadeConfig],
    taken: Mapping[str, str],
    kinds: Mapping[str, frozenset[str]],
) -> Iterator[tuple[Keys, str]]:
    """`taken`: names that callers cannot use for a cascade, and why not. `kinds`: of the providers of each place."""
    for name, cascade in cascades.items():
        keys = ("routing", "cascades", name)
        if name in taken:
            yield keys, taken[name]
        for option, place in (("first", cascade.first), ("then", cascade.then)):
            if place in kinds:
                continue
            if place in TIERS:
                yield (*keys, option), f"no provider serves {place}; supported_model_types says who serves what"
            else:
                yield (
                    (*keys, option),
                    f"{place!r} is no tier ({', '.join(TIERS)}), and no provider offers such a model",
                )
        if cascade.first == cascade.then:
            yield (*keys, "then"), f"is {cascade.first} like `first`: name a stronger one"
        if cascade.above >= cascade.below:
            yield (*keys, "above"), f"above ({cascade.above:g}) must be less than below ({cascade.below:g})"
        yield from _check((*keys, "check"), cascade, kinds)


def _check(keys: Keys, cascade: CascadeConfig, kinds: Mapping[str, frozenset[str]]) -> Iterator[tuple[Keys, str]]:
    check = cascade.check
    if check.pattern:
        try:
            compile_pattern(check.pattern)
        except ValueError as error:
            reason = str(error)
            yield (*keys, "pattern"), "it matches every text" if "empty text" in reason else reason
    having = kinds.get(cascade.first, frozenset())
    if check.logprob is not None and having and not having & GIVES_LOGPROBS:
        yield (
            (*keys, "logprob"),
            f"{cascade.first} gives no log-probabilities that the gateway reads "
            f"({', '.join(sorted(having))}); remove it, or let a provider of kind openai or embedded be first",
        )


def places(cascades: Mapping[str, CascadeConfig]) -> Mapping[str, Sequence[str]]:
    """Where each leads: first and then."""
    return {name: (cascade.first, cascade.then) for name, cascade in cascades.items()}
