"""What the gateway says about itself. Plain data: the composition root fills it in, control/app.py shows it."""

from __future__ import annotations

from typing import Literal

import msgspec


class Check(msgspec.Struct, frozen=True):
    """One part of the gateway. `detail` says what is wrong, "" where nothing is."""

    ok: bool
    detail: str = ""


class ProviderHealth(msgspec.Struct, frozen=True, kw_only=True):
    """`status`: online, offline or draining; `reason` where it is not online."""

    status: str
    reason: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Healthy: all parts work. Degraded: it answers, but something needs attention. Unhealthy: it cannot answer.

    `ready`: new requests are welcome, which they are not while it starts, drains or has no usable provider.
    """

    status: Literal["healthy", "degraded", "unhealthy"]
    ready: bool
    version: str
    uptime_s: float
    checks: dict[str, Check]
    providers: dict[str, ProviderHealth]
