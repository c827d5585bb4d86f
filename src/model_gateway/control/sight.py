"""The dashboard's first page as data: today and this month, tiers, hours, pace, providers, what is wrong.

Decides how old a figure may be: who looks all day, or in ten windows, must not make the ledger count all day.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection

from model_gateway.budget import recent, report
from model_gateway.budget.ledger import Ledger
from model_gateway.control.health import Health
from model_gateway.telemetry.outcome import CALLER_STATUSES, is_failure

T = TypeVar("T")

PATIENCE_S: Final = 60.0
NEW_S: Final = 3.0
MONTH_S: Final = 60.0
AT_MOST: Final = 0.05
"""Of the time, that counting may take."""


class Kept(Generic[T]):
    """What was found the last time, until it is `age_s` old. Many may ask at once: one looks."""

    def __init__(self, age_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._age_s = age_s
        self._clock = clock
        self._until = float("-inf")
        self._value: T | None = None
        self._looking = asyncio.Lock()

    async def get(self, look: Callable[[], T]) -> T:
        """`look` runs in a thread."""
        async with self._looking:
            begun = self._clock()
            value = self._value
            if value is None or begun >= self._until:
                value = self._value = await asyncio.to_thread(look)
                ended = self._clock()
                self._until = ended + max(self._age_s, (ended - begun) / AT_MOST)
            return value


class Sight:
    """`health` and `firing` (the names of alerts that are on) are asked each time."""

    def __init__(self, ledger: Ledger, health: Callable[[], Health], firing: Callable[[], Collection[str]]) -> None:
        self._ledger = ledger
        self._health = health
        self._firing = firing
        self._day: Kept[dict[str, Any]] = Kept(NEW_S)
        self._month: Kept[dict[str, Any]] = Kept(MONTH_S)

    async def overview(self) -> dict[str, Any]:
        """Raises OSError where the database does not answer."""
        now = time.time()
        today = await self._day.get(lambda: self._ledger.run(lambda c: _today(c, now), PATIENCE_S))
        month = await self._month.get(lambda: self._ledger.run(lambda c: _month(c, now), PATIENCE_S))
        health = self._health()
        return {
            "at": now,
            "status": health.status,
            "version": health.version,
            "uptime_s": health.uptime_s,
            "workers": len(health.workers) or 1,
            "problems": {name: check.detail for name, check in health.checks.items() if not check.ok},
            "alerts": sorted(self._firing()),
            "providers": health.providers,
            **today,
            **month,
        }


def _today(connection: Connection, now: float) -> dict[str, Any]:
    begin = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    lines = report.costs(connection, ["status"], begin)
    statuses = {line.group[0]: line.requests for line in lines}
    return {
        "today": report.as_row([], report.total(lines)),
        "statuses": statuses,
        "failures": sum(count for status, count in statuses.items() if is_failure(status)),
        "hours": recent.hours(connection, now - now % 3600 - 23 * 3600, CALLER_STATUSES),
        "pace": recent.pace(connection),
    }


def _month(connection: Connection, now: float) -> dict[str, Any]:
    first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
    lines = report.costs(connection, ["tier"], first)
    return {
        "month": report.as_row([], report.total(lines)),
        "tiers": [report.as_row(["tier"], line) for line in lines],
    }
