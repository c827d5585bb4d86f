"""Fits a routing model's embedding part, beside the heads that the words have, and says whether it is worth its time.

Decides how both are put together: each head by words as it was fitted alone, and what the embedding adds to it, learned
from rows that neither has seen. So the model without its embedding is the model that would have been fitted without.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np

from model_gateway.assess.model import FORMAT_EMBEDDING, Added, EmbeddingPart, RoutingModel
from model_gateway.learning import measures, sparse
from model_gateway.learning.fitting import FOLDS, WITHIN, Apart, curve_of, line, means
from model_gateway.learning.rows import Row
from model_gateway.learning.sparse import Floats, Integers
from model_gateway.vectors.engine import Engine, prepared

# All three chosen once on the development data (docs/adr/0017). So few bytes cost little, and more say no more. The
# gain by the embedding counts half of what was learned from words, each in its standard deviations.
BYTES = 160
PENALTY = 30.0
SHARE = 0.5
BATCH = 16
PROGRESS_S = 2.0


class Compared(msgspec.Struct):
    """On rows left out, by words alone and with embeddings. `se`: of the difference in APGR, by paired bootstrap."""

    apgr_words: float
    apgr: float
    se: float
    brier_words: float
    brier: float


class _Head(msgspec.Struct):
    """`direction` · embedding + `base`; `apart`: what it says of each row when it was fitted without it."""

    direction: Floats
    base: float
    apart: Floats


def embedded(texts: Sequence[str], threads: int) -> Mapping[str, list[float]]:
    """The vector of each text; how far it is goes to standard error. Raises ImportError."""
    engine = Engine()
    different = list(dict.fromkeys(texts))
    batches = [different[begin : begin + BATCH] for begin in range(0, len(different), BATCH)]
    found: dict[str, list[float]] = {}
    told = time.monotonic()

    def embed(batch: Sequence[str]) -> Any:
        return engine.embed([prepared(text) for text in batch])

    with ThreadPoolExecutor(threads) as pool:  # the library runs without the interpreter's lock
        made = pool.map(embed, batches)
        for batch, vectors in zip(batches, made, strict=True):
            found.update(zip(batch, vectors.astype(float).tolist(), strict=True))
            if time.monotonic() - told >= PROGRESS_S:
                told = time.monotonic()
                print(f"embedded {len(found)} of {len(different)} texts", file=sys.stderr, flush=True)  # noqa: T201
    return found


def with_embedding(
    model: RoutingModel, apart: Apart, rows: Sequence[Row], vectors: Floats, engine: str
) -> tuple[RoutingModel, Compared]:
    """`model` and `apart` as fitted to `rows`; `vectors`: rows × DIMENSIONS, of their beginnings of BYTES."""
    weak, strong = np.array([row.weak for row in rows]), np.array([row.strong for row in rows])
    failed, gained = 1.0 - weak, strong - weak
    names = np.array([row.weak_model for row in rows], dtype=str)
    models = np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.int64)
    fails = _fitted(vectors, failed - means(failed, models), apart.folds)
    gain = _fitted(vectors, gained - means(gained, apart.topics), apart.folds)

    keep, weight, offset = _calibrated(apart.logit, fails.apart, failed)
    logit = keep * apart.logit + weight * fails.apart + offset
    fails_added, fails_weights = _stored(fails, keep, weight, offset)

    spread, spread_gain = (float(each.std()) or 1.0 for each in (apart.gain, gain.apart))
    share = SHARE * WITHIN if apart.topics.any() else SHARE
    both = apart.gain / spread + share * gain.apart / spread_gain
    slope, offset = line(both, gained)
    gain_added, gain_weights = _stored(gain, slope / spread, slope * share / spread_gain, offset)

    part = EmbeddingPart(engine, BYTES, fails_added, gain_added, curve_of(slope * both + offset, weak, strong))
    header = msgspec.structs.replace(model.header, format=FORMAT_EMBEDDING, embedding=part)
    compared = Compared(
        measures.apgr(apart.gain, weak, strong),
        measures.apgr(both, weak, strong),
        measures.bootstrap_difference(both, apart.gain, weak, strong),
        measures.brier(_sigmoid(apart.logit), failed),
        measures.brier(_sigmoid(logit), failed),
    )
    return model.with_part(header, (fails_weights, gain_weights)), compared


def _fitted(vectors: Floats, target: Floats, folds: Integers) -> _Head:
    said = np.zeros(len(target))
    for fold in range(FOLDS):
        inside, outside = folds != fold, folds == fold
        direction, base = _ridge(vectors[inside], target[inside])
        said[outside] = vectors[outside] @ direction + base
    direction, base = _ridge(vectors, target)
    return _Head(direction, base, said)


def _ridge(vectors: Floats, target: Floats) -> tuple[Floats, float]:
    """Around the mean, and of mean square 1: embeddings lie close together, and the penalty shall not depend on it."""
    middle = vectors.mean(0)
    apart = vectors - middle
    scale = float(np.sqrt(np.square(apart).sum(1).mean())) or 1.0
    direction = sparse.dense_ridge(apart / scale, target - target.mean(), PENALTY) / scale
    return direction, -float(np.dot(middle, direction))


def _calibrated(logit: Floats, added: Floats, failed: Floats) -> tuple[float, float, float]:
    """(keep, weight, offset) of a logistic fit; (1, 0, 0) where the embedding would only turn the order around."""
    spread = float(added.std()) or 1.0

    def loss(parameters: Floats) -> float:
        logits: Floats = parameters[0] * logit + parameters[1] * added / spread + parameters[2]
        misfit = float(np.mean(np.logaddexp(0.0, logits) - failed * logits))
        return misfit + 1e-6 * float(np.square(parameters).sum())

    keep, weight, offset = map(float, sparse.minimum(loss, np.array([1.0, 0.0, 0.0])))
    return (keep, weight / spread, offset) if weight > 0.0 else (1.0, 0.0, 0.0)


def _stored(head: _Head, keep: float, weight: float, offset: float) -> tuple[Added, array[int]]:
    """As 16-bit weights and the step that they count in."""
    step = float(np.abs(head.direction).max()) / 32767.0 or 1.0
    weights = array("h", np.round(head.direction / step).astype(np.int16).tobytes())
    return Added(keep, weight * step, offset + weight * head.base), weights


def _sigmoid(logit: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-logit))
