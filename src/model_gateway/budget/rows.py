"""Records as rows of the ledger: what each column holds, and how rows are inserted, once each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import msgspec
from sqlalchemy import Connection

from model_gateway.budget.journal import Row
from model_gateway.domain.record import Record
from model_gateway.domain.route import Target
from model_gateway.domain.usage import Usage
from model_gateway.storage.schema import requests

INTERRUPTED = "interrupted"
"""The status of a request whose gateway was killed: its cost is what had been expected."""

UNHELD = -1
"""As `hold_nano`: budgets concern it, and nothing could be held. It is booked when its row is."""


def leased(amount_nano: int) -> int:
    """As `hold_nano`: so much was held from a lease. It is booked when its row is."""
    return UNHELD - amount_nano


def held(hold_nano: int) -> int:
    """How much was held, from whatever, in nano-USD."""
    return hold_nano if hold_nano >= 0 else UNHELD - hold_nano


COLUMNS = tuple(column.name for column in requests.columns if column.name != "id")
UID, STATUS, PROVIDER, MODEL = (COLUMNS.index(name) for name in ("uid", "status", "provider", "model"))
COST, HOLD = COLUMNS.index("cost_nano"), COLUMNS.index("hold_nano")
TENANT, KEY_NAME, STARTED_AT = (COLUMNS.index(name) for name in ("tenant", "key_name", "started_at"))
_STATE, _ERROR, _ESTIMATED, _TIER = (COLUMNS.index(name) for name in ("state", "error", "usage_estimated", "tier"))
_ATTEMPTS, _TRIES = COLUMNS.index("attempts"), COLUMNS.index("tries")
_MAX_INT = 2**63 - 1
_NO_USAGE = Usage()

_CHUNKS = (64, 8, 1)
"""Rows per INSERT of SQLite. Few sizes, so that each is compiled once and stays cached."""

_INTO = f"INSERT INTO {requests.name} ({','.join(COLUMNS)})"
_ONCE = "ON CONFLICT (uid) DO NOTHING"
_PLACES = f"({','.join('?' * len(COLUMNS))})"
_SQLITE = [(size, f"{_INTO} VALUES {','.join([_PLACES] * size)} {_ONCE}") for size in _CHUNKS]
_CASTS = ",".join(f"CAST(row->>{at} AS {requests.columns[name].type})" for at, name in enumerate(COLUMNS))
_FOUND = "jsonb_array_elements(CAST(%s AS jsonb)) WITH ORDINALITY AS found(row, number)"
_POSTGRESQL = f"{_INTO} SELECT {_CASTS} FROM {_FOUND} ORDER BY number {_ONCE}"  # noqa: S608  names of our own schema
_encode = msgspec.json.Encoder().encode


def insert(connection: Connection, rows: Sequence[Row]) -> int:
    """Within the caller's transaction, through the driver: SQLAlchemy's executemany costs more than the rest together.

    For PostgreSQL they are one value in JSON: its driver takes 0.8 µs for each of 33 values a row.
    A row whose uid is there already changes nothing. Returns how many were new.
    """
    if not rows:
        return 0
    cursor = connection.connection.cursor()
    try:
        if connection.dialect.name != "sqlite":
            cursor.execute(_POSTGRESQL, (_encode(rows).decode(),))
            return cursor.rowcount
        start, total, new = 0, len(rows), 0
        for size, statement in _SQLITE:
            while total - start >= size:
                cursor.execute(statement, tuple(chain.from_iterable(rows[start : start + size])))
                new += cursor.rowcount
                start += size
        return new
    finally:
        cursor.close()


def row_of(record: Record) -> Row:
    """The record's values in the order of COLUMNS."""
    usage = record.usage or _NO_USAGE
    return (
        record.uid,
        record.request_id,
        record.started_at,
        record.door,
        record.tenant,
        record.key_name,
        record.asked_model,
        record.stream,
        record.status,
        _state(record),
        record.error,
        record.provider,
        record.model,
        record.asked_tier,
        record.tier,
        record.route_reason,
        record.score if record.score >= 0 else None,
        record.cache,
        len(record.attempts),
        _tries(record) if len(record.attempts) > 1 else "[]",
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.reasoning_tokens,
        usage.estimated,
        record.cost_nano,
        record.estimate_nano,
        record.baseline_nano,
        record.uncached_nano,
        record.hold_nano,
        record.first_token_s * 1000 if record.first_token_s else None,
        record.duration_s * 1000,
        _labels(record.labels) if record.labels else "{}",
    )


def intent_of(record: Record, target: Target) -> Row:
    """What is to be charged should nothing more be heard of this request: it was on its way to `target`."""
    row = list(row_of(record))
    row[STATUS] = INTERRUPTED
    row[_STATE] = "estimated"
    row[_ERROR] = "the gateway was stopped before this request had ended"
    row[PROVIDER], row[MODEL] = target.provider, target.model
    row[_ATTEMPTS] = 1
    row[_ESTIMATED] = True
    row[COST] = held(record.hold_nano) or record.estimate_nano
    return tuple(row)


def claim_of(record: Record) -> Row:
    """As `intent_of`, for one whose money is being reserved: nobody has been asked, so what it holds is given back."""
    row = list(row_of(record))
    row[STATUS] = INTERRUPTED
    row[_STATE] = "absorbed"
    row[_ERROR] = "the gateway was stopped before this request had begun"
    return tuple(row)


class _Try(msgspec.Struct):
    provider: str
    model: str
    cost_nano: int


_tries_in = msgspec.json.Decoder(list[_Try]).decode


def shares_in(row: Row) -> dict[str, int] | None:
    """By the account of each provider and model, what its calls have cost; None: one was paid, or none."""
    if int(row[_ATTEMPTS] or 0) < 2 or str(row[_TRIES]) == "[]":
        return None
    paid = [each for each in _tries_in(str(row[_TRIES])) if each.cost_nano]
    if len(paid) < 2:
        return None
    shares: dict[str, int] = {}
    for each in paid:
        for account in (f"provider:{each.provider}", f"model:{each.model}"):
            shares[account] = shares.get(account, 0) + each.cost_nano
    return shares


def storable(row: Row) -> Row:
    """The same row, made to fit a database: huge integers are cut, halves of surrogate pairs and NULs replaced."""
    return tuple(
        _text(value)
        if isinstance(value, str)
        else max(min(value, _MAX_INT), -_MAX_INT)
        if isinstance(value, int)
        else value
        for value in row
    )


def _state(record: Record) -> str:
    usage = record.usage
    if usage is not None:
        return "estimated" if usage.estimated or record.price_assumed else "settled"
    if record.status == "ok":
        return "settled"
    return "absorbed" if record.attempts or record.status == "cancelled" else "refused"


def _tries(record: Record) -> str:
    tries = [
        {
            "provider": attempt.provider,
            "model": attempt.model,
            "outcome": attempt.outcome,
            "duration_ms": round(attempt.duration_s * 1000, 3),
            "input_tokens": attempt.usage.input_tokens if attempt.usage else 0,
            "output_tokens": attempt.usage.output_tokens if attempt.usage else 0,
            "cost_nano": attempt.cost_nano,
        }
        for attempt in record.attempts
    ]
    return msgspec.json.encode(tries).decode()


def _labels(labels: dict[str, str]) -> str:
    try:
        return msgspec.json.encode(labels).decode()
    except UnicodeEncodeError:
        return msgspec.json.encode({_text(name): _text(value) for name, value in labels.items()}).decode()


def _text(value: str) -> str:
    return value.encode(errors="replace").decode().replace("\0", "?")
