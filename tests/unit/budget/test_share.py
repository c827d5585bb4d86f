"""While nobody can be asked: all gateways together spend no more than was left."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from model_gateway.budget.funds import Charge, Claim
from model_gateway.budget.share import LocalShare

ALL = Charge("gateway", "total", 1_000, "all")
ADA = Charge("key:ada", "total", 300, "ada")
COUNTED = Charge("team:t", "total", None, "watch")
FIRST, SECOND = Charge("provider:first", "total", 100, "first"), Charge("provider:second", "total", 500, "second")


def claim(uid: str, amount: int, least: int, must: Sequence[Charge] = (ALL,), *targets: Sequence[Charge]) -> Claim:
    return Claim(uid, amount, least, 0.0, must, targets)


steps = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 300), st.integers(1, 300), st.booleans(), st.booleans()), max_size=60
)


@given(st.integers(1, 4), st.integers(0, 1_200), steps)
def test_together_they_never_spend_more_than_was_left(
    instances: int, spent: int, asked: list[tuple[int, int, int, bool, bool]]
) -> None:
    shares = [LocalShare(instances) for _ in range(instances)]
    for share in shares:
        share.know([("gateway", "total", spent, 0)], booked=True)
    total = 0
    for number, (which, amount, least, closes, all_of_it) in enumerate(asked):
        share = shares[which % instances]
        verdict = share.take(claim(str(number), max(amount, least), min(amount, least), (ALL, COUNTED)))
        assert verdict.granted_nano == 0 or min(amount, least) <= verdict.granted_nano <= max(amount, least)
        cost = verdict.granted_nano if all_of_it or not closes else verdict.granted_nano // 2
        total += cost
        if closes:
            share.close(str(number), {"provider:first": cost, "model:m": cost}, cost)
            share.close(str(number), {"provider:first": cost, "model:m": cost}, cost)  # twice is no harm
    assert total <= max(0, 1_000 - spent)


def test_a_hold_is_given_back_and_a_target_that_does_not_fit_is_left_out() -> None:
    share = LocalShare(1)
    share.know([("provider:first", "total", 60, 30)], booked=True)
    verdict = share.take(claim("a", 50, 50, (ALL,), (FIRST,), (SECOND,)))
    assert (verdict.granted_nano, list(verdict.targets)) == (50, [False, True])
    share.close("a", {"provider:second": 20, "model:m": 20}, 20)
    assert share.take(claim("b", 480, 480, (ALL,), (SECOND,))).granted_nano == 480
    refused = share.take(claim("c", 50, 50, (ALL,), (FIRST,)))
    assert refused.granted_nano == 0 and refused.refused == FIRST and refused.left_nano == 10
    refused = share.take(claim("d", 400, 301, (ALL, ADA)))
    assert refused.refused == ADA and refused.left_nano == 300
    assert share.take(claim("e", 400, 300, (ALL, ADA))).granted_nano == 300


def test_what_is_booked_is_not_counted_twice() -> None:
    share = LocalShare(2)
    assert share.take(claim("a", 400, 400)).granted_nano == 400
    assert share.take(claim("b", 100, 100)).granted_nano == 100
    assert share.take(claim("c", 1, 1)).granted_nano == 0, "its half is taken"
    share.close("a", {"provider:p": 400, "model:m": 400}, 400)
    share.know([("gateway", "total", 0, 0)], booked=False)
    assert share.take(claim("d", 1, 1)).granted_nano == 0, "not in the database yet"
    share.know([("gateway", "total", 400, 0)], booked=True)
    assert share.take(claim("e", 201, 201)).granted_nano == 0, "half of 600, and b still holds 100"
    assert share.take(claim("f", 200, 200)).granted_nano == 200
