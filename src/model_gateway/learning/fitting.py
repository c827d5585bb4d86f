"""Fits a routing model: three ridge regressions on the same features, calibrated on rows that they did not see.

Decides the model's form. One file of rows is taken as a sample of the traffic to come; several files are taken as
examples of traffic that may be different again. Then what is learned is what makes a query harder *among its like*:
rows are compared within their topic, and length counts by itself, for it is the one measure that held on every kind of
query left out in turn (docs/routing.md).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from datetime import date

import msgspec
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.optimize import minimize
from scipy.sparse.linalg import lsqr

from model_gateway.assess.model import Calibration, Curve, Head, Header, RoutingModel
from model_gateway.assess.reading import BITS, FORMAT, LENGTH, STRUCTURE
from model_gateway.learning.matrix import Floats, Space, Texts, read_texts
from model_gateway.learning.rows import Row

Labels = NDArray[np.int64]

FOLDS = 5
PENALTIES = (3.0, 10.0, 30.0, 100.0)
# A gain is mostly noise (right or wrong, twice), and the squared error chooses too weak a penalty for its order.
GAIN_PENALTY = 30.0
CURVE_POINTS = 200
TOPIC_ROWS, MOST_TOPICS = 150, 40
# Weights of the three parts of a gain that must hold elsewhere, each in its own standard deviations.
WITHIN, LENGTH_PART, OVERALL = 1.0, 1.5, 0.2


class _Fitted(msgspec.Struct):
    """One head: its coefficients, and what it says of each row when fitted without it."""

    coefficients: Floats
    apart: Floats


def fit(rows: Sequence[Row], everyday: Sequence[str], *, name: str, seed: int, today: date) -> RoutingModel:
    """`everyday`: queries in people's own words, without labels; the model learns what is not like its rows."""
    labelled, others = read_texts([row.prompt for row in rows]), read_texts(everyday)
    space = Space.of(labelled, others)
    columns = space.columns(labelled)
    weak, strong = np.array([row.weak for row in rows]), np.array([row.strong for row in rows])
    folds = np.random.default_rng(seed).permutation(len(rows)) % FOLDS
    failed = 1.0 - weak
    fails = _fitted(columns, failed - _means(failed, _numbers([row.weak_model for row in rows])), folds)
    calibration = _calibrated(fails.apart, failed, [row.weak_model for row in rows])
    gain = _gain(columns, strong - weak, rows, labelled, folds, seed)
    slope, offset = _line(gain.apart, strong - weak)
    known, known_base = _known(columns, space.columns(others), seed)
    arrays, heads = [], []
    for coefficients, base in ((fails.coefficients, 0.0), (gain.coefficients, 0.0), (known, known_base)):
        places, measures = space.weights(coefficients)
        step = float(np.abs(places).max()) / 32767.0 or 1.0
        arrays.append(array("h", np.round(places / step).astype(np.int16).tobytes()))
        heads.append(Head(step, tuple(float(weight) for weight in measures), base))
    header = Header(
        format=FORMAT,
        bits=BITS,
        name=name,
        made=today.isoformat(),
        rows=len(rows),
        sources=tuple(dict.fromkeys(row.source for row in rows)),
        longest=labelled.longest,
        means=tuple(map(float, space.means)),
        deviations=tuple(map(float, space.deviations)),
        fails=heads[0],
        gain=heads[1],
        known=heads[2],
        calibration=calibration,
        gain_slope=slope,
        gain_offset=offset,
        curve=_curve(slope * gain.apart + offset, weak, strong),
    )
    return RoutingModel(header, *arrays, _seen(labelled, others))


def _ridge(columns: sp.csr_matrix, target: Floats, penalty: float) -> Floats:
    return lsqr(columns, target, damp=float(np.sqrt(penalty)), atol=1e-4, btol=1e-4, iter_lim=30)[0]


def _fitted(
    columns: sp.csr_matrix, target: Floats, folds: Labels, penalties: Sequence[float] = PENALTIES
) -> _Fitted:
    """The penalty is the one whose predictions of rows left out are best by squared error."""
    best: tuple[float, float, Floats] | None = None
    for penalty in penalties:
        apart = _apart(lambda rows, penalty=penalty: _ridge(columns[rows], target[rows], penalty), columns, folds)
        scaled = apart * _line(apart, target)[0]
        error = float(np.mean((target - scaled) ** 2))
        if best is None or error < best[0]:
            best = (error, penalty, apart)
    assert best is not None  # noqa: S101 (there are penalties)
    return _Fitted(_ridge(columns, target, best[1]), best[2])


def _apart(train: Callable[[Labels], Floats], columns: sp.csr_matrix, folds: Labels) -> Floats:
    said = np.zeros(columns.shape[0])
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        said[outside] = columns[outside] @ train(inside)
    return said


def _gain(
    columns: sp.csr_matrix, gained: Floats, rows: Sequence[Row], texts: Texts, folds: Labels, seed: int
) -> _Fitted:
    overall = _fitted(columns, gained - gained.mean(), folds, (GAIN_PENALTY,))
    if len({row.source for row in rows}) == 1:
        return overall
    within = _fitted(columns, gained - _means(gained, _topics(rows, texts, seed)), folds, (GAIN_PENALTY,))
    length = np.zeros(columns.shape[1])
    length[LENGTH - len(STRUCTURE)] = 1.0
    lengths = columns @ length
    parts = ((WITHIN, within), (OVERALL, overall), (LENGTH_PART, _Fitted(length, lengths)))
    return _Fitted(
        sum((share / part.apart.std() * part.coefficients for share, part in parts), np.zeros(columns.shape[1])),
        sum((share / part.apart.std() * part.apart for share, part in parts), np.zeros(len(rows))),
    )


def _topics(rows: Sequence[Row], texts: Texts, seed: int) -> Labels:
    """The declared domain; where a file declares only one, clusters of its texts' structure."""
    domains = [f"{row.source}/{row.domain}" for row in rows]
    sources = np.array([row.source for row in rows])
    measures = (texts.measures - texts.measures.mean(0)) / (texts.measures.std(0) + 1e-6)
    names = np.array(domains, dtype=object)
    for source in np.unique(sources):
        inside = np.flatnonzero(sources == source)
        if len({domains[row] for row in inside}) > 1:
            continue
        count = max(2, min(MOST_TOPICS, len(inside) // TOPIC_ROWS))
        _, cluster = kmeans2(measures[inside], count, minit="++", rng=seed)
        names[inside] = [f"{source}/{number}" for number in cluster]
    return _numbers(list(names))


def _numbers(names: Sequence[str]) -> Labels:
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1]


def _means(values: Floats, groups: Labels) -> Floats:
    return (np.bincount(groups, weights=values) / np.bincount(groups))[groups]


def _line(said: Floats, found: Floats) -> tuple[float, float]:
    """Least squares found ≈ slope · said + offset; a slope below zero would turn the order around and is not taken."""
    spread = float(said.var())
    slope = float(np.mean((said - said.mean()) * (found - found.mean()))) / spread if spread > 1e-18 else 0.0
    slope = max(slope, 1e-6)
    return slope, float(found.mean() - slope * said.mean())


def _calibrated(said: Floats, failed: Floats, models: Sequence[str]) -> Calibration:
    """Platt's logistic fit on rows left out, with one level for each weak model that has a name."""
    names = sorted(set(models))
    group = np.array([names.index(model) for model in models])

    def loss(parameters: Floats) -> tuple[float, Floats]:
        logits = parameters[0] * said + parameters[1 + group]
        probability = 1.0 / (1.0 + np.exp(-logits))
        error = probability - failed
        value = float(np.mean(np.logaddexp(0.0, logits) - failed * logits)) + 1e-6 * float(parameters @ parameters)
        slopes = np.bincount(group, weights=error, minlength=len(names))
        return value, np.concatenate([[error @ said], slopes]) / len(said) + 2e-6 * parameters

    found = minimize(loss, np.array([1.0 / max(float(said.std()), 1e-6)] + [0.0] * len(names)), jac=True).x
    offsets = {name: float(offset) for name, offset in zip(names, found[1:], strict=True)}
    counts = np.bincount(group)
    middle = float(np.average(found[1:], weights=counts))
    return Calibration(float(found[0]), middle, {name: offset for name, offset in offsets.items() if name})


def _known(labelled: sp.csr_matrix, others: sp.csr_matrix, seed: int) -> tuple[Floats, float]:
    """(coefficients, base) of a logit: does a text resemble the labelled ones rather than the everyday ones?"""
    columns = sp.vstack([labelled, others]).tocsr()
    truth = np.concatenate([np.ones(labelled.shape[0]), np.zeros(others.shape[0])])
    weights = np.sqrt(np.where(truth > 0, 0.5 / labelled.shape[0], 0.5 / others.shape[0]) * len(truth))
    weighted = sp.diags(weights) @ columns
    target = weights * (2.0 * truth - 1.0)
    folds = np.random.default_rng(seed).permutation(len(truth)) % FOLDS
    apart = _apart(lambda rows: _ridge(weighted[rows], target[rows], 1.0), columns, folds)
    slope, offset = 1.0, 0.0

    def loss(parameters: Floats) -> float:
        logits = parameters[0] * apart + parameters[1]
        return float(np.average(np.logaddexp(0.0, logits) - truth * logits, weights=weights**2))

    slope, offset = minimize(loss, np.array([1.0, 0.0])).x
    return _ridge(weighted, target, 1.0) * slope, float(offset)


def _curve(gain: Floats, weak: Floats, strong: Floats) -> Curve:
    order = np.argsort(-gain, kind="stable")
    total = float(strong.sum() - weak.sum())
    reached = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) / (total or 1.0)
    at = np.linspace(0, len(order), CURVE_POINTS + 1).astype(int)
    gains = gain[order][np.minimum(at, len(order) - 1)]
    return Curve(tuple(map(float, gains)), tuple(map(float, reached[at])))


def _seen(labelled: Texts, others: Texts) -> bytes:
    seen = bytearray(1 << BITS)
    for place in labelled.seen | others.seen:
        seen[place] = 1
    return bytes(seen)
