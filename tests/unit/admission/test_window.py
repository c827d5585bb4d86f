"""No 60 seconds ever hold more than the limit, wherever they begin; and what is refused is refused until it fits."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_gateway.admission.window import WINDOW_S, Window

# Arrivals by the time since the last: bursts, single ones, a slice's and a window's edge, idle minutes.
GAPS = st.lists(
    st.one_of(
        st.just(0.0),
        st.floats(0, 0.3),
        st.floats(0, 70),
        st.sampled_from([0.1, 0.2, 59.9, WINDOW_S, math.nextafter(WINDOW_S, 0), 600.0]),
    ),
    max_size=120,
)
MERGE = st.sampled_from([0.0, 0.1, 1.0])


@settings(max_examples=300, deadline=None)
@given(GAPS, st.integers(1, 12), MERGE, st.floats(0, 1e6))
def test_no_rolling_minute_ever_holds_more_than_the_limit(
    gaps: list[float], limit: int, merge_s: float, start: float
) -> None:
    window = Window(limit, merge_s)
    admitted: list[float] = []
    for now in accumulate(gaps, initial=start):
        if window.fits_at(1, now) <= now:
            window.add(1, now)
            admitted.append(now)
    for first, beyond in zip(admitted, admitted[limit:], strict=False):
        assert beyond >= first + WINDOW_S, "one more than the limit within 60 s"


@settings(max_examples=300, deadline=None)
@given(GAPS, st.lists(st.integers(1, 40), min_size=121, max_size=121), st.integers(1, 60), MERGE)
def test_no_rolling_minute_holds_more_than_its_amount(
    gaps: list[float], amounts: list[int], limit: int, merge_s: float
) -> None:
    window = Window(limit, merge_s)
    admitted: list[tuple[float, int]] = []
    for now, amount in zip(accumulate(gaps, initial=0.0), amounts, strict=False):
        if window.fits_at(amount, now) <= now:
            window.add(amount, now)
            admitted.append((now, amount))
    for begin, _ in admitted:
        assert sum(amount for at, amount in admitted if at >= begin and at < begin + WINDOW_S) <= limit


@settings(max_examples=300, deadline=None)
@given(GAPS, st.integers(1, 8), MERGE, st.integers(1, 8))
def test_a_refusal_names_the_very_moment_at_which_it_fits(
    gaps: list[float], limit: int, merge_s: float, amount: int
) -> None:
    window = Window(limit, merge_s)
    now = 0.0
    for now in accumulate(gaps, initial=0.0):
        if window.fits_at(1, now) <= now:
            window.add(1, now)
    at = window.fits_at(amount, now)
    if math.isinf(at):
        assert amount > limit
        return
    assert now <= at <= now + WINDOW_S
    if at > now:
        before = math.nextafter(at, 0)
        assert window.fits_at(amount, before) > before, "it would have fitted before"
    assert window.fits_at(amount, at) == at


@settings(max_examples=200, deadline=None)
@given(GAPS, MERGE)
def test_what_is_unjoined_is_admitted_as_soon_as_a_minute_allows(gaps: list[float], merge_s: float) -> None:
    """Neither too much nor too little: the joined log is late by one slice at most."""
    window, limit = Window(3, merge_s), 3
    admitted: list[float] = []
    for now in accumulate(gaps, initial=0.0):
        oldest = admitted[-limit] if len(admitted) >= limit else -math.inf
        if window.fits_at(1, now) <= now:
            window.add(1, now)
            admitted.append(now)
        else:
            assert now < oldest + merge_s + WINDOW_S


def test_a_minutes_boundary_and_an_idle_hour_give_nothing_extra() -> None:
    window = Window(10, 0.0)
    begin = 3600.0
    took = [at for at in (begin + 59.9, begin + 60.1) for _ in range(10) if took_one(window, at)]
    assert took == [begin + 59.9] * 10
    assert not took_one(window, begin + 119.8)
    assert took_one(window, begin + 119.9)


def took_one(window: Window, now: float) -> bool:
    fits = window.fits_at(1, now) <= now
    if fits:
        window.add(1, now)
    return fits


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 0.05), min_size=1, max_size=400))
def test_the_log_stays_small_however_many_come(gaps: list[float]) -> None:
    window = Window(10**9, 0.1)
    now = 0.0
    for now in accumulate(gaps):
        window.add(5, now)
    assert len(window) <= now / 0.1 + 1
    assert window.level(now).remaining == 10**9 - 5 * len(gaps)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_given_back_can_be_used_again_and_no_more(data: st.DataObject) -> None:
    window = Window(100, 0.1)
    now, held = 0.0, list[tuple[int, int, float]]()
    for _ in range(data.draw(st.integers(1, 60))):
        now += data.draw(st.sampled_from([0.0, 0.0625, 1.0, 30.0, 61.0]))  # exact in binary
        amount = data.draw(st.integers(1, 60))
        if held and data.draw(st.booleans()):
            entry, reserved, at = held.pop(data.draw(st.integers(0, len(held) - 1)))
            window.give_back(entry, min(amount, reserved))
            if amount < reserved:
                held.append((entry, reserved - amount, at))
        elif (taken := window.take(amount, now)).entry is not None:
            held.append((taken.entry, amount, now))
        level = window.level(now)
        certain = sum(reserved for _, reserved, at in held if at + WINDOW_S > now)
        assert 0 <= level.remaining <= 100 - certain
        assert 0 <= level.reset_s <= WINDOW_S
    now += 2 * WINDOW_S
    assert window.level(now).remaining == 100 and len(window) == 0


@pytest.mark.parametrize("merge_s", [0.0, 0.1])
def test_a_window_that_was_left_behind_takes_nothing_back(merge_s: float) -> None:
    window = Window(10, merge_s)
    entry = window.take(10, 0.0).entry
    assert entry is not None
    assert window.level(60.0).remaining == 10
    window.add(4, 60.0)
    window.give_back(entry, 10)
    assert window.level(60.0).remaining == 6
