"""What a text's embedding adds to what its words say, where the routing model has such a part. Pure.

The embedding is made elsewhere (vectors/) and may be missing: it was late, or nobody can make it. Then the score is
that of the words alone, and its factors say so. What it moves is the learned probability, and φ weighs it as that one:

    score = score by words + φ · (learned with embedding − learned by words)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from operator import mul
from typing import Any, Final

import msgspec

from model_gateway.assess.trained import PRIOR_GAIN, TrainedAssessor, in_order, worth_of
from model_gateway.config.schema import RoutingConfig
from model_gateway.domain.route import Assessment, Factor

Recall = Callable[[str], Sequence[float] | None]
"""The embedding of a text (the beginning of a query), of unit length, where it is known by now."""

LEAST_KNOWN: Final = 0.05
"""A query less like the labelled ones (φ) is not embedded: it could not move the score by more than that."""

_LATE = "left out: it was not asked for, or not there in time"
_UNLIKE = "left out: the query is unlike those that it was fitted to"


class EmbeddingAssessor:
    """`words`: what judges without. Its model has an embedding part."""

    def __init__(self, words: TrainedAssessor, routing: RoutingConfig, recall: Recall) -> None:
        model = words.model
        part, directions = model.header.embedding, model.directions
        assert part is not None and directions is not None  # noqa: S101 (assessing.py looks)
        self.part = part
        self._words = words
        self._recall = recall
        self._fails, self._gain = directions
        self._weighs = routing.target_quality is not None or routing.target_cost is not None
        self._worth = worth_of(routing, part.curve)

    def begin(self, query: str) -> str:
        """So much of it is embedded."""
        return beginning(query, self.part.size)

    def wants(self, query: str) -> bool:
        """Whether its embedding would count. As dear as scoring it by words."""
        own = self._words.assess(query, explain=False)
        return bool(own.parts) and _counts(own.parts[0], own.abstained)

    def assess(self, query: str, features: Collection[str] | None = None, *, explain: bool = True) -> Assessment:
        """As the words' assessor does, with what is known of the embedding."""
        own = self._words.assess(query, features, explain=explain)
        if features or not own.parts:
            return own
        share, probability = own.parts[0], own.parts[1]
        counts = _counts(share, own.abstained)
        vector = self._recall(self.begin(query)) if counts else None
        if vector is None:
            factors = in_order([*own.factors, _left_out(counts)]) if explain else ()
            return msgspec.structs.replace(own, factors=factors, parts=(None, *own.parts))
        moved = self._moved(probability, vector) - probability
        score = min(1.0, max(0.0, own.score + share * moved))
        gain = own.gain
        if explain or self._weighs:
            # What of the gain is learned: the rest is the prior's, whose share of the score is what φ · P is not.
            learned = own.gain - PRIOR_GAIN * (own.score - share * probability)
            added = self.part.gain
            gain += (added.keep - 1.0) * learned + share * (added.step * _dot(self._gain, vector) + added.offset)
        return msgspec.structs.replace(
            own,
            score=score,
            tier=self._words.tier(score, gain, self._worth),
            gain=gain,
            factors=in_order([*own.factors, _added(moved, share, probability)]) if explain else (),
            parts=(moved, *own.parts),
        )

    def factors_of(self, parts: tuple[Any, ...], abstained: str = "") -> tuple[Factor, ...]:
        if not parts:
            return ()
        moved, share, probability, *_ = parts
        factor = _left_out(_counts(share, abstained)) if moved is None else _added(moved, share, probability)
        return in_order([*self._words.factors_of(parts[1:], abstained), factor])

    def _moved(self, probability: float, vector: Sequence[float]) -> float:
        added = self.part.fails
        certain = min(1.0 - 1e-9, max(1e-9, probability))
        logit = added.keep * math.log(certain / (1.0 - certain))
        logit += added.step * _dot(self._fails, vector) + added.offset
        return 1.0 / (1.0 + math.exp(-min(700.0, max(-700.0, logit))))


def beginning(query: str, size: int) -> str:
    """Its first `size` bytes in UTF-8, whole characters: what an embedding costs goes by them, in any script."""
    begin = query[:size]
    if begin.isascii():
        return begin
    return begin.encode(errors="replace")[:size].decode(errors="ignore")


def _counts(share: float, abstained: str) -> bool:
    return share >= LEAST_KNOWN and not abstained


def _added(moved: float, share: float, probability: float) -> Factor:
    detail = f"{probability:.2f} by words and structure becomes {probability + moved:.2f}"
    return Factor("embedding", abs(moved), share * moved, detail)


def _left_out(counts: bool) -> Factor:
    return Factor("embedding", 0.0, 0.0, _LATE if counts else _UNLIKE)


def _dot(weights: Sequence[int], values: Sequence[float]) -> float:
    return sum(map(mul, weights, values))
