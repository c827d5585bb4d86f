"""How many processes shall serve, and whether several can. Decides nothing about how."""

from __future__ import annotations

import os
import socket
import sys

from model_gateway.config.schema import GatewayConfig


def workers_of(config: GatewayConfig) -> int:
    """How many processes shall serve: at least one."""
    return config.server.workers or _cores()


def several_possible() -> bool:
    """Can processes share the gRPC port here? Elsewhere the kernel gives it to one of them, or to none."""
    return sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")


def _cores() -> int:
    if sys.platform == "linux":
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
