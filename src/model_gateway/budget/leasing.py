"""Leases in the database: a row of `holds` for each account, whose uid is the lease's owner instead of a request's.

What a lease holds is part of the account's `held_nano`, like any hold, so that no other process can spend it. Rows
that were held from it are paid out of it, with the row, in one transaction. An owner that died leaves its journal, from
which its rows come, and then its leases end; where nobody can read that journal they are taken for spent when they
expire, which is remembered (`_FORFEITED`), so that its rows are not paid twice should they come after all. Decides
nothing about how much is leased: that is `leases`.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from model_gateway.budget import funds
from model_gateway.budget.funds import Charge, Part, Place
from model_gateway.budget.leases import Change

LIFE_S = 900.0
"""Seconds after its last sign of life in which an owner is taken for dead."""

RENEW_S = 60.0

_OWNER = "lease:"
_FORFEITED = -1
_REMEMBERED_S = 30 * 86_400.0

_MORE = text(
    "INSERT INTO holds (uid, account, period, amount_nano, expires_at)"
    " VALUES (:uid, :account, :period, :amount, :expires_at)"
    " ON CONFLICT (uid, account, period) DO UPDATE"
    " SET amount_nano = holds.amount_nano + excluded.amount_nano, expires_at = excluded.expires_at"
    " WHERE holds.amount_nano >= 0"
)
_LESS = text(
    "UPDATE holds SET amount_nano = amount_nano - :amount"
    " WHERE uid = :uid AND account = :account AND period = :period AND amount_nano >= :amount"
)
_PAY = text(
    "UPDATE accounts SET held_nano = held_nano - :amount, spent_nano = spent_nano + :cost"
    " WHERE account = :account AND period = :period RETURNING spent_nano + held_nano"
)
_LEFT = text("SELECT amount_nano FROM holds WHERE uid = :uid AND account = :account AND period = :period")
_END = text("DELETE FROM holds WHERE uid = :uid AND account = :account AND period = :period AND amount_nano >= 0")
_ALL = text("SELECT account, period, amount_nano FROM holds WHERE uid = :uid")
_DROP = text("DELETE FROM holds WHERE uid = :uid")
_FORGET = text("DELETE FROM holds WHERE uid = :uid AND amount_nano < 0 AND expires_at < :now")
_RENEW = text("UPDATE holds SET expires_at = :expires_at WHERE uid = :uid AND amount_nano >= 0")
_FORFEIT = text(
    "UPDATE holds SET amount_nano = :forfeited, expires_at = :expires_at"
    " WHERE uid = :uid AND account = :account AND period = :period AND amount_nano = :amount AND expires_at < :now"
)


def owner(journal: str) -> str:
    """Of the process that writes the journals of this name."""
    return _OWNER + journal


def journal_of(uid: str) -> str:
    """The name of its owner's journals."""
    return uid.removeprefix(_OWNER)


def is_lease(uid: str) -> bool:
    return uid.startswith(_OWNER)


def more(connection: Connection, uid: str, change: Change, now: float) -> bool | None:
    """Set aside what a lease needs. False: money is short; None: the lease has been taken for spent, and is no more."""
    account, period = change.place
    values = {"uid": uid, "account": account, "period": period, "amount": change.amount_nano}
    if not funds.set_aside(connection, Charge(account, period, change.limit_nano, ""), change.amount_nano):
        return False
    if funds.execute(connection, _MORE, {**values, "expires_at": now + LIFE_S}).rowcount == 1:
        return True
    funds.book(connection, account, period, change.amount_nano, 0)
    return None


def less(connection: Connection, uid: str, change: Change) -> None:
    """Give back what is not needed; or, where it `ends`, all of it."""
    account, period = change.place
    values: dict[str, object] = {"uid": uid, "account": account, "period": period}
    if change.ends:
        found = funds.execute(connection, _LEFT, values).fetchone()
        if found and found[0] >= 0 and funds.execute(connection, _END, values).rowcount == 1:
            funds.book(connection, account, period, found[0], 0)
    elif funds.execute(connection, _LESS, {**values, "amount": -change.amount_nano}).rowcount == 1:
        funds.book(connection, account, period, -change.amount_nano, 0)


def exactly(connection: Connection, uid: str, change: Change) -> int:
    """Give back what a lease holds beyond `amount_nano`. Returns what it holds then: no more, but it may be less."""
    account, period = change.place
    values: dict[str, object] = {"uid": uid, "account": account, "period": period}
    found = funds.execute(connection, _LEFT, values).fetchone()
    there = max(0, found[0]) if found else 0
    beyond = there - max(0, change.amount_nano)
    if beyond > 0:
        less(connection, uid, Change(change.place, -beyond, 0))
    return min(there, max(0, change.amount_nano))


def places(connection: Connection, uid: str) -> set[Place]:
    """Of which accounts it has leases, those that were taken for spent included."""
    return {(account, period) for account, period, _ in _all(connection, uid)}


def pay(connection: Connection, uid: str, part: Part) -> int | None:
    """Book what was spent out of a lease, or of what had not been held where there is none.

    Returns what is spent and held of the account by anybody, in nano-USD; None where nothing is leased of it.
    """
    account, period = part.place
    cost = part.cost_nano
    values: dict[str, object] = {"uid": uid, "account": account, "period": period, "amount": cost, "cost": cost}
    if funds.execute(connection, _LESS, values).rowcount != 1:
        found = funds.execute(connection, _LEFT, values).fetchone()
        if found is None:
            funds.spend(connection, (part,))
            return None
        if found[0] == _FORFEITED:
            return None
        # It cost more than had been held for it. The rest is booked all the same.
        values["amount"] = found[0]
        if funds.execute(connection, _LESS, values).rowcount != 1:
            return pay(connection, uid, part)
    gone = funds.execute(connection, _PAY, values).fetchone()
    return gone[0] if gone else 0


def renew(connection: Connection, uid: str, now: float) -> None:
    """Its owner lives."""
    funds.execute(connection, _RENEW, {"uid": uid, "expires_at": now + LIFE_S})


def end(connection: Connection, uid: str) -> None:
    """All rows of its owner are written: what its leases still hold goes back."""
    for account, period, amount in _all(connection, uid):
        if amount > 0:
            funds.book(connection, account, period, amount, 0)
    funds.execute(connection, _DROP, {"uid": uid})


def forfeit(connection: Connection, uid: str, now: float) -> int:
    """Nobody knows what a dead owner has spent: all that it held. Returns the largest amount in nano-USD."""
    most = 0
    for account, period, amount in _all(connection, uid):
        if amount == _FORFEITED:
            continue
        values = {"uid": uid, "account": account, "period": period, "amount": amount}
        marks = {"forfeited": _FORFEITED, "expires_at": now + _REMEMBERED_S, "now": now}
        if funds.execute(connection, _FORFEIT, {**values, **marks}).rowcount == 1:
            funds.book(connection, account, period, amount, amount)
            most = max(most, amount)
    if not most:
        funds.execute(connection, _FORGET, {"uid": uid, "now": now})
    return most


def _all(connection: Connection, uid: str) -> list[tuple[str, str, int]]:
    """In the order of accounts, so that two transactions never wait for each other."""
    found = funds.execute(connection, _ALL, {"uid": uid}).fetchall()
    return sorted((row[0], row[1], row[2]) for row in found)
