"""Reservations: money is held before a provider is asked, and spent when its request is settled.

An account is a budget's owner (`key:alice`) in one period (`2026-11`). A claim holds one amount in several accounts at
once: in all of `must`, and in those of each target that fits; a target that does not fit is left out. One conditional
UPDATE an account decides, within the caller's transaction, so that processes and machines cannot both take the last
cent. Settling removes the hold and books the cost in the same transaction as the ledger's row: once, whoever repeats
it. (What is held of busy accounts is held by the process, which has leased a part of them: `leases`.) Decides whether
the money is there; never which budget applies, and what a request costs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import Connection, TextClause, select, text, tuple_

from model_gateway.storage.schema import accounts, holds

_OPEN = text(
    "INSERT INTO accounts (account, period, spent_nano, held_nano) VALUES (:account, :period, 0, 0)"
    " ON CONFLICT (account, period) DO NOTHING"
)
_TAKE = text(
    "UPDATE accounts SET held_nano = held_nano + :amount WHERE account = :account AND period = :period"
    " AND spent_nano + held_nano + :amount <= :limit"
)
_TAKE_ANYWAY = text("UPDATE accounts SET held_nano = held_nano + :amount WHERE account = :account AND period = :period")
_STATE = text("SELECT spent_nano, held_nano FROM accounts WHERE account = :account AND period = :period")
_HOLD = text(
    "INSERT INTO holds (uid, account, period, amount_nano, expires_at)"
    " VALUES (:uid, :account, :period, :amount, :expires_at)"
)
_RELEASE = text("DELETE FROM holds WHERE uid = :uid RETURNING account, period, amount_nano")
_BOOK = text(
    "UPDATE accounts SET held_nano = held_nano - :amount, spent_nano = spent_nano + :cost"
    " WHERE account = :account AND period = :period"
)
_AT_ONCE = 5_000  # accounts in a statement, which may have 65,535 values
_EXPIRED = text("SELECT DISTINCT uid FROM holds WHERE expires_at < :now")


# In this order, so that SQLite never looks through all accounts.
_THERE = text(
    "SELECT accounts.account, accounts.period FROM json_each(:names) AS name CROSS JOIN json_each(:periods) AS per"
    " CROSS JOIN accounts ON accounts.account = name.value AND accounts.period = per.value"
)
_SPEND = text(
    "INSERT INTO accounts (account, period, spent_nano, held_nano)"
    " SELECT CAST(:account AS TEXT), CAST(:period AS TEXT), CAST(:cost AS BIGINT), 0 WHERE :opened"
    " OR EXISTS (SELECT 1 FROM accounts WHERE account = :account AND period = :period)"
    " ON CONFLICT (account, period) DO UPDATE SET spent_nano = accounts.spent_nano + excluded.spent_nano"
)


def execute(connection: Connection, statement: TextClause, values: Mapping[str, object]) -> Any:
    """One statement; its cursor has `rowcount`, `fetchone` and `fetchall`.

    By the driver, for a fifth of what SQLAlchemy costs. Its errors are its own: the ledger's writer, for which this is,
    knows them.
    """
    cursor = connection.connection.cursor()
    cursor.execute(_spelled(statement.text, connection.dialect.name), values)
    return cursor


def execute_each(connection: Connection, statement: TextClause, values: Sequence[Mapping[str, object]]) -> None:
    """One statement for each of `values`, in their order; PostgreSQL is not waited for between them. As `execute`."""
    if values:
        connection.connection.cursor().executemany(_spelled(statement.text, connection.dialect.name), values)


@cache
def _spelled(statement: str, dialect: str) -> str:
    """With its values' names as the driver wants them."""
    return statement if dialect == "sqlite" else re.sub(r":(\w+)", r"%(\1)s", statement)


_json = msgspec.json.Encoder().encode

Place: TypeAlias = "tuple[str, str]"
"""An account and its period."""


class Charge(msgspec.Struct, frozen=True, order=True):
    """An account to be charged. `limit_nano` None: what it spends is only counted. `budget`: its name for callers."""

    account: str
    period: str
    limit_nano: int | None
    budget: str


class Part(NamedTuple):
    """What an account pays of a request. `opened`: it is made where there is none yet."""

    place: Place
    cost_nano: int
    opened: bool


class Claim(msgspec.Struct, frozen=True):
    """`amount_nano` in all of `must`, and in the accounts of each target, any of which may fail.

    `least_nano`: where no more is left, and nobody else holds any, so little will do. `expires_at` (epoch seconds):
    from then on its owner is taken for dead, and the hold is spent.
    """

    uid: str
    amount_nano: int
    least_nano: int
    expires_at: float
    must: Sequence[Charge]
    targets: Sequence[Sequence[Charge]] = ()

    def places(self) -> set[Place]:
        return {(charge.account, charge.period) for charge in chain(self.must, *self.targets)}


class Verdict(msgspec.Struct, frozen=True):
    """`granted_nano` (0: refused), and which targets may be asked.

    `leased`: by this process, and not in the database. Refused: by which account, what it has `left_nano` that is not
    spent, and whether `waiting` may help, because others hold what they may not need.
    """

    granted_nano: int = 0
    targets: Sequence[bool] = ()
    refused: Charge | None = None
    left_nano: int = 0
    waiting: bool = False
    leased: bool = False


class _Short(msgspec.Struct, frozen=True):
    """An account without enough: what is `free` now, and what would be if all holds were given back."""

    charge: Charge
    free_nano: int
    left_nano: int


def take(connection: Connection, claim: Claim, *, last: bool = False) -> Verdict:
    """Hold the amount or, where nobody else holds any or it is the `last` try, as much of it as there is."""
    amount = claim.amount_nano
    while True:
        short = _take_all(connection, claim.must, amount)
        if short is None:
            fitting, short = _take_targets(connection, claim.targets, amount)
            if short is None:
                _write_holds(connection, claim, amount, fitting)
                return Verdict(amount, fitting)
            _give_back(connection, claim.must, amount)
        if short.left_nano < claim.least_nano:
            return Verdict(refused=short.charge, left_nano=max(0, short.left_nano))
        alone = short.free_nano == short.left_nano
        if not (alone or last) or short.free_nano < claim.least_nano:
            return Verdict(refused=short.charge, left_nano=short.left_nano, waiting=True)
        amount = short.free_nano  # less than before: this ends


def settle(
    connection: Connection,
    uid: str,
    provider: str,
    model: str,
    cost_nano: int,
    shares: Mapping[str, int] | None = None,
) -> None:
    """Its holds become what it cost: for the caller, and for the provider and model that answered.

    `shares`: where several were paid, by the account of each provider and model.
    """
    if shares is None:
        shares = {f"provider:{provider}": cost_nano, f"model:{model}": cost_nano}
    released = execute(connection, _RELEASE, {"uid": uid}).fetchall()
    for account, period, amount in sorted(tuple(row) for row in released):
        book(connection, account, period, amount, part_of(account, cost_nano, shares))


def part_of(account: str, cost_nano: int, shares: Mapping[str, int]) -> int:
    """What of a request's cost is this account's: a provider or model pays for its own calls, all others for all."""
    return shares.get(account, 0) if account.startswith(("provider:", "model:")) else cost_nano


def book(connection: Connection, account: str, period: str, amount_nano: int, cost_nano: int) -> None:
    """So much less is held, and so much more spent."""
    values = {"account": account, "period": period, "amount": amount_nano, "cost": cost_nano}
    execute(connection, _BOOK, values)


def spend(connection: Connection, parts: Iterable[Part]) -> None:
    """Of what had not been held, in this order. Those that are not `opened` pay where there is an account."""
    values = [
        {"account": account, "period": period, "cost": cost, "opened": opened}
        for (account, period), cost, opened in parts
    ]
    execute_each(connection, _SPEND, values)


def expired(connection: Connection, now: float) -> Sequence[str]:
    """The uids of holds whose owners are taken for dead."""
    return connection.execute(_EXPIRED, {"now": now}).scalars().all()


def forfeit(connection: Connection, uid: str) -> int:
    """Books all that a dead owner held: nobody knows what it has spent. Returns the amount in nano-USD."""
    most = 0
    for account, period, held in sorted(tuple(row) for row in execute(connection, _RELEASE, {"uid": uid}).fetchall()):
        book(connection, account, period, held, held)
        most = max(most, held)
    return most


def balance(connection: Connection, account: str, period: str) -> tuple[int, int]:
    """Spent and held, in nano-USD."""
    found = execute(connection, _STATE, {"account": account, "period": period}).fetchone()
    return (found[0], found[1]) if found else (0, 0)


def accounts_in(connection: Connection, periods: Iterable[str]) -> list[tuple[str, str, int, int]]:
    """All accounts in these periods: account, period, spent and held in nano-USD."""
    found = connection.execute(
        select(accounts).where(accounts.c.period.in_(sorted(periods))).order_by(accounts.c.account, accounts.c.period)
    )
    return [(row.account, row.period, row.spent_nano, row.held_nano) for row in found]


def existing(connection: Connection, places: Collection[Place]) -> set[Place]:
    """Those of them that are there."""
    names, periods = {account for account, _ in places}, {period for _, period in places}
    if connection.dialect.name == "sqlite":
        asked = {"names": _json(list(names)).decode(), "periods": _json(list(periods)).decode()}
        return set(execute(connection, _THERE, asked).fetchall()).intersection(places)
    found = connection.execute(
        select(accounts.c.account, accounts.c.period).where(
            accounts.c.account.in_(sorted(names)), accounts.c.period.in_(sorted(periods))
        )
    )
    return {(row.account, row.period) for row in found}.intersection(places)


def lock(connection: Connection, wanted: Collection[Place], *, opened: Collection[Place] = ()) -> set[Place] | None:
    """All accounts that a transaction will change, in one order, those of `opened` made before: then no two
    transactions wait for each other, in whatever order they serve requests. (SQLite has one writer at a time.)

    Returns those that are there; None where there was no need to ask.
    """
    if connection.dialect.name == "sqlite" or len(wanted) < 2:
        return None
    missing = sorted(set(opened) - existing(connection, opened)) if opened else ()
    if missing:
        connection.execute(_OPEN, [{"account": account, "period": period} for account, period in missing])
    place = tuple_(accounts.c.account, accounts.c.period)
    # The order of Python's strings, in which single accounts are changed elsewhere, whatever the database's language.
    order = accounts.c.account.collate("C"), accounts.c.period.collate("C")
    chosen = select(accounts.c.account, accounts.c.period).order_by(*order).with_for_update()
    ordered, found = sorted(wanted), set[Place]()
    for start in range(0, len(ordered), _AT_ONCE):
        locked = connection.execute(chosen.where(place.in_(ordered[start : start + _AT_ONCE])))
        found.update((row.account, row.period) for row in locked)
    return found


def places_of(connection: Connection, uids: Collection[str]) -> set[Place]:
    """The accounts in which these hold money."""
    if not uids:
        return set()
    found = connection.execute(select(holds.c.account, holds.c.period).where(holds.c.uid.in_(uids)).distinct())
    return {(row.account, row.period) for row in found}


def _take_all(connection: Connection, charges: Iterable[Charge], amount: int) -> _Short | None:
    """None: taken. In the order of accounts, so that two transactions never wait for each other."""
    taken: list[Charge] = []
    for charge in sorted(charges):
        if not set_aside(connection, charge, amount):
            _give_back(connection, taken, amount)
            spent, held = balance(connection, charge.account, charge.period)
            left = (charge.limit_nano or 0) - spent  # an account without a limit always has enough
            return _Short(charge, left - held, left)
        taken.append(charge)
    return None


def set_aside(connection: Connection, charge: Charge, amount: int) -> bool:
    """Is so much held now? Nearly always the account is there and has enough: it is opened where nothing was updated.

    Whoever asks writes down in `holds` for whom it is.
    """
    values: dict[str, str | int] = {"account": charge.account, "period": charge.period, "amount": amount}
    statement = _TAKE_ANYWAY
    if charge.limit_nano is not None:
        statement, values = _TAKE, {**values, "limit": charge.limit_nano}
    if execute(connection, statement, values).rowcount == 1:
        return True
    execute(connection, _OPEN, values)
    return execute(connection, statement, values).rowcount == 1


def _take_targets(
    connection: Connection, targets: Sequence[Sequence[Charge]], amount: int
) -> tuple[list[bool], _Short | None]:
    """Which of the targets fit; where none of several does, the one that has most left."""
    fitting: list[bool] = []
    shorts: list[_Short] = []
    for charges in targets:
        short = _take_all(connection, charges, amount)
        fitting.append(short is None)
        if short is not None:
            shorts.append(short)
    if shorts and not any(fitting):
        return fitting, max(shorts, key=lambda each: each.left_nano)
    return fitting, None


def _write_holds(connection: Connection, claim: Claim, amount: int, fitting: Sequence[bool]) -> None:
    charges = list(claim.must)
    for own, fits in zip(claim.targets, fitting, strict=True):
        if fits:
            charges += own
    sums: dict[tuple[str, str], int] = {}
    for charge in charges:  # two targets of one provider are one hold
        place = charge.account, charge.period
        sums[place] = sums.get(place, 0) + amount
    held = [
        {"uid": claim.uid, "account": account, "period": period, "amount": amount, "expires_at": claim.expires_at}
        for (account, period), amount in sums.items()
    ]
    execute_each(connection, _HOLD, held)


def _give_back(connection: Connection, charges: Iterable[Charge], amount: int) -> None:
    for charge in charges:
        book(connection, charge.account, charge.period, amount, 0)
