"""Assessor v1: five explained features of a query, and a score from them. Pure and deterministic.

Each feature has a strength s ≥ 0 and the value 1 − e^(−s). The score is 1 − e^(−STEEPNESS · Σ wᵢ sᵢ) with weights that
sum to 1: a noisy-or, so that one overwhelming reason is enough and no reason is lost to an average. A factor's
contribution is its share of the sum, so that contributions add up to the score. Strengths are bounded (MAX_STRENGTH).
What counts is found by facts.py. A long prompt is judged by its beginning and its end; its length counts whole.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from model_gateway.assess.facts import Facts
from model_gateway.assess.sample import Sample
from model_gateway.config.complexity import ComplexityConfig
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.route import Assessment, Factor, Tier

FEATURES = ("length", "vocabulary_diversity", "grammar_complexity", "domain_knowledge", "multi_part_question")

STEEPNESS = 1.5
MAX_STRENGTH = 3.0
HEAD_CHARACTERS, TAIL_CHARACTERS = 2_500, 1_500


class _Counts(NamedTuple):
    """How many of what: facts without a word of the query."""

    words: float
    unique: float
    clauses: int
    sentences: int
    terms: int
    code: bool
    tasks: int
    questions: int
    numbered: int
    separators: int


class FeatureAssessor:
    """Weights, thresholds and the set of features come from the configuration."""

    def __init__(self, config: ComplexityConfig) -> None:
        weights = config.weights
        self._weights: dict[str, float] = {name: float(getattr(weights, name)) for name in config.features}
        self._asked = _asked(self._weights)
        weighed = dict(self._asked)
        self._all = tuple([weighed.get(place, 0.0) for place in range(len(FEATURES))])
        self._low, self._high = config.thresholds.low, config.thresholds.high

    def assess(self, query: str, features: Collection[str] | None = None, *, explain: bool = True) -> Assessment:
        """Score `query` in 0–1. `features`: a subset by name. Raises InvalidRequest for an unknown name."""
        asked = self._asked if not features else _asked(self._subset(features))
        if not query or query.isspace():
            return Assessment(0.0, self.tier(0.0), (Factor("length", 0.0, 0.0, "empty query"),))
        facts = Facts(Sample(ends_of(query)), len(query))
        score, parts = self.score(facts, asked)
        factors = _in_order(_factors(asked, parts[0], _details(_Counts(*parts[1:]), facts))) if explain else ()
        return Assessment(score, self.tier(score), factors, parts=parts)

    def score(self, facts: Facts, asked: Sequence[tuple[int, float]] | None = None) -> tuple[float, tuple[Any, ...]]:
        """And the parts that it is made of (factors_of)."""
        strengths = _strengths(facts)
        if asked is None:
            a, b, c, d, e = strengths
            of_a, of_b, of_c, of_d, of_e = self._all
            weighted = a * of_a + b * of_b + c * of_c + d * of_d + e * of_e
        else:
            weighted = sum([weight * strengths[place] for place, weight in asked])
        return 1.0 - math.exp(-STEEPNESS * weighted), (
            strengths, facts.words, facts.unique, facts.clauses, facts.sentences, len(facts.terms), facts.code,
            len(facts.tasks), facts.questions, facts.numbered, facts.separators,
        )  # fmt: skip

    def factors_of(self, parts: tuple[Any, ...], abstained: str = "", facts: Facts | None = None) -> tuple[Factor, ...]:
        """Of a whole assessment, not of one by a subset. An empty text has none. `facts` add words."""
        del abstained  # it never does
        if not parts:
            return ()
        return _in_order(self.shared(parts, 1.0, facts))

    def shared(self, parts: tuple[Any, ...], share: float, facts: Facts | None = None) -> list[Factor]:
        """The same in no order, where the score has that share of another one."""
        return _factors(self._asked, parts[0], _details(_Counts(*parts[1:]), facts), share)

    def tier(self, score: float) -> Tier:
        """What the thresholds say of a score."""
        return Tier.LOCAL if score < self._low else Tier.HYBRID if score < self._high else Tier.REMOTE

    def _subset(self, features: Collection[str]) -> dict[str, float]:
        for name in features:
            if name not in FEATURES:
                shown = name[:100]
                import difflib

                near = difflib.get_close_matches(shown, FEATURES, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise InvalidRequest(f"unknown feature `{shown}`; {hint}known: {', '.join(FEATURES)}", param="features")
        asked = {name: self._weights.get(name, 0.0) for name in FEATURES if name in features}
        # Asked for by name, but weighted 0 or left out by the configuration: they count alike.
        return asked if any(asked.values()) else dict.fromkeys(asked, 1.0)


def _asked(weights: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    """(place in FEATURES, weight) of each, with weights that sum to 1."""
    total = sum(weights.values()) or 1.0
    return tuple([(FEATURES.index(name), weight / total) for name, weight in weights.items()])


def ends_of(query: str) -> str:
    """The query, or its two ends where it is long."""
    if len(query) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return query
    return f"{query[:HEAD_CHARACTERS]}\n{query[-TAIL_CHARACTERS:]}"


# --- the features: how strong, and what counted ----------------------------------------------------------------------


def _strengths(facts: Facts) -> tuple[float, ...]:
    """In the order of FEATURES, each 0 to MAX_STRENGTH."""
    words, separators = facts.words, facts.separators
    grammar = 0.14 * facts.clauses + 0.06 * separators
    long = words / facts.sentences - 10.0
    if long > 0.0:
        grammar += 0.025 * long
    many = 0.0
    if facts.tasks:
        deepest = all_depths = 0.0
        for depth in facts.tasks.values():
            all_depths += depth
            if depth > deepest:
                deepest = depth
        many = deepest + 0.4 * (all_depths - deepest)
    if separators > 4 or facts.questions > 1 or facts.numbered:
        parts = _parts(facts)
        many += 0.15 * (parts if parts < 6 else 6)
    if facts.emphasis:
        many += 0.35 * (facts.emphasis if facts.emphasis < 3 else 3)
    length = words / 45.0
    # Guiraud's index (unique / √words): unlike the plain ratio it does not fall as a text grows.
    diversity = facts.unique / math.sqrt(words) / 6.0 if words else 0.0
    domain = 0.42 * len(facts.terms) if facts.terms else 0.0
    if facts.code:
        domain += 0.4
    strengths = (length, diversity, grammar, domain, many)
    if max(strengths) <= MAX_STRENGTH:
        return strengths
    return tuple([min(each, MAX_STRENGTH) for each in strengths])


def _parts(facts: Facts | _Counts) -> int:
    """Parts beyond the first: further question marks, numbered lines, long enumerations."""
    parts = facts.numbered
    if facts.questions > 1:
        parts += facts.questions - 1
    if facts.separators > 4:
        parts += (facts.separators - 3) // 2
    return parts


def _factors(
    asked: Sequence[tuple[int, float]], strengths: Sequence[float], details: Sequence[str], share: float = 1.0
) -> list[Factor]:
    """They add up to that share of the score."""
    weighted = 0.0
    for place, weight in asked:
        weighted += weight * strengths[place]
    scale = (1.0 - math.exp(-STEEPNESS * weighted)) / weighted if weighted else 0.0
    return [
        Factor(
            FEATURES[place],
            1.0 - math.exp(-strengths[place]),
            share * (weight * strengths[place] * scale),
            details[place],
        )
        for place, weight in asked
    ]


def _in_order(factors: list[Factor]) -> tuple[Factor, ...]:
    """The largest contribution first."""
    factors.sort(key=lambda factor: (-factor.contribution, factor.name))
    return tuple(factors)


def _details(counts: _Counts, facts: Facts | None = None) -> tuple[str, ...]:
    """In the order of FEATURES. Without facts, which hold words of the query, it is told how many there were."""
    per_sentence = round(counts.words / counts.sentences)
    return (
        f"about {round(counts.words)} words",
        f"{round(counts.unique)} different words",
        f"{counts.clauses} clause words, {per_sentence} words a sentence",
        _domain_detail(facts) if facts is not None else _domain_count(counts),
        _multi_part_detail(facts) if facts is not None else _multi_part_count(counts),
    )


def _domain_detail(facts: Facts) -> str:
    domains = list(dict.fromkeys(facts.terms.values()))
    if facts.code and "computing" not in domains:
        domains.append("code")
    if not domains:
        return "no special terms"
    return f"{', '.join(domains[:4])}: {', '.join(list(facts.terms)[:6]) or 'code'}"


def _domain_count(counts: _Counts) -> str:
    found = [f"{counts.terms} special terms"] if counts.terms else []
    if counts.code:
        found.append("code")
    return ", ".join(found) or "no special terms"


def _multi_part_detail(facts: Facts) -> str:
    parts = _parts(facts)
    if not facts.tasks and not parts:
        return "one plain request"
    names = ", ".join(list(facts.tasks)[:6]) or "none named"
    return f"tasks: {names}; {parts + 1} parts" if parts else f"tasks: {names}"


def _multi_part_count(counts: _Counts) -> str:
    parts = _parts(counts)
    if not counts.tasks and not parts:
        return "one plain request"
    tasks = f"{counts.tasks} task words"
    return f"{tasks}; {parts + 1} parts" if parts else tasks
