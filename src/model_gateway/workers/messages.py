"""What a supervisor and its workers tell each other."""

from __future__ import annotations

from typing import Final

import msgspec

from model_gateway.config.schema import GatewayConfig
from model_gateway.control.health import Condition
from model_gateway.telemetry.alerts import Window
from model_gateway.telemetry.counts import Counts

SERVE: Final = "serve"
PREPARE: Final = "prepare"
COMMIT: Final = "commit"
ABORT: Final = "abort"
REFRESH: Final = "refresh"
COUNTS: Final = "counts"
RENEW: Final = "renew"
DRAIN: Final = "drain"
LEAVE: Final = "leave"
EXPLAIN: Final = "explain"
RECALL: Final = "recall"
MODEL_GONE: Final = "model gone"
"""To a worker: begin (an Order); a new configuration in two steps; keys have changed; its counts of now; its
certificates have; end; end when clients have moved to the others; how would it be
routed (an Asked); how was it (a record's uid)."""

MODEL: Final = "model"
REPORT: Final = "report"
"""To the supervisor: where the embedded model answers (asked with seconds to wait); a Report."""

REPORT_S: Final = 0.5


class Order(msgspec.Struct):
    """What a worker begins with."""

    config: GatewayConfig
    text_logs: bool
    slot: int
    grpc_port: int


class Report(msgspec.Struct):
    """How a worker is. `window`: what it counted for the alerts since its last report."""

    condition: Condition
    window: Window
    counts: Counts
    in_flight: int
