"""What is looked up, and said of what is usual, is what the definition says: standardised, bounded, weighted."""

from __future__ import annotations

import pytest

from model_gateway.assess.reading import STRUCTURE, counted, structure
from model_gateway.assess.sample import Sample
from model_gateway.assess.structure import FAR, Structure

MEANS = [0.1 * place for place in range(len(STRUCTURE))]
DEVIATIONS = [1.0 + 0.2 * place for place in range(len(STRUCTURE))]
FAILS, KNOWN, GAIN = ([factor * (place % 5 - 2) for place in range(len(STRUCTURE))] for factor in (0.3, -0.7, 1.1))


@pytest.mark.parametrize(
    "text",
    [
        "Explain what a black hole is, number 12. Compare renting and buying, not both (A) or [b].",
        "请逐步解释多个节点如何就两次写入的先后顺序达成一致，不能误。",
        "one",
        "$ " * 100,
        "a, " * 70 + "not " * 70,
        "x" * 2_000,
    ],
    ids=["English", "Chinese", "a word", "more marks than are listed", "more words than are listed", "one long word"],
)
def test_what_measures_say_is_their_weighted_deviations(text: str) -> None:
    sample = Sample(text)
    deviations = [
        min(FAR, max(-FAR, (measure - mean) / deviation))
        for measure, mean, deviation in zip(structure(sample, len(text)), MEANS, DEVIATIONS, strict=True)
    ]

    def said(weights: list[float]) -> list[float]:
        return [weight * deviation for weight, deviation in zip(weights, deviations, strict=True)]

    ready, measures = Structure(MEANS, DEVIATIONS, FAILS, KNOWN, GAIN), counted(sample, len(text))
    assert ready.says(measures) == pytest.approx((sum(said(FAILS)), sum(said(KNOWN))))
    assert ready.says_of_gain(measures) == pytest.approx(sum(said(GAIN)))
    assert list(ready.weighed(measures)) == pytest.approx(said(FAILS))
