"""Assessor v2: the probability that the weak tier fails at a query, calibrated and explained. Pure and deterministic.

Two judges are mixed by how much the query resembles those with labels (φ, the model's `known`):

    score = φ · learned + (1 − φ) · prior

*learned* is the routing model's calibrated probability; *prior* is the five features' score (features.py), which knows
the tasks people ask for in their own words. Where a query is like nothing that either was made from (its language, its
length, its encoding) the assessor abstains: the configured safe tier answers, and the assessment says so.

With `target_quality` or `target_cost` the tier follows from the expected gain instead: what is worth the strong model
is what the strong model is better at, which is not the same as what the weak one fails at.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from model_gateway.assess.facts import Facts
from model_gateway.assess.features import FeatureAssessor, ends_of
from model_gateway.assess.model import Curve, Reading, RoutingModel
from model_gateway.assess.reading import READ_WHOLE, STRUCTURE, sampled
from model_gateway.assess.sample import Sample
from model_gateway.config.complexity import ComplexityConfig
from model_gateway.config.schema import RoutingConfig
from model_gateway.domain.route import Assessment, Factor, Tier

# What the prior's score is worth as an expected gain: a strong model is seldom wrong at what people ask for in their
# own words, so that most of what the weak one fails at is gained.
PRIOR_GAIN = 0.5
FEWEST_PIECES, LEAST_SEEN = 6, 0.75
LONGEST_TIMES = 8
_PLACES = range(len(STRUCTURE))


class TrainedAssessor:
    """Thresholds, targets and the safe tier come from the configuration."""

    def __init__(self, complexity: ComplexityConfig, routing: RoutingConfig, model: RoutingModel) -> None:
        self.model = model
        self._prior = FeatureAssessor(complexity)
        self._longest = LONGEST_TIMES * model.header.longest
        self._safe = Tier(complexity.safe_tier)
        self._worth = worth_of(routing, model.header.curve)

    def assess(self, query: str, features: Collection[str] | None = None, *, explain: bool = True) -> Assessment:
        """Score `query` in 0–1. `features`: the prior by this subset alone; an unknown name raises InvalidRequest."""
        if features or not query or query.isspace():
            return self._prior.assess(query, features, explain=explain)
        weighs = explain or self._worth is not None
        sample = Sample(query if len(query) <= READ_WHOLE else sampled(query))
        reading = self.model.read(query, sample, explain=explain, gain=weighs)
        if sample.text is query:
            facts = Facts(sample, len(query), reading.notable)
        else:
            facts = Facts(Sample(ends_of(query)), len(query))
        prior, parts = self._prior.score(facts)
        share = reading.known
        score = share * reading.probability + (1.0 - share) * prior
        gain = share * reading.gain + (1.0 - share) * PRIOR_GAIN * prior if weighs else 0.0
        usual = reading.pieces >= FEWEST_PIECES and reading.seen >= LEAST_SEEN and len(query) <= self._longest
        abstained = "" if usual else self._strange(query, reading)
        return Assessment(
            score,
            self._safe if abstained else self.tier(score, gain, self._worth) if weighs else self._prior.tier(score),
            self._factors(reading, self._prior.shared(parts, 1.0 - share, facts), abstained) if explain else (),
            gain=gain,
            abstained=abstained,
            parts=(share, reading.probability, reading.wording, reading.measures) + parts,  # noqa: RUF005 (half the price)
        )

    def factors_of(self, parts: tuple[Any, ...], abstained: str = "") -> tuple[Factor, ...]:
        if not parts:
            return ()
        known, probability, wording, measures, *rest = parts
        prior = self._prior.shared(tuple(rest), 1.0 - known)
        reading = Reading(probability, 0.0, known, 1.0, 0, wording, measures)
        return self._factors(reading, prior, abstained)

    def tier(self, score: float, gain: float, worth: float | None) -> Tier:
        """`worth`: the gain from which on a query goes to the strong model; None: the score decides."""
        if worth is not None:
            return Tier.REMOTE if gain >= worth else Tier.LOCAL
        return self._prior.tier(score)

    def _strange(self, query: str, reading: Reading) -> str:
        """Why nothing is known of such a query; empty where something is."""
        if len(query) > self._longest:
            return f"{len(query)} characters, {LONGEST_TIMES} times more than anything learned from"
        pieces = reading.pieces
        if pieces < FEWEST_PIECES:
            # A sample that has hardly a piece that was looked at: another script, or an encoding.
            visible = len(query) - query.count(" ")
            return "hardly a word in a script that was learned from" if visible > 8 * (pieces + 1) else ""
        if reading.seen < LEAST_SEEN:
            return f"{1.0 - reading.seen:.0%} of its words are unlike anything learned from"
        return ""

    def _factors(self, reading: Reading, prior: Sequence[Factor], abstained: str) -> tuple[Factor, ...]:
        """Contributions that add up to the score; those of the learned part may be negative."""
        share = reading.known
        base = self.model.base()
        measures = self.model.weighed(reading.measures)
        structure = sum(measures)
        moved = reading.wording + structure
        slope = (reading.probability - base) / moved if abs(moved) > 1e-9 else 0.0
        words = ", ".join([f"{word} {weight:+.2f}" for word, weight in reading.words])
        sizes = [*map(abs, measures)]
        strongest = sorted(_PLACES, key=sizes.__getitem__, reverse=True)[:4]
        detail = ", ".join([f"{STRUCTURE[place]} {measures[place]:+.2f}" for place in strongest])
        rest = [
            *prior,
            Factor("similar_queries", base, share * base, f"{base:.0%} of labelled queries are failed at"),
            Factor("wording", abs(reading.probability - base), share * slope * reading.wording, words),
            Factor("structure", share, share * slope * structure, detail),
        ]
        if abstained:
            rest.append(Factor("abstained", 1.0, 0.0, f"{abstained}; the safe tier answers"))
        return in_order(rest)


def in_order(factors: Sequence[Factor]) -> tuple[Factor, ...]:
    """What decides first, then what counts most."""
    return tuple(sorted(factors, key=lambda each: (each.name != "abstained", -abs(each.contribution), each.name)))


def worth_of(routing: RoutingConfig, curve: Curve) -> float | None:
    """The gain from which on queries go to the strong model by the configured targets; None: there are none."""
    quality, cost = routing.target_quality, routing.target_cost
    worth = ([] if quality is None else [curve.gain_above(quality)]) + (
        [] if cost is None else [curve.gain_for_share(cost)]
    )
    return max(worth, default=None)
