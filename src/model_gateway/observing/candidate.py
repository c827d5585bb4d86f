"""The routing model that is compared with the present one: a file with other weights, thresholds or features."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from model_gateway.assess.assessor import Assessor
from model_gateway.assess.features import FeatureAssessor
from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import ComplexityConfig, GatewayConfig


def candidate_of(config: GatewayConfig) -> Assessor | None:
    """None: none is configured. Raises ConfigError."""
    path = config.routing.shadow_model
    return _load(Path(path)) if path else None


def _load(path: Path) -> Assessor:
    """The file is YAML and has what may stand under `complexity`."""
    try:
        told: object = yaml.safe_load(path.read_text(encoding="utf-8"))
        return FeatureAssessor(ComplexityConfig.model_validate(told))
    except OSError as error:
        raise ConfigError(f"routing.shadow_model: {path}: {error.strerror}", "name a file, or leave it empty") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        line = str(error).splitlines()[0]
        raise ConfigError(
            f"routing.shadow_model: {path} is no routing model: {line}", "write what may stand under `complexity`"
        ) from None
