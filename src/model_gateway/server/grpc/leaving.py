"""How long clients have to move to another process: what a supervisor must know too, which does not load grpc."""

from __future__ import annotations

from model_gateway.config.schema import ServerConfig

_SPREAD = 1.1  # connections live up to a tenth longer, so that they do not all end at once


def leaving_s(config: ServerConfig) -> float:
    """How long `leave` takes at most: all connections have reached their age by then."""
    age_s = config.grpc.max_connection_age / 1000
    return age_s * _SPREAD + 1 if age_s else 0.0
