"""Rows into the database, and their cost into the accounts, in one transaction: each row once, whoever repeats it.

Decides how a row is booked; which budgets it concerns is told by `Book`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine

from model_gateway.budget import funds, rows
from model_gateway.budget.journal import Row

Book = Callable[[Connection, Row], None]
"""Charges the accounts with what a row that held nothing has cost."""

_BAD_VALUES = frozenset(("IntegrityError", "DataError", "ProgrammingError"))


def store(engine: Engine, found: Sequence[Row], book: Book | None) -> None:
    held = [row for row in found if int(row[rows.HOLD] or 0) >= 0]
    with engine.begin() as connection:
        rows.insert(connection, held)
        for row in held:
            if row[rows.HOLD]:
                funds.settle(connection, str(row[rows.UID]), *_answered(row), rows.shares_in(row))
        if len(held) < len(found):
            for row in found:
                if int(row[rows.HOLD] or 0) < 0 and rows.insert(connection, [row]):
                    funds.settle(connection, str(row[rows.UID]), "", "", 0)  # one that came too late
                    if book is not None:
                        book(connection, row)


def _answered(row: Row) -> tuple[str, str, int]:
    return str(row[rows.PROVIDER]), str(row[rows.MODEL]), int(row[rows.COST] or 0)


def is_bad_value(error: BaseException) -> bool:
    """The row's fault, not the database's: by the names of DB-API 2.0, the same in every driver."""
    if isinstance(error, UnicodeError | OverflowError | sqlite3.InterfaceError):
        return True
    return type(error).__name__ in _BAD_VALUES
