"""Refused tokens: told at once, then once a minute, of each address; many addresses fill nothing either."""

from __future__ import annotations

from model_gateway.control.refusals import MOST, QUIET_S, Refusals


def test_the_first_at_once_and_the_rest_as_one_number() -> None:
    refusals = Refusals()
    assert [[*refusals.told("a", now)] for now in (0.0, 1.0, 2.0)] == [[1], [], []]
    assert [*refusals.told("b", 3.0)] == [1]
    assert [*refusals.told("a", QUIET_S)] == [3], "two that were kept, and this one"
    assert [*refusals.told("a", QUIET_S + 1)] == []


def test_many_addresses_are_counted_as_one() -> None:
    refusals = Refusals()
    told = [count for number in range(MOST * 3) for count in refusals.told(f"a{number}", number / 1000)]
    assert len(told) == MOST + 1
    later = [count for number in range(10) for count in refusals.told(f"b{number}", QUIET_S * 3)]
    assert later == [1] * 10, "those of then are forgotten"
