"""What the ledger says of the newest requests: themselves, how long they took, and how many came in each hour.

Reads only, and never more than a bounded number of rows or a bounded span of time: somebody may look at it all day.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Connection, Integer, case, cast, func, select

from model_gateway.budget.report import usd
from model_gateway.storage.schema import requests

MOST_REQUESTS: Final = 200
MOST_LOOKED_AT: Final = 20_000
"""Of the newest rows, where only some are wanted."""

_MEASURED: Final = 1_000
_HOUR_S: Final = 3600

_TEXTS = ("request_id", "door", "tenant", "key_name", "asked_model", "status", "state", "error", "provider", "model")
_MORE = ("asked_tier", "tier", "route_reason", "score", "cache", "attempts", "input_tokens", "output_tokens")
_TIMES = ("started_at", "first_token_ms", "duration_ms")
_SHOWN = (*_TEXTS, *_MORE, *_TIMES, "cached_input_tokens", "reasoning_tokens", "usage_estimated", "stream")


def newest(
    connection: Connection, limit: int, before: int | None = None, *, failed: bool = False
) -> list[dict[str, Any]]:
    """At most `limit` rows, the newest first; `before`: only those with a smaller `seq`. `failed`: unanswered ones."""
    row = requests.c
    asked = select(requests).order_by(row.id.desc()).limit(min(limit, MOST_REQUESTS))
    if before is not None:
        asked = asked.where(row.id < before)
    if failed:
        newest_id = before or connection.execute(select(func.max(row.id))).scalar() or 0
        asked = asked.where(row.status != "ok", row.id > newest_id - MOST_LOOKED_AT)
    return [_shown(dict(found)) for found in connection.execute(asked).mappings()]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "seq": row["id"],
        **{name: row[name] for name in _SHOWN},
        "cost_usd": usd(row["cost_nano"]),
        "saved_usd": usd(row["baseline_nano"] - row["cost_nano"]),
        "tries": [_try(each) for each in msgspec.json.decode(row["tries"])],
    }


def _try(told: dict[str, Any]) -> dict[str, Any]:
    return {**told, "cost_usd": usd(told.get("cost_nano", 0))}


class Hour(msgspec.Struct, frozen=True):
    """`begin`: epoch seconds. `refused`: not answered for a reason that is their callers'."""

    begin: int
    requests: int
    answered: int
    refused: int
    cost_usd: str


def hours(connection: Connection, since: float, callers: Collection[str]) -> list[Hour]:
    """Those in which there were requests, the oldest first. `callers`: statuses that are not the gateway's fault."""
    row, hour = requests.c, _hour(connection)
    answered = func.sum(case((row.status == "ok", 1), else_=0))
    refused = func.sum(case((row.status.in_(callers), 1), else_=0))
    asked = select(hour, func.count(), answered, refused, func.sum(row.cost_nano)).where(row.started_at >= since)
    found = connection.execute(asked.group_by(hour).order_by(hour)).all()
    return [
        Hour(int(begin) * _HOUR_S, int(all_of_it), int(ok), int(own), usd(int(nano)))
        for begin, all_of_it, ok, own, nano in found
    ]


def _hour(connection: Connection) -> ColumnElement[Any]:
    begun = requests.c.started_at / _HOUR_S
    if connection.dialect.name == "postgresql":
        return cast(func.floor(begun), BigInteger)
    return cast(begun, Integer)  # SQLite cuts


class Pace(msgspec.Struct, frozen=True):
    """Milliseconds of the newest `requests` that a provider has answered; None where there are none."""

    requests: int
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    first_token_p50: float | None = None


def pace(connection: Connection) -> Pace:
    row = requests.c
    newest_id = connection.execute(select(func.max(row.id))).scalar() or 0
    wanted = (row.id > newest_id - MOST_LOOKED_AT, row.status == "ok", row.attempts > 0)
    asked = select(row.duration_ms, row.first_token_ms).where(*wanted).order_by(row.id.desc()).limit(_MEASURED)
    found = connection.execute(asked).all()
    if not found:
        return Pace(0)
    whole = _hundredths([float(each[0]) for each in found])
    first = [float(each[1]) for each in found if each[1] is not None]
    return Pace(len(found), whole[49], whole[94], whole[98], _hundredths(first)[49] if first else None)


def _hundredths(values: Sequence[float]) -> list[float]:
    from statistics import quantiles  # here: with what it takes along, 0.4 MB for a page of the dashboard

    if len(values) == 1:
        return [values[0]] * 99
    return [round(value, 1) for value in quantiles(values, n=100, method="inclusive")]
