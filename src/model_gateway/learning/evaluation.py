"""How well an assessor routes labelled queries: one report of plain data. Decides which figures belong together.

Measured is what the gateway does: queries go to the strong model by their expected gain, and what is called calibrated
is the score. Queries at which the assessor abstains count for the order, and not for the calibration.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from model_gateway.assess.assessor import Assessor
from model_gateway.learning import measures
from model_gateway.learning.measures import Floats
from model_gateway.learning.rows import Row


class Report(msgspec.Struct):
    """Shares are 0–1. `se`: of APGR, by bootstrap. `apgr_score`: if the score itself gave the order.

    `saved_at_95`: calls to the strong model that are not needed to keep 95 % of its mean score.
    """

    rows: int
    weak_mean: float
    strong_mean: float
    apgr: float
    se: float
    cpt50: float
    cpt80: float
    saved_at_95: float
    apgr_score: float
    apgr_length: float
    cpt50_length: float
    cpt80_length: float
    apgr_random: float
    brier: float
    ece: float
    abstained: int
    reliability: list[tuple[float, float, int]]


class Said(msgspec.Struct):
    """What the assessor said of each row, beside what the two models got right."""

    gain: Floats
    score: Floats
    length: Floats
    weak: Floats
    strong: Floats
    abstained: Floats


def ask(assessor: Assessor, rows: Sequence[Row]) -> Said:
    said = [assessor.assess(row.prompt) for row in rows]
    return Said(
        gain=np.array([assessment.gain for assessment in said]),
        score=np.array([assessment.score for assessment in said]),
        length=np.array([float(len(row.prompt)) for row in rows]),
        weak=np.array([row.weak for row in rows]),
        strong=np.array([row.strong for row in rows]),
        abstained=np.array([float(bool(assessment.abstained)) for assessment in said]),
    )


def evaluate(said: Said, *, seed: int = 0) -> Report:
    weak, strong = said.weak, said.strong
    curve = measures.gap_recovered(said.gain, weak, strong)
    by_length = measures.gap_recovered(said.length, weak, strong)
    judged = said.abstained == 0
    score, failed = said.score[judged], 1.0 - weak[judged]
    return Report(
        rows=len(weak),
        weak_mean=float(weak.mean()),
        strong_mean=float(strong.mean()),
        apgr=measures.apgr(said.gain, weak, strong),
        se=measures.bootstrap(said.gain, weak, strong, seed=seed),
        cpt50=measures.cpt(curve, 0.5),
        cpt80=measures.cpt(curve, 0.8),
        saved_at_95=1.0 - measures.cpt(weak.mean() + curve * (strong.mean() - weak.mean()), 0.95 * strong.mean()),
        apgr_score=measures.apgr(said.score, weak, strong),
        apgr_length=measures.apgr(said.length, weak, strong),
        cpt50_length=measures.cpt(by_length, 0.5),
        cpt80_length=measures.cpt(by_length, 0.8),
        apgr_random=0.5,
        brier=measures.brier(score, failed) if len(score) else float("nan"),
        ece=measures.calibration_error(score, failed) if len(score) else float("nan"),
        abstained=int(said.abstained.sum()),
        reliability=measures.reliability(score, failed) if len(score) else [],
    )
