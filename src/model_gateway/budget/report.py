"""What the ledger says about money: sums by day, key, team, provider, model and more, and what was saved. Reads only.

Net savings = what the strongest model would have cost for the same tokens, minus what was charged. By cause: what the
cache's hits would have cost from the models that had answered them is the cache's; the rest is the routing's. It may be
negative: failed attempts and hedges cost, and bring nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Text, case, cast, func, literal, select

from model_gateway.storage.schema import requests

COLUMNS: Final = {
    "key": requests.c.key_name,
    "team": requests.c.tenant,
    "provider": requests.c.provider,
    "model": requests.c.model,
    "tier": requests.c.tier,
    "door": requests.c.door,
    "status": requests.c.status,
    "state": requests.c.state,
}
GROUPS: Final = ("day", *COLUMNS)
_NO_TIME = 1e18


class Line(msgspec.Struct, frozen=True):
    """One group; money in nano-USD. `savings` is `saved_by_routing` + `saved_by_cache`."""

    group: tuple[str, ...]
    requests: int
    answered: int
    estimated: int
    cache_hits: int
    input_tokens: int
    output_tokens: int
    cost_nano: int
    baseline_nano: int
    saved_by_cache_nano: int

    @property
    def savings_nano(self) -> int:
        return self.baseline_nano - self.cost_nano

    @property
    def saved_by_routing_nano(self) -> int:
        return self.savings_nano - self.saved_by_cache_nano


def costs(connection: Connection, by: Sequence[str], since: float = 0.0, until: float = _NO_TIME) -> list[Line]:
    """`by`: names of GROUPS, most telling first; none: one line for all. `since` ≤ started < `until`, epoch seconds."""
    row = requests.c
    groups = [_group(connection, name) for name in by]
    ok = case((row.status == "ok", 1), else_=0)
    sums = [
        func.count(),
        func.sum(ok),
        func.sum(case((row.state == "estimated", 1), else_=0)),
        func.sum(case((row.cache == "hit", 1), else_=0)),
        *map(func.sum, (row.input_tokens, row.output_tokens, row.cost_nano, row.baseline_nano, row.uncached_nano)),
    ]
    asked = (
        select(*groups, *sums)
        .where(row.started_at >= since, row.started_at < until)
        .group_by(*groups)
        .order_by(*(groups if by[:1] == ["day"] else [func.sum(row.cost_nano).desc(), *groups]))
    )
    found = connection.execute(asked).all()
    return [Line(tuple(str(part) for part in line[: len(by)]), *map(_whole, line[len(by) :])) for line in found]


def total(lines: Sequence[Line]) -> Line:
    """All groups of a report as one."""
    names = Line.__struct_fields__[1:]
    return Line((), *(sum(getattr(line, name) for line in lines) for name in names))


def usd(nano: int) -> str:
    """Exact: nine decimals are all there are."""
    return f"{Decimal(nano).scaleb(-9):.9f}"


def as_row(names: Sequence[str], line: Line) -> dict[str, Any]:
    """For people and programs: money in USD, as decimal text."""
    return {
        **dict(zip(names, line.group, strict=True)),
        "requests": line.requests,
        "answered": line.answered,
        "estimated": line.estimated,
        "cache_hits": line.cache_hits,
        "input_tokens": line.input_tokens,
        "output_tokens": line.output_tokens,
        "cost_usd": usd(line.cost_nano),
        "strongest_model_usd": usd(line.baseline_nano),
        "saved_usd": usd(line.savings_nano),
        "saved_by_routing_usd": usd(line.saved_by_routing_nano),
        "saved_by_cache_usd": usd(line.saved_by_cache_nano),
    }


def _group(connection: Connection, name: str) -> ColumnElement[Any]:
    if name != "day":
        return COLUMNS[name]
    if connection.dialect.name == "postgresql":
        at = func.timezone(literal("UTC"), func.to_timestamp(requests.c.started_at))
        return func.to_char(at, literal("YYYY-MM-DD"))
    return cast(func.date(requests.c.started_at, literal("unixepoch")), Text)


def _whole(number: object) -> int:
    """PostgreSQL sums big integers as decimals."""
    return int(str(number)) if number is not None else 0
