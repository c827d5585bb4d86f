"""Rows into the database, and their cost into the accounts, in one transaction: each row once, whoever repeats it.

A row that held money of its own is settled by its hold; one that was held from a lease, or not at all, is charged to
the accounts that `Book` names, and those of a batch together. Decides how a row is booked; never which budgets it
concerns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Engine

from model_gateway.budget import funds, leasing, rows
from model_gateway.budget.funds import Part, Place
from model_gateway.budget.journal import Row

Book = Callable[[Sequence[Row]], Sequence[Part]]
"""Whom rows that held nothing of their own are charged to, together: one part an account."""

_BAD_VALUES = frozenset(("IntegrityError", "DataError", "ProgrammingError", "NotNullViolation"))


_FEW = 8  # accounts, each of which is looked for when it is charged; of more it is asked once which are there


class _RepeatedError(Exception):
    """Some of the rows had been stored before."""


def store(engine: Engine, found: Sequence[Row], book: Book | None, owner: str) -> dict[Place, int]:
    """`owner`: of the leases that rows were held from.

    Returns, for each leased account that was charged, what is spent and held of it by anybody, in nano-USD.
    """
    try:
        with engine.begin() as connection:
            return _store(connection, found, book, owner)
    except _RepeatedError:
        seen: dict[Place, int] = {}
        for row in found:
            with engine.begin() as connection:
                seen |= _store_one(connection, row, book, owner)
        return seen


def _store(connection: Connection, found: Sequence[Row], book: Book | None, owner: str) -> dict[Place, int]:
    held: list[Row] = []
    leased: list[Row] = []
    unheld: list[Row] = []
    for row in found:
        hold = int(row[rows.HOLD] or 0)
        (held if hold >= 0 else unheld if hold == rows.UNHELD else leased).append(row)
    there = _lock(connection, held, [*leased, *unheld], book) if len(found) > 1 else None
    rows.insert(connection, held)
    for row in held:
        if row[rows.HOLD]:
            funds.settle(connection, str(row[rows.UID]), *_answered(row), rows.shares_in(row))
    seen: dict[Place, int] = {}
    if leased:
        if rows.insert(connection, leased) != len(leased):
            raise _RepeatedError
        seen = _charge(connection, leased, book, owner, there)
    for row in unheld:
        _store_one(connection, row, book, "")
    return seen


def _lock(connection: Connection, held: Sequence[Row], others: Sequence[Row], book: Book | None) -> set[Place] | None:
    """Which of their accounts are there; None: not asked."""
    if connection.dialect.name == "sqlite":
        return None
    parts = book(others) if book is not None else ()
    opened = {part.place for part in parts if part.opened}
    holding = [str(row[rows.UID]) for row in held if row[rows.HOLD]]
    wanted = opened | {part.place for part in parts} | funds.places_of(connection, holding)
    return funds.lock(connection, wanted, opened=opened)


def _store_one(connection: Connection, row: Row, book: Book | None, owner: str) -> dict[Place, int]:
    hold = int(row[rows.HOLD] or 0)
    if hold >= 0:
        return _store(connection, [row], book, owner)
    if not rows.insert(connection, [row]):
        return {}
    if hold == rows.UNHELD:
        funds.settle(connection, str(row[rows.UID]), "", "", 0)  # one that came too late
        owner = ""
    return _charge(connection, [row], book, owner)


def _charge(
    connection: Connection, found: Sequence[Row], book: Book | None, owner: str, there: set[Place] | None = None
) -> dict[Place, int]:
    """All of them together, in the order of accounts. `owner` empty: nothing was leased for them.

    `there`: which accounts there are, where that is known. Most keys have no budget of their own, and so none.
    """
    parts = book(found) if book is not None else ()
    leased = leasing.places(connection, owner) if owner and parts else set[Place]()
    unopened = [part.place for part in parts if not part.opened and part.place not in leased]
    if there is None and len(unopened) > _FEW:
        there = funds.existing(connection, unopened)
    seen: dict[Place, int] = {}
    unheld: list[Part] = []
    for part in sorted(parts):
        if part.place not in leased:
            if there is None or part.opened or part.place in there:
                unheld.append(part)
        elif part.cost_nano:
            funds.spend(connection, unheld)
            unheld.clear()
            gone = leasing.pay(connection, owner, part)
            if gone is not None:
                seen[part.place] = gone
    funds.spend(connection, unheld)
    return seen


def _answered(row: Row) -> tuple[str, str, int]:
    return str(row[rows.PROVIDER]), str(row[rows.MODEL]), int(row[rows.COST] or 0)


def is_bad_value(error: BaseException) -> bool:
    """The row's fault, not the database's: by the names of DB-API 2.0, the same in every driver."""
    if isinstance(error, UnicodeError | OverflowError | sqlite3.InterfaceError):
        return True
    # psycopg has many kinds of DataError. Not all of its IntegrityError and ProgrammingError are a row's fault.
    return type(error).__name__ in _BAD_VALUES or any(kind.__name__ == "DataError" for kind in type(error).__mro__)
