"""Reservations: money is held before a provider is asked, and spent when its request is settled.

An account is a budget's owner (`key:alice`) in one period (`2026-11`). A claim holds an amount in several accounts at
once: in all of `must`, and in those of each target that fits; a target that does not fit is left out. One conditional
UPDATE an account decides, within the caller's transaction, so that processes and machines cannot both take the last
cent. Settling removes the hold and books the cost in the same transaction as the ledger's row: once, whoever repeats
it. Decides whether the money is there; never which budget applies, and what a request costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import Connection, text

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
_EXPIRED = text("SELECT DISTINCT uid FROM holds WHERE expires_at < :now")


class Charge(msgspec.Struct, frozen=True):
    """So much in one account. `limit_nano` None: it is only counted. `budget` is the name that callers are told."""

    account: str
    period: str
    amount_nano: int
    limit_nano: int | None
    budget: str


class Claim(msgspec.Struct, frozen=True):
    """`must`: all of these. `targets`: for each target of the route its own charges, any of which may fail.

    `expires_at` (epoch seconds): from then on its owner is taken for dead, and the hold is spent.
    """

    uid: str
    expires_at: float
    must: Sequence[Charge]
    targets: Sequence[Sequence[Charge]] = ()


class Verdict(msgspec.Struct, frozen=True):
    """`granted`, with the `targets` that may be asked. Or not: then what the account has `left_nano`, and whether
    `waiting` may help, because others hold what they may not need.
    """

    granted: bool
    targets: Sequence[bool] = ()
    refused: Charge | None = None
    left_nano: int = 0
    waiting: bool = False


def take(connection: Connection, claim: Claim) -> Verdict:
    """All or nothing, but for targets that do not fit while another does."""
    failed = _take_all(connection, claim.must)
    if failed is not None:
        return failed
    charges = list(claim.must)
    fitting: list[bool] = []
    waiting = False
    last: Verdict | None = None
    for own in claim.targets:
        missing = _take_all(connection, own)
        fitting.append(missing is None)
        if missing is None:
            charges += own
        else:
            last = missing
            waiting = waiting or missing.waiting
    if last is not None and not any(fitting):
        _give_back(connection, claim.must)
        return msgspec.structs.replace(last, waiting=waiting)
    if charges:
        connection.execute(
            _HOLD,
            [
                {
                    "uid": claim.uid,
                    "account": account,
                    "period": period,
                    "amount": amount,
                    "expires_at": claim.expires_at,
                }
                for (account, period), amount in _sums(charges).items()
            ],
        )
    return Verdict(granted=True, targets=fitting)


def settle(connection: Connection, uid: str, provider: str, model: str, cost_nano: int) -> None:
    """Its holds become what it cost: for the caller, and for the provider and model that answered."""
    answered = (f"provider:{provider}", f"model:{model}")
    released = connection.execute(_RELEASE, {"uid": uid}).all()
    for account, period, amount in sorted(released):
        mine = not account.startswith(("provider:", "model:")) or account in answered
        connection.execute(
            _BOOK, {"account": account, "period": period, "amount": amount, "cost": cost_nano if mine else 0}
        )


def expired(connection: Connection, now: float) -> Sequence[str]:
    """The uids of holds whose owners are taken for dead."""
    return connection.execute(_EXPIRED, {"now": now}).scalars().all()


def forfeit(connection: Connection, uid: str) -> int:
    """Books all that a dead owner held: nobody knows what it has spent. Returns the amount in nano-USD."""
    amount = 0
    for account, period, held in sorted(connection.execute(_RELEASE, {"uid": uid}).all()):
        connection.execute(_BOOK, {"account": account, "period": period, "amount": held, "cost": held})
        amount = max(amount, held)
    return amount


def balance(connection: Connection, account: str, period: str) -> tuple[int, int]:
    """Spent and held, in nano-USD."""
    found = connection.execute(_STATE, {"account": account, "period": period}).first()
    return (found[0], found[1]) if found else (0, 0)


def _take_all(connection: Connection, charges: Iterable[Charge]) -> Verdict | None:
    """None: taken. In the order of accounts, so that two transactions never wait for each other."""
    taken: list[Charge] = []
    for charge in sorted(charges, key=lambda each: (each.account, each.period)):
        values = {"account": charge.account, "period": charge.period, "amount": charge.amount_nano}
        connection.execute(_OPEN, values)
        if charge.limit_nano is None:
            connection.execute(_TAKE_ANYWAY, values)
        elif connection.execute(_TAKE, {**values, "limit": charge.limit_nano}).rowcount != 1:
            _give_back(connection, taken)
            spent, _ = balance(connection, charge.account, charge.period)
            left = max(0, charge.limit_nano - spent)
            return Verdict(granted=False, refused=charge, left_nano=left, waiting=charge.amount_nano <= left)
        taken.append(charge)
    return None


def _give_back(connection: Connection, charges: Iterable[Charge]) -> None:
    for charge in charges:
        connection.execute(
            _BOOK,
            {"account": charge.account, "period": charge.period, "amount": charge.amount_nano, "cost": 0},
        )


def _sums(charges: Iterable[Charge]) -> dict[tuple[str, str], int]:
    """Several charges of one account (two targets of one provider; two budgets of one period) are one hold."""
    found: dict[tuple[str, str], int] = {}
    for charge in charges:
        place = charge.account, charge.period
        found[place] = found.get(place, 0) + charge.amount_nano
    return found
