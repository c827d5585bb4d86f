"""What the operator should know of, now."""

from __future__ import annotations

import msgspec


class AlertEvent(msgspec.Struct, frozen=True):
    """An alert that began (`firing`) or ended. `value` and `limit` are shares, 0–1."""

    name: str
    firing: bool
    value: float
    limit: float
    message: str
