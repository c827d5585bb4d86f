"""What the gateway says about itself. Plain data: the composition root fills it in, control/app.py shows it."""

from __future__ import annotations

from typing import Literal

import msgspec

from model_gateway.telemetry.families import CertificateFigures


class Check(msgspec.Struct, frozen=True):
    """One part of the gateway. `detail` says what is wrong, "" where nothing is."""

    ok: bool
    detail: str = ""


class ProviderHealth(msgspec.Struct, frozen=True, kw_only=True):
    """`status`: online, offline or draining; `reason` where it is not online. `in_flight`: calls, now.

    `resting`: models that failed too often, and are not asked for a while.
    """

    status: str
    reason: str = ""
    in_flight: int = 0
    resting: tuple[str, ...] = ()

    def joined(self, other: ProviderHealth) -> ProviderHealth:
        """As another process sees the same one, both together."""
        return ProviderHealth(
            status=self.status,
            reason=self.reason,
            in_flight=self.in_flight + other.in_flight,
            resting=tuple(dict.fromkeys((*self.resting, *other.resting))),
        )


class WorkerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One of several processes that serve. `state`: starting, serving or draining. `in_flight`: requests, now."""

    pid: int
    state: str
    started_at: float
    connections: int = 0
    in_flight: int = 0


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """How what serves is: one process, or several together."""

    ready: bool
    checks: dict[str, Check]
    providers: dict[str, ProviderHealth]
    workers: tuple[WorkerHealth, ...] = ()
    certificates: tuple[CertificateFigures, ...] = ()


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force. `error`: why the newest one was refused, "" where it was not; `refused`: how many were.

    `waiting`: options that were changed and count after a restart only.
    """

    generation: int = 1
    loaded_at: float = 0.0
    error: str = ""
    refused: int = 0
    waiting: tuple[str, ...] = ()


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload has done. `changed`: by option, empty where nothing was; `after_restart`: changed, but not yet.

    `certificates`: what is wrong with new ones, in whose place the last good ones go on.
    """

    generation: int
    changed: tuple[str, ...]
    after_restart: tuple[str, ...]
    certificates: tuple[str, ...] = ()


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Healthy: all parts work. Degraded: it answers, but something needs attention. Unhealthy: it cannot answer.

    `workers`: empty where one process does everything.
    `ready`: new requests are welcome, which they are not while it starts, drains or has no usable provider.
    """

    status: Literal["healthy", "degraded", "unhealthy"]
    ready: bool
    version: str
    uptime_s: float
    configuration: Configuration
    checks: dict[str, Check]
    providers: dict[str, ProviderHealth]
    workers: tuple[WorkerHealth, ...] = ()
