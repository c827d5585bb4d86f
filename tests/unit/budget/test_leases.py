"""What a process has leased is spent once, asked for where an account is busy, and given back where money is short."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from model_gateway.budget.funds import Charge, Claim, Place
from model_gateway.budget.leases import BUSY, RESERVE, Change, Leases

PLACE = ("key:a", "2026-11")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def claim(uid: str, amount: int = 10, limit: int | None = 100_000, *accounts: str) -> Claim:
    charges = [Charge(account, "2026-11", limit, "b") for account in accounts or ("key:a",)]
    return Claim(uid, amount, amount, 1e12, charges)


def busy(leases: Leases, amount: int = 10, limit: int = 100_000, *accounts: str) -> None:
    for number in range(BUSY):
        leases.take(claim(f"busy{number}", amount, limit, *accounts))


def carried_out(leases: Leases, changes: Sequence[Change]) -> int:
    """As the database would. Returns what was set aside, less what went back."""
    for change in changes:
        leases.changed(change)
    return sum(change.amount_nano for change in changes)


def planned(leases: Leases, rows: int = 0) -> list[Change]:
    return leases.plan(lambda: rows)


def test_an_account_that_is_seldom_asked_is_not_leased() -> None:
    leases = Leases(Clock())
    for number in range(BUSY - 1):
        assert not leases.take(claim(f"u{number}"))
    assert planned(leases) == [] and not leases.open


def test_a_busy_account_is_leased_and_held_from_memory() -> None:
    leases = Leases(Clock())
    busy(leases)
    (more,) = planned(leases)
    assert more.place == PLACE and more.amount_nano == 2 * 10 + 8 * 10
    assert more.limit_nano == 100_000 - RESERVE * more.amount_nano
    assert not leases.take(claim("early")), "not before it is in the database"
    leases.changed(more)
    assert leases.open
    assert [leases.take(claim(f"u{number}")) for number in range(11)] == [True] * 10 + [False]
    leases.close("u0", 3, {})
    assert not leases.take(claim("v")), "7 of 10 came back"
    leases.close("u1", 7, {})
    assert leases.take(claim("v"))
    leases.close("u1", 7, {})
    assert not leases.take(claim("w")), "a request closes once"


def test_all_accounts_of_a_claim_must_have_it() -> None:
    leases = Leases(Clock())
    busy(leases, 10, 100_000, "gateway", "key:a")
    changes = {change.place[0]: change for change in planned(leases)}
    leases.changed(changes["gateway"])
    assert not leases.take(claim("u", 10, 100_000, "gateway", "key:a"))
    assert [leases.take(claim(f"g{n}", 10, 100_000, "gateway")) for n in range(11)].count(True) == 10, "none was kept"


def test_two_targets_of_one_provider_hold_twice_and_pay_their_shares() -> None:
    leases = Leases(Clock())
    charge = Charge("provider:p", "2026-11", 100_000, "b")
    twice = Claim("u", 10, 10, 1e12, (), ((charge,), (charge,)))
    for _ in range(BUSY):
        leases.take(twice)
    carried_out(leases, planned(leases))
    held = 0
    while leases.take(Claim(f"u{held}", 10, 10, 1e12, (), ((charge,), (charge,)))):
        held += 1
    assert held == (2 * 20 + 8 * 10) // 20
    leases.close("u0", 50, {"provider:p": 5, "provider:q": 45})
    assert leases.take(Claim("v", 15, 15, 1e12, (), ((charge,),))), "15 of 20 came back"
    assert not leases.take(Claim("w", 1, 1, 1e12, (), ((charge,),)))


def test_an_account_without_a_limit_needs_no_lease() -> None:
    leases = Leases(Clock())
    assert leases.take(claim("u", 10, None))
    assert planned(leases) == []


def test_what_is_spent_is_set_aside_anew() -> None:
    clock = Clock()
    leases = Leases(clock)
    busy(leases)
    carried_out(leases, planned(leases))
    for number in range(8):
        assert leases.take(claim(f"u{number}"))
    for number in range(8):
        leases.close(f"u{number}", 9, {})
    (more,) = planned(leases, rows=8)
    assert more.amount_nano == 2 * (80 + 72) + 80 - (100 - 72)


def test_an_idle_lease_goes_back_and_ends_when_its_rows_are_written() -> None:
    clock = Clock()
    leases = Leases(clock)
    busy(leases)
    got = carried_out(leases, planned(leases))
    assert leases.take(claim("u"))
    clock.now += 1.1
    assert planned(leases) == [], "it was busy a second ago"
    clock.now += 1.1
    assert planned(leases) == [Change(PLACE, -(got - 10), 0)], "what runs stays held"
    leases.close("u", 4, {})
    assert planned(leases, rows=1) == [Change(PLACE, -6, 0)]
    (end,) = planned(leases)
    assert end == Change(PLACE, 0, 0, ends=True) and leases.open
    assert planned(leases) == [end], "as long as it is not known to be done"
    leases.changed(end)
    assert not leases.open and planned(leases) == []


def test_where_money_is_short_nothing_is_kept() -> None:
    clock = Clock()
    leases = Leases(clock)
    busy(leases)
    got = carried_out(leases, planned(leases))
    leases.take(claim("u"))
    leases.seen(PLACE, 100_000 - 2 * got + 1)
    assert planned(leases) == [Change(PLACE, 10 - got, 0)]
    assert not leases.take(claim("v"))
    clock.now += 1.0
    busy(leases)
    (more,) = planned(leases)
    leases.short(PLACE)
    assert more.amount_nano > 0 and planned(leases) == [], "the database has refused it"
    leases.changed(more)
    leases.take(claim("w"))
    assert list(leases.free(claim("x"))) == [Change(PLACE, -more.amount_nano + 10, 0)]


def test_a_lease_that_was_taken_for_spent_is_no_more() -> None:
    leases = Leases(Clock())
    busy(leases)
    carried_out(leases, planned(leases))
    assert leases.take(claim("u"))
    leases.lost(PLACE)
    leases.close("u", 4, {})
    busy(leases)
    assert planned(leases) == [] and not leases.take(claim("v"))


def test_at_the_end_everything_goes_back() -> None:
    leases = Leases(Clock())
    busy(leases)
    got = carried_out(leases, planned(leases))
    leases.take(claim("u"))
    assert leases.plan(lambda: 0, closing=True) == [Change(PLACE, 10 - got, 0)], "u may still cost something"
    leases.close("u", 1, {})
    carried_out(leases, leases.plan(lambda: 0, closing=True))
    assert not leases.open


@pytest.mark.parametrize("seed", range(30))
def test_it_never_uses_more_than_was_set_aside(seed: int) -> None:
    """Random claims, ends, plans and refusals: what is running or spent never exceeds what the database has granted."""
    dice, clock = Random(seed), Clock()
    leases = Leases(clock)
    accounts = ["gateway", "key:a", "key:b", "team:t"]
    granted: dict[Place, int] = {(name, "2026-11"): 0 for name in accounts}  # less what was spent or went back
    running: dict[str, tuple[list[str], int]] = {}
    used = dict.fromkeys(granted, 0)
    for step in range(3_000):
        clock.now += dice.random() * 0.02
        if dice.random() < 0.5:
            chosen = dice.sample(accounts, dice.randint(1, 3))
            amount = dice.randint(1, 50)
            if leases.take(claim(f"u{step}", amount, 10_000, *chosen)):
                running[f"u{step}"] = chosen, amount
                for name in chosen:
                    used[name, "2026-11"] += amount
        elif running and dice.random() < 0.8:
            uid = dice.choice(list(running))
            chosen, amount = running.pop(uid)
            cost = dice.randint(0, amount)
            leases.close(uid, cost, {})
            for name in chosen:
                used[name, "2026-11"] -= amount
                granted[name, "2026-11"] -= cost
        elif dice.random() < 0.3:
            for change in leases.plan(lambda: dice.randint(0, 1)):
                if change.amount_nano > 0 and dice.random() < 0.3:
                    leases.short(change.place)
                    continue
                if change.ends:
                    assert not used[change.place]
                    granted[change.place] = 0
                granted[change.place] += change.amount_nano
                leases.changed(change)
        assert all(used[place] <= granted[place] for place in granted)


def test_one_large_claim_is_forgotten_after_a_while() -> None:
    clock = Clock()
    leases = Leases(clock)
    leases.take(claim("large", 5_000, 10**9))
    wanted = []
    for second in range(5):
        for number in range(BUSY):
            leases.take(claim(f"{second}-{number}", 10, 10**9))
        wanted += [change.amount_nano for change in planned(leases)]
        clock.now += 1.0
    assert wanted[0] > 8 * 5_000 > 8 * 10 * 50 > wanted[-1]


def test_what_the_database_would_refuse_is_not_asked() -> None:
    leases = Leases(Clock())
    busy(leases, 10, 10 * 8 * (RESERVE + 1))
    assert planned(leases) == []
    busy(leases, 10**18, 10**12)
    assert planned(leases) == [], "more than an integer of the database holds"


def test_a_lower_limit_counts_at_once() -> None:
    leases = Leases(Clock())
    busy(leases)
    carried_out(leases, planned(leases))
    assert leases.take(claim("u", 10, 100_000))
    assert not leases.take(claim("v", 10, 20)), "what was free had been granted under another limit"
    assert planned(leases) == [Change(PLACE, 10, 0, exact=True)]


def test_after_a_failure_the_database_is_asked_what_it_holds() -> None:
    leases = Leases(Clock())
    busy(leases)
    (more,) = planned(leases)
    leases.doubt()  # its commit was not answered
    assert leases.open, "it may be there, and is to be given back"
    assert not leases.take(claim("u"))
    assert [change.exact for change in planned(leases, rows=1)] == [False], "what is spent is not in the database yet"
    (exact,) = planned(leases)
    assert exact == Change(PLACE, 0, 0, exact=True)
    leases.found(exact, 0)
    leases.changed(more)
    assert [leases.take(claim(f"u{number}")) for number in range(3)] == [True] * 3
    leases.doubt()
    (exact,) = planned(leases)
    leases.found(exact, 40)  # the server came back without its last transactions
    assert [leases.take(claim(f"v{number}")) for number in range(2)] == [True, False]


def test_what_cost_more_than_was_held_leaves_no_difference() -> None:
    leases = Leases(Clock())
    busy(leases)
    got = carried_out(leases, planned(leases))
    assert leases.take(claim("u"))
    leases.close("u", got + 30, {})
    (exact,) = planned(leases)
    assert exact == Change(PLACE, -30, 0, exact=True)
    leases.found(exact, 0)
    (more,) = planned(leases)
    leases.changed(more)
    assert [leases.take(claim(f"v{n}", more.amount_nano // 4)) for n in range(5)] == [True] * 4 + [False]
