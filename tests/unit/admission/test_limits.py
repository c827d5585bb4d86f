"""A key never gets more than its limit in any minute, wherever that begins, and always as much as it may have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from model_gateway.admission.limits import WINDOW_S, Meter
from model_gateway.config.schema import CallerKey
from model_gateway.domain.errors import InvalidRequest, RateLimited


def meter(**limits: Any) -> Meter:
    return Meter(CallerKey(name="ada", key=SecretStr("k"), **limits))


def enters(own: Meter, now: float) -> bool:
    try:
        own.enter(now)
    except RateLimited:
        return False
    own.leave()
    return True


@given(st.lists(st.floats(0, 30), max_size=80), st.integers(1, 8))
@settings(max_examples=300, deadline=None)
def test_no_minute_holds_more_requests_than_the_limit(gaps: list[float], limit: int) -> None:
    """Nor fewer: who is refused has indeed had the limit within the last minute."""
    own = meter(requests_per_minute=limit)
    now, entered = 0.0, list[float]()
    for gap in gaps:
        now += gap
        recent = sum(now - at < WINDOW_S for at in entered)
        assert enters(own, now) == (recent < limit)
        if recent < limit:
            entered.append(now)
    for first in entered:
        assert sum(0 <= at - first < WINDOW_S for at in entered) <= limit


def test_a_boundary_between_minutes_gives_nothing_extra() -> None:
    own = meter(requests_per_minute=10)
    assert sum(enters(own, 59.9) for _ in range(20)) == 10
    assert sum(enters(own, 60.1) for _ in range(20)) == 0
    assert sum(enters(own, 119.8) for _ in range(20)) == 0
    assert sum(enters(own, 119.95) for _ in range(20)) == 10


def test_a_refusal_says_when_to_come_again() -> None:
    own = meter(requests_per_minute=2)
    assert enters(own, 100.0) and enters(own, 110.0)
    with pytest.raises(RateLimited, match="2 times a minute") as refused:
        own.enter(130.0)
    assert refused.value.retry_after_s == pytest.approx(30.0)
    assert not enters(own, 159.99) and enters(own, 160.01)
    assert own.remaining(160.5)["requests"] == (2, 0, pytest.approx(59.51))
    assert own.remaining(300.0)["requests"] == (2, 2, 0.0)


def test_places_are_given_back() -> None:
    own = meter(max_concurrent=2)
    own.enter(0)
    own.enter(0)
    with pytest.raises(RateLimited, match="may have 2") as refused:
        own.enter(0)
    assert refused.value.retry_after_s == 1
    own.leave()
    own.enter(0)


@given(
    st.lists(st.tuples(st.floats(0, 40), st.integers(0, 60), st.integers(0, 90), st.integers(0, 5)), max_size=60),
    st.integers(60, 200),
)
@settings(max_examples=300, deadline=None)
def test_no_minute_is_reserved_beyond_its_tokens(steps: list[tuple[float, int, int, int]], limit: int) -> None:
    """Each step reserves, and corrects what one before has reserved; a model of plain lists says what is right."""
    own = meter(tokens_per_minute=limit)
    now = 0.0
    known: list[list[Any]] = []  # reservation, at, tokens
    for gap, tokens, actual, back in steps:
        now += gap
        used = sum(each[2] for each in known if now - each[1] < WINDOW_S)
        try:
            reservation = own.reserve(now, tokens)
        except RateLimited as refused:
            assert used + tokens > limit
            assert refused.retry_after_s is not None and 0 < refused.retry_after_s <= WINDOW_S
        else:
            assert used + tokens <= limit
            known.append([reservation, now, tokens])
        if back < len(known):
            chosen = known[-1 - back]
            own.correct(chosen[0], actual)
            if chosen[0].tokens >= 0:
                chosen[2] = actual
    used = sum(each[2] for each in known if now - each[1] < WINDOW_S)
    assert own.remaining(now)["tokens"][:2] == (limit, max(0, limit - used))


def test_more_tokens_than_a_minute_ever_has_are_a_mistake() -> None:
    with pytest.raises(InvalidRequest, match="100 a minute") as refused:
        meter(tokens_per_minute=100).reserve(0, 101)
    assert refused.value.param == "max_tokens"


def test_without_limits_there_is_nothing_to_tell() -> None:
    own = meter()
    assert own.reserve(0, 10**9) is None and own.remaining(0) == {}
    assert all(enters(own, 0) for _ in range(1000))
