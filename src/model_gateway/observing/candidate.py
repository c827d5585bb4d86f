"""The routing model that is compared with the present one: a file of `routing fit`, or one with other options."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from model_gateway.assess.assessor import Assessor
from model_gateway.assessing import assessor_of
from model_gateway.config.complexity import ComplexityConfig
from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import GatewayConfig, RoutingConfig


def candidate_of(config: GatewayConfig) -> Assessor | None:
    """None: none is configured. Raises ConfigError."""
    path = config.routing.shadow_model
    if not path:
        return None
    if Path(path).suffix in {".yaml", ".yml"}:
        return _other_options(Path(path), config.routing)
    return assessor_of(config.complexity.model_copy(update={"model": path}), config.routing)


def _other_options(path: Path, routing: RoutingConfig) -> Assessor:
    """The file has what may stand under `complexity`."""
    import yaml  # here: workers get their configuration read, and need no parser of their own

    try:
        told: object = yaml.safe_load(path.read_text(encoding="utf-8"))
        return assessor_of(ComplexityConfig.model_validate(told), routing)
    except OSError as error:
        raise ConfigError(f"routing.shadow_model: {path}: {error.strerror}", "name a file, or leave it empty") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        line = str(error).splitlines()[0]
        raise ConfigError(
            f"routing.shadow_model: {path} is no routing model: {line}", "write what may stand under `complexity`"
        ) from None
