"""Fits a routing model: three ridge regressions on the same features, calibrated on rows that they did not see.

Decides the model's form. One file of rows is taken as a sample of the traffic to come, and the gain is learned from it.
Several files are taken as examples of traffic that may be different again. Then the order is mostly that of BELIEF, a
sum of measures that held on kinds of query left out in turn (docs/routing.md), and what was learned, over all rows and
within topics, moves it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from datetime import date

import msgspec
import numpy as np

from model_gateway.assess.model import Calibration, Curve, Head, Header, RoutingModel
from model_gateway.assess.reading import BITS, FORMAT, STRUCTURE
from model_gateway.learning import sparse
from model_gateway.learning.matrix import Space, Texts, read_texts
from model_gateway.learning.rows import Row
from model_gateway.learning.sparse import Floats, Integers, Matrix, ridge

FOLDS = 5
PENALTIES = (3.0, 10.0, 30.0, 100.0)
# A gain is mostly noise (right or wrong, twice), and the squared error says little of its order: this one orders best,
# or nearly so, from 500 to 7,000 rows.
GAIN_PENALTY = 10.0
# Where a file tells the domains of its rows, half of what is to be learned of a row is its domain's mean: a gain is 1,
# 0 or -1, and that is its part with the least noise. The mean is drawn to that of all rows as by so many of them, and
# what is steadier takes less of a penalty. By cross-validation on the development data (docs/adr/0013).
DOMAIN_SHARE, DOMAIN_PRIOR, DOMAIN_PENALTY = 0.5, 20.0, 5.0
CURVE_POINTS = 200
TOPIC_ROWS, MOST_TOPICS = 150, 40
# What is believed of queries unlike all that have labels: long ones with many different words, names that come back,
# quantities in relation, joined and denied parts gain by a strong model; bare figures and formulas, which both fail at
# or both can do, gain nothing. The signs are all that was chosen; each counts alike, in its standard deviations.
BELIEF = {
    "words": 1.0,
    "vocabulary": 1.0,
    "repetition": 1.0,
    "relations": 1.0,
    "connectives": 1.0,
    "negations": 1.0,
    "mathematics": -1.0,
    "numbers a word": -1.0,
}
# How much the belief weighs as a column of its own beside the wording before anything is learned.
BELIEF_SHARE = 0.05
# Weights of the three parts of a gain that must hold elsewhere, each in its own standard deviations.
BELIEVED, WITHIN, OVERALL = 1.0, 0.25, 0.15


class _Fitted(msgspec.Struct):
    """One head: its coefficients, and what it says of each row when fitted without it."""

    coefficients: Floats
    apart: Floats


class Apart(msgspec.Struct):
    """What a model says of each row when it was fitted without it: the calibrated logit of failing, the gain.

    `folds`: which rows were left out together. `topics`: within which the gain is learned; of one file all are one.
    """

    logit: Floats
    gain: Floats
    folds: Integers
    topics: Integers


def fit(
    rows: Sequence[Row], everyday: Sequence[str], *, name: str, seed: int, today: date, alike: float = 0.5
) -> RoutingModel:
    """`everyday`: queries in people's own words, without labels; the model learns what is not like its rows.

    `alike`: how much of the traffic to come is expected to be like the rows, 0–1.
    """
    return fit_apart(rows, everyday, name=name, seed=seed, today=today, alike=alike)[0]


def fit_apart(
    rows: Sequence[Row], everyday: Sequence[str], *, name: str, seed: int, today: date, alike: float = 0.5
) -> tuple[RoutingModel, Apart]:
    """The same, and what it says of the rows."""
    labelled, others = read_texts([row.prompt for row in rows]), read_texts(everyday)
    space = Space.of(labelled, others)
    columns = space.columns(labelled)
    weak, strong = np.array([row.weak for row in rows]), np.array([row.strong for row in rows])
    folds = np.random.default_rng(seed).permutation(len(rows)) % FOLDS
    failed = 1.0 - weak
    fails = _fitted(columns, failed - means(failed, _numbers([row.weak_model for row in rows])), folds)
    calibration = _calibrated(fails.apart, failed, [row.weak_model for row in rows])
    topics = _topics(rows, labelled, seed)
    gain = _gain(columns, strong - weak, topics, _numbers([row.domain for row in rows]), folds)
    slope, offset = line(gain.apart, strong - weak)
    known, known_base = _known(columns, space.columns(others), seed)
    fails_head, fails_weights = _stored(space, fails.coefficients)
    gain_head, gain_weights = _stored(space, gain.coefficients)
    known_head, known_weights = _stored(space, known, known_base + math.log(alike / (1.0 - alike)))
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
        fails=fails_head,
        gain=gain_head,
        known=known_head,
        calibration=calibration,
        gain_slope=slope,
        gain_offset=offset,
        curve=curve_of(slope * gain.apart + offset, weak, strong),
    )
    model = RoutingModel(header, fails_weights, gain_weights, known_weights, _seen(labelled, others))
    offsets = np.array([calibration.models.get(row.weak_model, calibration.offset) for row in rows])
    apart = Apart(calibration.slope * fails.apart + offsets, slope * gain.apart + offset, folds, topics)
    return model, apart


def _stored(space: Space, coefficients: Floats, base: float = 0.0) -> tuple[Head, array[int]]:
    """As 16-bit weights and the step that they count in."""
    places, measures = space.weights(coefficients)
    step = float(np.abs(places).max()) / 32767.0 or 1.0
    weights = array("h", np.round(places / step).astype(np.int16).tobytes())
    return Head(step, tuple(float(weight) for weight in measures), base), weights


def _fitted(
    columns: Matrix,
    target: Floats,
    folds: Integers,
    penalties: Sequence[float] = PENALTIES,
    shown: Callable[[Integers], Floats] | None = None,
) -> _Fitted:
    """The penalty is the one whose predictions of rows left out are best by squared error.

    `shown`: what is learned of some rows, from them alone, in place of their target.
    """
    best: tuple[float, float, Floats] | None = None
    show = target.__getitem__ if shown is None else shown
    for penalty in penalties:
        apart = _apart(lambda rows, penalty=penalty: ridge(columns[rows], show(rows), penalty), columns, folds)
        scaled = apart * line(apart, target)[0]
        error = float(np.mean((target - scaled) ** 2))
        if best is None or error < best[0]:
            best = (error, penalty, apart)
    assert best is not None  # noqa: S101 (there are penalties)
    return _Fitted(ridge(columns, show(np.arange(len(target))), best[1]), best[2])


def _apart(train: Callable[[Integers], Floats], columns: Matrix, folds: Integers) -> Floats:
    said = np.zeros(sparse.rows_of(columns))
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        said[outside] = sparse.times(columns[outside], train(inside))
    return said


def _gain(columns: Matrix, gained: Floats, topics: Integers, domains: Integers, folds: Integers) -> _Fitted:
    belief = np.zeros(sparse.width_of(columns))
    belief[-len(STRUCTURE) :] = [BELIEF.get(name, 0.0) for name in STRUCTURE]
    believed = sparse.times(columns, belief)
    # Of standard deviation 1 over the rows; all zeros where the measures are the same everywhere.
    spread = float(believed.std()) or 1.0
    belief, believed = belief / spread, believed / spread
    leaning = sparse.beside(columns, BELIEF_SHARE * believed[:, None])

    def learned(
        target: Floats, shown: Callable[[Integers], Floats] | None = None, penalty: float = GAIN_PENALTY
    ) -> _Fitted:
        head = _fitted(leaning, target, folds, (penalty,), shown)
        return _Fitted(head.coefficients[:-1] + BELIEF_SHARE * head.coefficients[-1] * belief, head.apart)

    centred = gained - gained.mean()
    if not topics.any():
        return learned(centred, _steadied(centred, domains), DOMAIN_PENALTY) if domains.any() else learned(centred)
    overall = learned(centred)
    within = learned(gained - means(gained, topics))
    parts = ((BELIEVED, _Fitted(belief, believed)), (WITHIN, within), (OVERALL, overall))
    weighted = [(share / (float(part.apart.std()) or 1.0), part) for share, part in parts]
    return _Fitted(
        sum((weight * part.coefficients for weight, part in weighted), np.zeros(sparse.width_of(columns))),
        sum((weight * part.apart for weight, part in weighted), np.zeros(len(gained))),
    )


def _steadied(gained: Floats, domains: Integers) -> Callable[[Integers], Floats]:
    """Of some rows the gain, DOMAIN_SHARE of it their domains' means among them."""

    def shown(rows: Integers) -> Floats:
        own = gained[rows]
        return (1.0 - DOMAIN_SHARE) * own + DOMAIN_SHARE * means(own, domains[rows], DOMAIN_PRIOR)

    return shown


def _topics(rows: Sequence[Row], texts: Texts, seed: int) -> Integers:
    """The declared domain; where a file declares only one, clusters of its texts' structure. One file is one topic."""
    if len({row.source for row in rows}) == 1:
        return np.zeros(len(rows), dtype=np.int64)
    domains = [f"{row.source}/{row.domain}" for row in rows]
    sources = np.array([row.source for row in rows])
    measures = (texts.measures - texts.measures.mean(0)) / (texts.measures.std(0) + 1e-6)
    names = np.array(domains, dtype=object)
    for source in np.unique(sources):
        inside = np.flatnonzero(sources == source)
        if len({domains[row] for row in inside}) > 1:
            continue
        count = max(2, min(MOST_TOPICS, len(inside) // TOPIC_ROWS))
        names[inside] = [f"{source}/{number}" for number in sparse.clusters(measures[inside], count, seed)]
    return _numbers(list(names))


def _numbers(names: Sequence[str]) -> Integers:
    """A number for each name, by the names' order."""
    return np.asarray(np.unique(np.array(names, dtype=str), return_inverse=True)[1], dtype=np.int64)


def means(values: Floats, groups: Integers, prior: float = 0.0) -> Floats:
    """Of each row's group, drawn to the mean of all as by `prior` rows."""
    sums, counts = np.bincount(groups, weights=values), np.bincount(groups)
    return (sums[groups] + prior * float(values.mean())) / (counts[groups] + prior)


def line(said: Floats, found: Floats) -> tuple[float, float]:
    """Least squares found ≈ slope · said + offset; a slope below zero would turn the order around and is not taken."""
    spread = float(said.var())
    together = float(np.dot(said - said.mean(), found - found.mean())) / len(said)
    slope = together / spread if spread > 1e-18 else 0.0
    slope = max(slope, 1e-6)
    return slope, float(found.mean()) - slope * float(said.mean())


def _calibrated(said: Floats, failed: Floats, models: Sequence[str]) -> Calibration:
    """Platt's logistic fit on rows left out, with one level for each weak model that has a name."""
    names = sorted(set(models))
    group = _numbers(models)

    def loss(parameters: Floats) -> float:
        logits: Floats = parameters[0] * said + parameters[1 + group]
        misfit = float(np.mean(np.logaddexp(0.0, logits) - failed * logits))
        return misfit + 1e-6 * float(np.square(parameters).sum())

    found = sparse.minimum(loss, np.array([1.0 / max(float(said.std()), 1e-6), *([0.0] * len(names))]))
    offsets = {name: float(offset) for name, offset in zip(names, found[1:], strict=True)}
    return Calibration(float(found[0]), min(offsets.values()), {name: at for name, at in offsets.items() if name})


def _known(labelled: Matrix, others: Matrix, seed: int) -> tuple[Floats, float]:
    """(coefficients, base) of a logit: does a text resemble the labelled ones rather than the everyday ones?"""
    columns = sparse.above(labelled, others)
    ours, theirs = sparse.rows_of(labelled), sparse.rows_of(others)
    truth = np.concatenate([np.ones(ours), np.zeros(theirs)])
    weights = np.sqrt(np.where(truth > 0, 0.5 / ours, 0.5 / theirs) * len(truth))
    weighted = sparse.weighted_rows(columns, weights)
    target = weights * (2.0 * truth - 1.0)
    folds = np.random.default_rng(seed).permutation(len(truth)) % FOLDS
    apart = _apart(lambda rows: ridge(weighted[rows], target[rows], 1.0), columns, folds)

    def loss(parameters: Floats) -> float:
        logits: Floats = parameters[0] * apart + parameters[1]
        return float(np.average(np.logaddexp(0.0, logits) - truth * logits, weights=weights**2))

    slope, offset = sparse.minimum(loss, np.array([1.0, 0.0]))
    return ridge(weighted, target, 1.0) * slope, float(offset)


def curve_of(gain: Floats, weak: Floats, strong: Floats) -> Curve:
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
