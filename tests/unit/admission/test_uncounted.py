"""Tokens are counted only where the number may decide, and what is decided is the same as if all had been counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.admission.limits import MOST_UNCERTAIN, Lease, Limiter
from model_gateway.admission.shared import SharedRooms, memory_of
from model_gateway.domain.caller import Limits
from model_gateway.domain.errors import GatewayError, InvalidRequest, RateLimited
from model_gateway.domain.usage import Expected

LIMIT = 100


class Request(msgspec.Struct, frozen=True):
    """One that comes `after_s` the one before and lasts as long as `lasting` more requests come."""

    exact: int
    most: int
    about: int
    used: int
    after_s: float
    lasting: int


def of(exact: int, over: int, about: int, used: int, after_s: float, lasting: int) -> Request:
    return Request(exact, exact + over, min(about, exact + over), used, after_s, lasting)


numbers = st.integers(0, 60)
requests = st.lists(
    st.builds(of, numbers, numbers, numbers, numbers, st.sampled_from([0, 0.05, 1, 25, 61]), st.integers(0, 6)),
    min_size=1,
    max_size=30,
)


def run(asked: list[Request], how: Callable[[Request], int | Expected]) -> list[tuple[str, int]]:
    """What became of each, and what was said to be left once nothing was under way."""
    now = [1000.0]
    limiter = Limiter("ada", Limits(tokens_per_minute=LIMIT), lambda: now[0])
    found: list[tuple[str, int]] = []
    under_way: list[tuple[int, Lease, Request]] = []
    for number, request in enumerate(asked):
        now[0] += request.after_s
        for end, lease, old in [each for each in under_way if each[0] < number]:
            lease.close(old.used)
            under_way.remove((end, lease, old))
        lease = limiter.enter()
        try:
            lease.reserve(how(request))
        except GatewayError as error:
            lease.close(0)
            found.append((error.message, -1))
            continue
        under_way.append((number + request.lasting, lease, request))
        quota = limiter.quota().tokens
        assert quota is not None
        found.append(("in", quota.remaining))
    return found


def counted(request: Request) -> int:
    return request.exact


def uncounted(request: Request) -> Expected:
    return Expected(request.about, request.most, lambda: request.exact)


@given(requests)
def test_the_same_is_let_in_and_refused_with_the_same_words(asked: list[Request]) -> None:
    """Where nobody uses more than was expected."""
    asked = [msgspec.structs.replace(each, used=min(each.used, each.exact)) for each in asked]
    assert [what for what, _ in run(asked, uncounted)] == [what for what, _ in run(asked, counted)]


@given(requests)
def test_nothing_is_refused_that_would_have_been_let_in(asked: list[Request]) -> None:
    """Who uses more than expected has it counted from when it became known, or, where it was within the most that it
    might take, from when it came: earlier, and so never a refusal more.
    """
    for (one, _), (other, _) in zip(run(asked, uncounted), run(asked, counted), strict=True):
        if one != other:
            assert other != "in"
            break


@given(requests)
def test_what_is_left_is_told_as_well_as_it_is_estimated(asked: list[Request]) -> None:
    def estimated_well(each: Request) -> Request:
        whole_seconds = float(int(each.after_s))  # what is joined leaves the window a tenth of a second later
        return msgspec.structs.replace(each, about=each.exact, used=min(each.used, each.exact), after_s=whole_seconds)

    asked = [estimated_well(each) for each in asked]
    assert run(asked, uncounted) == run(asked, counted)


class Counted:
    """Says whether it was."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.times = 0

    def __call__(self) -> int:
        self.times += 1
        return self.tokens


def expecting(tokens: int, most: int) -> tuple[Expected, Counted]:
    count = Counted(tokens)
    return Expected(tokens, most, count), count


def test_nothing_is_counted_that_surely_fits() -> None:
    limiter = Limiter("ada", Limits(tokens_per_minute=LIMIT), lambda: 0.0)
    for _ in range(50):
        tokens, count = expecting(10, 40)
        lease = limiter.enter()
        lease.reserve(tokens)
        lease.close(1)
        assert not count.times


def test_near_the_limit_all_under_way_are_counted_once() -> None:
    limiter = Limiter("ada", Limits(tokens_per_minute=LIMIT), lambda: 0.0)
    counts: list[Counted] = []
    for _ in range(10):
        tokens, count = expecting(10, 40)
        limiter.enter().reserve(tokens)
        counts.append(count)
    assert {count.times for count in counts} == {1}
    with pytest.raises(RateLimited):
        limiter.enter().reserve(1)
    assert {count.times for count in counts} == {1}


def test_what_fits_in_no_minute_is_counted_before_it_is_refused() -> None:
    limiter = Limiter("ada", Limits(tokens_per_minute=LIMIT), lambda: 0.0)
    limiter.enter().reserve(Expected(50, 400, lambda: 100))
    with pytest.raises(InvalidRequest, match="expected to take 101"):
        limiter.enter().reserve(Expected(50, 400, lambda: 101))


def test_the_work_that_is_put_off_is_bounded() -> None:
    limiter = Limiter("ada", Limits(tokens_per_minute=10**9), lambda: 0.0)
    first, count = expecting(0, MOST_UNCERTAIN)
    held = limiter.enter()
    held.reserve(first)
    second, second_count = expecting(0, 1)
    limiter.enter().reserve(second)
    assert (count.times, second_count.times) == (0, 1)
    held.close(0)
    limiter.enter().reserve(second)
    assert second_count.times == 1, "what has ended is uncertain no longer"


@pytest.fixture
def workers() -> Iterator[list[Limiter]]:
    """Of one key, in two processes that share its window."""
    memory = memory_of(2)
    yield [Limiter("ada", Limits(tokens_per_minute=800), lambda: 1.0, SharedRooms(memory, slot, 2)) for slot in (0, 1)]
    os.close(memory)


def test_where_others_count_too_an_eighth_of_the_limit_need_not_be_counted(workers: list[Limiter]) -> None:
    here, there = workers
    counts: list[Counted] = []
    for limiter in (here, there, here):
        tokens, count = expecting(10, 40)
        limiter.enter().reserve(tokens)
        counts.append(count)
    assert [count.times for count in counts] == [1, 0, 1], (
        "80 of 100 were held: whose third does not fit counts its own"
    )
    quota = there.quota().tokens
    assert quota is not None and quota.remaining == 800 - 30


def test_others_uncounted_requests_cost_an_eighth_of_the_limit_at_most(workers: list[Limiter]) -> None:
    here, there = workers
    there.enter().reserve(Expected(1, 100, lambda: 1))
    here.enter().reserve(Expected(700, 1_000, lambda: 700))
    with pytest.raises(RateLimited):
        here.enter().reserve(1)
    there.enter().reserve(Expected(50, 200, lambda: 50))  # it has counted what it had
    here.enter().reserve(49)
    with pytest.raises(RateLimited):
        here.enter().reserve(1)
