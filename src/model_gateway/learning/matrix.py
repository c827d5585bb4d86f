"""Texts as matrices: the features of assess/reading.py, weighted by how rare they are. Decides no weight of a model."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from model_gateway.assess.reading import BITS, STRUCTURE, features_of, lanes_of, places_of, sampled, scale, structure
from model_gateway.assess.sample import Sample
from model_gateway.learning import sparse
from model_gateway.learning.sparse import Floats, Integers, Matrix

# How much the measures weigh beside the wording before anything is learned: 0.1 in all, as chosen by
# cross-validation on the development data (docs/routing.md).
STRUCTURE_SHARE = 0.1


class Texts(msgspec.Struct):
    """`presence`: rows × 2**BITS, 1/√(20 n) where present. `measures`: rows × STRUCTURE. `seen`: places of pieces."""

    presence: Matrix
    measures: Floats
    seen: set[int]
    longest: int


def read_texts(texts: Sequence[str]) -> Texts:
    ends, places, values = [0], list[int](), list[float]()
    measures: list[tuple[float, ...]] = []
    seen: set[int] = set()
    for text in texts:
        sample = Sample(sampled(text))
        single = places_of(sample)
        features = features_of(lanes_of(single), len(single))
        seen.update(single)
        places.extend(sorted(features))
        values.extend([scale(len(features))] * len(features))
        ends.append(len(places))
        measures.append(structure(sample, len(text)))
    presence = sparse.matrix(values, places, ends, 1 << BITS)
    table = np.array(measures).reshape(len(texts), len(STRUCTURE))
    return Texts(presence, table, seen, max(map(len, texts), default=0))


class Space(msgspec.Struct):
    """How raw features become columns: the places in use, how rare each is, mean and deviation of each measure."""

    places: Integers
    rarity: Floats
    means: Floats
    deviations: Floats

    @classmethod
    def of(cls, texts: Texts, others: Texts) -> Space:
        """From the labelled texts; a place that occurs once is left out. `others` may use places of their own."""
        rows = sparse.rows_of(texts.presence)
        occurs = sparse.occurrences(texts.presence)
        elsewhere = sparse.occurrences(others.presence)
        places = np.flatnonzero(((occurs >= 2) | (elsewhere >= 2)) & (occurs < 0.7 * rows))
        rarity = np.log((1.0 + rows) / (1.0 + occurs[places])) + 1.0
        return cls(places, rarity, texts.measures.mean(0), texts.measures.std(0) + 1e-6)

    @property
    def structure_scale(self) -> float:
        return STRUCTURE_SHARE / float(np.sqrt(len(STRUCTURE)))

    def columns(self, texts: Texts) -> Matrix:
        measures = np.clip((texts.measures - self.means) / self.deviations, -4.0, 4.0) * self.structure_scale
        return sparse.beside(sparse.chosen(texts.presence, self.places, self.rarity), measures)

    def weights(self, coefficients: Floats) -> tuple[Floats, Floats]:
        """(for presence of each place, for each standardised measure) from a column's coefficients."""
        used = len(self.places)
        presence = np.zeros(1 << BITS)
        presence[self.places] = coefficients[:used] * self.rarity
        return presence, coefficients[used:] * self.structure_scale
