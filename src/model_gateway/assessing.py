"""Which assessor a configuration asks for: reads the routing model's file. Decides what is said when there is none.

A model with an embedding part is used without it where nobody fetches embeddings, or they cannot be made here.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from model_gateway.assess.assessor import Assessor
from model_gateway.assess.embedding import EmbeddingAssessor, Recall
from model_gateway.assess.features import FeatureAssessor
from model_gateway.assess.model import ModelInvalid, RoutingModel, parse
from model_gateway.assess.trained import TrainedAssessor
from model_gateway.config.complexity import ComplexityConfig
from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import RoutingConfig
from model_gateway.vectors.engine import REMEDY, unusable

SHIPPED, FEATURES = "shipped", "features"
_FILE = "shipped.model"

_log = structlog.get_logger("model_gateway.assessing")

# A configuration and the next one share theirs, where it is the same: it is 2 MB, and 4 more while it is unpacked.
_in_use: WeakValueDictionary[tuple[bytes, str], RoutingModel] = WeakValueDictionary()


def assessor_of(complexity: ComplexityConfig, routing: RoutingConfig, recall: Recall | None = None) -> Assessor:
    """`recall`: where embeddings are found. Raises ConfigError where the routing model cannot be used.

    Reads a file: milliseconds.
    """
    if complexity.model == FEATURES:
        return FeatureAssessor(complexity)
    model = routing_model(complexity.model, complexity.weak_model)
    words = TrainedAssessor(complexity, routing, model)
    part = model.header.embedding
    if part is None or recall is None or not complexity.embeddings.timeout:
        return words
    why = unusable(part.engine)
    if why:
        _log.warning("the routing model's embedding part is left out", reason=why, remedy=REMEDY)
        return words
    return EmbeddingAssessor(words, routing, recall)


def routing_model(name: str = SHIPPED, weak_model: str = "") -> RoutingModel:
    """`name`: `shipped`, or a file. `weak_model`: whose failures it shall tell. Raises ConfigError."""
    try:
        data = (files("model_gateway.assess") / _FILE if name == SHIPPED else Path(name)).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"complexity.model: {name}: {error.strerror}",
            "`shipped` is always there; `model-gateway routing fit` makes a model of your own",
        ) from None
    key = sha256(data).digest(), weak_model
    in_use = _in_use.get(key)
    if in_use is not None:
        return in_use
    try:
        model = parse(data)
    except ModelInvalid as error:
        raise ConfigError(f"complexity.model: {name}: {error}") from None
    if weak_model and weak_model not in model.weak_models:
        known = ", ".join(model.weak_models) or "none"
        raise ConfigError(f"complexity.weak_model: {name} knows no weak model `{weak_model}`; it knows: {known}")
    _in_use[key] = model.for_weak_model(weak_model)
    return model
