"""How good a routing score is: pure functions of scores and of what two models got right. Decides nothing.

Definitions, for a score (higher: send to the strong model) and c the share sent there: PGR(c) = (Q(c) − Q_weak) /
(Q_strong − Q_weak), Q the mean score when the c hardest go to the strong model; APGR = ∫₀¹ PGR dc (chance: 0.5);
CPT(x) = the smallest c with PGR ≥ x (RouteLLM, arXiv 2406.18665).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def gap_recovered(score: Floats, weak: Floats, strong: Floats) -> Floats:
    """PGR at c = 0, 1/n … 1. Equal scores share their order's mean, so that ties win nothing. NaN without a gap."""
    order = np.argsort(-score, kind="stable")
    gain = (strong - weak)[order]
    _, group = np.unique(-score[order], return_inverse=True)
    means = np.bincount(group, weights=gain) / np.bincount(group)
    total = float(strong.sum() - weak.sum())
    if abs(total) < 1e-12:
        return np.full(len(score) + 1, np.nan)
    return np.concatenate([[0.0], np.cumsum(means[group])]) / total


def apgr(score: Floats, weak: Floats, strong: Floats) -> float:
    curve = gap_recovered(score, weak, strong)
    return float(np.mean((curve[1:] + curve[:-1]) / 2.0))


def cpt(curve: Floats, share: float) -> float:
    """The smallest share of calls to the strong model with which `share` of the gap is recovered, 0–1."""
    reached = np.flatnonzero(curve >= share)
    return float(reached[0] / (len(curve) - 1)) if len(reached) else 1.0


def bootstrap(score: Floats, weak: Floats, strong: Floats, *, rounds: int = 500, seed: int = 0) -> float:
    """The standard error of APGR."""
    random = np.random.default_rng(seed)
    draws = (random.integers(0, len(score), len(score)) for _ in range(rounds))
    return float(np.nanstd([apgr(score[draw], weak[draw], strong[draw]) for draw in draws]))


def bootstrap_difference(one: Floats, other: Floats, weak: Floats, strong: Floats, *, rounds: int = 500) -> float:
    """The standard error of APGR(one) − APGR(other), both of the same rows in each round."""
    random = np.random.default_rng(0)
    draws = (random.integers(0, len(one), len(one)) for _ in range(rounds))
    found = [apgr(one[draw], weak[draw], strong[draw]) - apgr(other[draw], weak[draw], strong[draw]) for draw in draws]
    return float(np.nanstd(found))


def brier(probability: Floats, failed: Floats) -> float:
    return float(np.mean((probability - failed) ** 2))


def reliability(probability: Floats, failed: Floats, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean probability, share that failed, rows) of each tenth from 0 to 1 that has rows."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    return [
        (float(probability[place == at].mean()), float(failed[place == at].mean()), int((place == at).sum()))
        for at in range(bins)
        if (place == at).any()
    ]


def calibration_error(probability: Floats, failed: Floats, bins: int = 10) -> float:
    """ECE: the mean distance between said and found over the bins, weighted by their rows."""
    rows = reliability(probability, failed, bins)
    return sum(abs(said - found) * count for said, found, count in rows) / len(probability)
