"""A lease in the database is paid out of, ended, renewed and taken for spent, each once; on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest
from sqlalchemy import Connection, Engine, text

from model_gateway.budget import booking, funds, leasing, rows
from model_gateway.budget.funds import Part
from model_gateway.budget.leases import Change
from model_gateway.domain.record import Record

PLACE = ("gateway", "total")
NOW = 1_000.0


def done(engine: Engine, what: Callable[[Connection], object]) -> object:
    with engine.begin() as connection:
        return what(connection)


def balance(engine: Engine) -> tuple[int, int]:
    with engine.begin() as connection:
        return funds.balance(connection, *PLACE)


def leased(engine: Engine, amount: int, limit: int = 1_000, uid: str = "lease:a") -> object:
    return done(engine, lambda c: leasing.more(c, uid, Change(PLACE, amount, limit), NOW))


def row(uid: str, cost: int) -> tuple[rows.Row, ...]:
    return (rows.row_of(Record(uid, "http", NOW, uid=uid, cost_nano=cost, hold_nano=rows.leased(50))),)


def book(found: Sequence[rows.Row]) -> list[Part]:
    return [Part(PLACE, sum(int(row[rows.COST] or 0) for row in found), opened=True)]


def test_it_is_set_aside_only_where_enough_is_left(engine: Engine) -> None:
    assert leased(engine, 100, 150) is True
    assert leased(engine, 100, 150, "lease:b") is False
    assert leased(engine, 50, 150, "lease:b") is True
    assert leased(engine, 50, 200) is True
    assert balance(engine) == (0, 200)
    done(engine, lambda c: leasing.less(c, "lease:a", Change(PLACE, -60, 0)))
    done(engine, lambda c: leasing.less(c, "lease:a", Change(PLACE, -600, 0)))
    assert balance(engine) == (0, 140)
    for _ in range(2):
        done(engine, lambda c: leasing.less(c, "lease:a", Change(PLACE, 0, 0, ends=True)))
    assert balance(engine) == (0, 50)


def test_a_row_is_paid_out_of_it_once(engine: Engine) -> None:
    leased(engine, 100)
    for _ in range(3):
        booking.store(engine, row("1", 30), book, "lease:a")
    assert balance(engine) == (30, 70)
    assert booking.store(engine, (*row("1", 30), *row("2", 20)), book, "lease:a") == {PLACE: 100}
    assert balance(engine) == (50, 50), "one of the two had been stored before"
    booking.store(engine, row("3", 80), book, "lease:a")
    assert balance(engine) == (130, 0), "what it cost beyond its hold is spent all the same"
    booking.store(engine, row("4", 5), book, "lease:other")
    assert balance(engine) == (135, 0), "no lease: booked as it is"


def test_a_dead_owners_lease_is_spent_and_its_rows_are_not_paid_twice(engine: Engine) -> None:
    leased(engine, 100)
    booking.store(engine, row("1", 30), book, "lease:a")
    done(engine, lambda c: leasing.renew(c, "lease:a", NOW + 500))
    assert done(engine, lambda c: funds.expired(c, NOW + 500 + leasing.LIFE_S - 1)) == []
    late = NOW + 501 + leasing.LIFE_S
    assert done(engine, lambda c: list(funds.expired(c, late))) == ["lease:a"]
    assert done(engine, lambda c: leasing.forfeit(c, "lease:a", late)) == 70
    assert done(engine, lambda c: leasing.forfeit(c, "lease:a", late)) == 0
    assert balance(engine) == (100, 0)
    booking.store(engine, row("2", 20), book, "lease:a")
    assert balance(engine) == (100, 0), "it had been paid with the lease"
    with engine.begin() as connection:
        assert rows.insert(connection, row("2", 20)) == 0, "the row is there"
    assert leased(engine, 10) is None, "who comes back leases nothing of it"
    assert balance(engine) == (100, 0)
    done(engine, lambda c: leasing.renew(c, "lease:a", late))
    much_later = late + 31 * 86_400
    assert done(engine, lambda c: list(funds.expired(c, much_later))) == ["lease:a"]
    assert done(engine, lambda c: leasing.forfeit(c, "lease:a", much_later)) == 0
    assert done(engine, lambda c: c.execute(text("SELECT count(*) FROM holds")).scalar()) == 0
    assert balance(engine) == (100, 0)


def test_only_what_has_expired_is_taken_for_spent(engine: Engine) -> None:
    """An owner that seemed dead once, and lives: one account is remembered as spent, another is leased."""
    other = ("gateway", "2026-11")
    leased(engine, 100)
    late = NOW + leasing.LIFE_S + 1
    assert done(engine, lambda c: leasing.forfeit(c, "lease:a", late)) == 100
    much_later = late + 31 * 86_400
    done(engine, lambda c: leasing.more(c, "lease:a", Change(other, 70, 1_000), much_later))
    assert done(engine, lambda c: leasing.forfeit(c, "lease:a", much_later)) == 0
    with engine.begin() as connection:
        assert funds.balance(connection, *other) == (0, 70)


def test_it_is_brought_to_what_its_owner_knows(engine: Engine) -> None:
    leased(engine, 100)
    assert done(engine, lambda c: leasing.exactly(c, "lease:a", Change(PLACE, 130, 0, exact=True))) == 100
    assert done(engine, lambda c: leasing.exactly(c, "lease:a", Change(PLACE, 30, 0, exact=True))) == 30
    assert balance(engine) == (0, 30)
    assert done(engine, lambda c: leasing.exactly(c, "lease:a", Change(PLACE, -5, 0, exact=True))) == 0
    assert done(engine, lambda c: leasing.exactly(c, "lease:b", Change(PLACE, 30, 0, exact=True))) == 0
    assert balance(engine) == (0, 0)
    leased(engine, 100)
    done(engine, lambda c: leasing.forfeit(c, "lease:a", NOW + leasing.LIFE_S + 1))
    assert done(engine, lambda c: leasing.exactly(c, "lease:a", Change(PLACE, 30, 0, exact=True))) == 0
    assert balance(engine) == (100, 0)


def test_keys_without_an_account_get_none(engine: Engine) -> None:
    """Their own budgets are charged in those periods that there are."""

    def with_keys(found: Sequence[rows.Row]) -> list[Part]:
        keys = [
            Part((f"key:{row[rows.UID]}", period), int(row[rows.COST] or 0), opened=False)
            for row in found
            for period in ("total", "2026-11")
        ]
        return [*book(found), *keys]

    leased(engine, 100)
    with engine.begin() as connection:
        funds.spend(connection, [Part(("key:1", "total"), 7, opened=True)])
    booking.store(engine, (*row("1", 30), *row("2", 20)), with_keys, "lease:a")
    assert balance(engine) == (50, 50)
    with engine.begin() as connection:
        found = funds.accounts_in(connection, ["total", "2026-11"])
    assert found == [("gateway", "total", 50, 50), ("key:1", "total", 37, 0)]


def test_its_end_gives_everything_back(engine: Engine) -> None:
    leased(engine, 100)
    booking.store(engine, row("1", 30), book, "lease:a")
    for _ in range(2):
        done(engine, lambda c: leasing.end(c, "lease:a"))
    assert balance(engine) == (30, 0)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_account_adds_up(engine: Engine, seed: int) -> None:
    dice, cost, limit = Random(seed), 0, 5_000
    for number in range(300):
        uid = dice.choice(("lease:a", "lease:b"))
        chance = dice.random()
        if chance < 0.4:
            leased(engine, dice.randint(1, 200), limit, uid)
        elif chance < 0.6:
            ends = dice.random() < 0.3
            change = Change(PLACE, 0 if ends else -dice.randint(1, 200), 0, ends=ends)
            done(engine, lambda c, uid=uid, change=change: leasing.less(c, uid, change))
        elif chance < 0.95:
            each = dice.randint(0, 100)
            cost += each
            booking.store(engine, row(str(number), each), book, uid)
        else:
            done(engine, lambda c, uid=uid: leasing.end(c, uid))
        spent, held = balance(engine)
        assert spent == cost
        found = done(engine, lambda c: c.execute(text("SELECT coalesce(sum(amount_nano), 0) FROM holds")).scalar())
        assert held == found and held >= 0
