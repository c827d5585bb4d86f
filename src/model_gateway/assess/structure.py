"""What the measures of a text's structure (reading.py) say to each head of a routing model. Pure.

A head's weights are of the standardised measures: so many deviations from the mean, of which no more than FAR count.
Of the measures most count something, and are small whole numbers: what each says is looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from operator import mul, sub
from typing import Final

from model_gateway.assess.reading import COUNTS, LOGARITHMS, RATIOS, STRUCTURE, Counted, in_order, measures_of

FAR: Final = 4.0
_FEW, _MANY = 64, 1_024  # what smaller counts say is listed: of most things, of words
_PLACES = range(len(COUNTS))


class Structure:
    """`fails`, `known` and `gain`: the heads' weights, in the order of STRUCTURE, as `means` and `deviations` are."""

    def __init__(
        self,
        means: Sequence[float],
        deviations: Sequence[float],
        fails: Sequence[float],
        known: Sequence[float],
        gain: Sequence[float],
    ) -> None:
        self._shift, self._stretch = tuple(means), tuple(1.0 / deviation for deviation in deviations)
        self._fails, self._known, self._gain = fails, known, gain
        scales = {
            name: (mean - FAR * deviation, mean + FAR * deviation, mean, complex(*two) / deviation, third / deviation)
            for name, mean, deviation, *two, third in zip(STRUCTURE, means, deviations, fails, known, gain, strict=True)
        }
        # What is said of a count of 0, and of a ratio of 0: most are 0 in most texts.
        self._base, self._base_of_gain = 0j, 0.0
        self._alone: list[float] = []
        self._counts: list[list[complex]] = []
        self._counts_of_gain: list[list[float]] = []
        for name in COUNTS:
            lowest, highest, mean, both, of_gain = scales[name]
            usual = LOGARITHMS[: _MANY if name in ("words", "Chinese") else _FEW]
            measures = [min(highest, max(lowest, measure)) for measure in usual]
            least = measures[0] - mean
            self._base += least * both
            self._base_of_gain += least * of_gain
            self._alone.append(least * both.real)
            self._counts.append([(measure - measures[0]) * both for measure in measures])
            self._counts_of_gain.append([(measure - measures[0]) * of_gain for measure in measures])
        ratios = [scales[name] for name in RATIOS]
        for _, _, mean, both, of_gain in ratios:
            self._base -= mean * both
            self._base_of_gain -= mean * of_gain
            self._alone.append(-mean * both.real)
        self._bounds = [end for lowest, highest, *_ in ratios for end in (lowest, highest)]
        self._ratios = [weight for *_, both, _ in ratios for weight in (both.real, both.imag)]
        self._scales = [(lowest, highest, both.real, of_gain) for lowest, highest, _, both, of_gain in ratios]

    def says(self, measures: Counted) -> tuple[float, float]:
        """Of failing, and of being known.

        A complex number takes both along for the price of one. No loop over the ratios: it would cost twice as much.
        """
        both, counts, said = self._base, measures[0], self._counts
        try:
            for place in compress(_PLACES, counts):
                both += said[place][counts[place]]
        except IndexError:
            return self._says_of_unusual(measures)
        a, b, c, d, e, f = measures[1]
        low_a, high_a, low_b, high_b, low_c, high_c, low_d, high_d, low_e, high_e, low_f, high_f = self._bounds
        if not (
            low_a < a < high_a and low_b < b < high_b and low_c < c < high_c
            and low_d < d < high_d and low_e < e < high_e and low_f < f < high_f
        ):  # fmt: skip
            return self._says_of_unusual(measures)
        (
            fails_a, known_a, fails_b, known_b, fails_c, known_c, fails_d, known_d, fails_e, known_e, fails_f, known_f,
        ) = self._ratios  # fmt: skip
        return (
            both.real + a * fails_a + b * fails_b + c * fails_c + d * fails_d + e * fails_e + f * fails_f,
            both.imag + a * known_a + b * known_b + c * known_c + d * known_d + e * known_e + f * known_f,
        )

    def says_of_gain(self, measures: Counted) -> float:
        counts, ratios = measures
        gain, said = self._base_of_gain, self._counts_of_gain
        try:
            for place in compress(_PLACES, counts):
                gain += said[place][counts[place]]
        except IndexError:
            return _dot(self._gain, self._standardised(measures))
        for ratio, (lowest, highest, _, weight) in zip(ratios, self._scales, strict=True):
            gain += (lowest if ratio < lowest else highest if ratio > highest else ratio) * weight
        return gain

    def weighed(self, measures: Counted) -> Sequence[float]:
        """Of failing, what each measure says, in the order of STRUCTURE."""
        counts, ratios = measures
        weighed, said = [*self._alone], self._counts
        try:
            for place in compress(_PLACES, counts):
                weighed[place] += said[place][counts[place]].real
        except IndexError:
            return [*map(mul, self._fails, self._standardised(measures))]
        place = len(_PLACES)
        for ratio, (lowest, highest, weight, _) in zip(ratios, self._scales, strict=True):
            weighed[place] += (lowest if ratio < lowest else highest if ratio > highest else ratio) * weight
            place += 1
        return in_order(weighed)

    def _says_of_unusual(self, measures: Counted) -> tuple[float, float]:
        """Where there is more of something than is listed, or a ratio is far from the mean."""
        deviations = self._standardised(measures)
        return _dot(self._fails, deviations), _dot(self._known, deviations)

    def _standardised(self, measures: Counted) -> list[float]:
        """In the order of STRUCTURE, in standard deviations from the mean, none of them far."""
        deviations = map(mul, map(sub, measures_of(measures), self._shift), self._stretch)
        return [-FAR if x < -FAR else FAR if x > FAR else x for x in deviations]


def _dot(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(map(mul, weights, values))
