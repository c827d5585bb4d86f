"""A key's places, requests and tokens: taken once, given back once, refused with the number and the time."""

from __future__ import annotations

import pytest

from model_gateway.admission.limits import Lease, Limiter, OwnPlaces, Room
from model_gateway.admission.window import Window
from model_gateway.domain.caller import Limits
from model_gateway.domain.errors import InvalidRequest, RateLimited


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refused(limiter: Limiter, tokens: int | None = None, lease: Lease | None = None) -> RateLimited:
    with pytest.raises(RateLimited) as error:
        if tokens is None or lease is None:
            limiter.enter()
        else:
            lease.reserve(tokens)
    return error.value


def test_requests_of_a_minute(clock: Clock) -> None:
    limiter = Limiter("alice", Limits(requests_per_minute=2), clock)
    limiter.enter().close(0)
    clock.now += 20
    limiter.enter().close(0)
    error = refused(limiter)
    assert error.retry_after_s == 40
    assert "`alice`" in error.message and "2 requests a minute (requestsPerMinute)" in error.message
    assert "40.0 s" in error.message
    clock.now += 40
    limiter.enter()
    assert refused(limiter).retry_after_s == 20, "a refusal counts nothing"


def test_places_are_given_back_once(clock: Clock) -> None:
    places = OwnPlaces()
    limiter = Limiter("alice", Limits(max_concurrent=2), clock, lambda _: Room(places, Window(), Window()))
    first, second = limiter.enter(), limiter.enter()
    error = refused(limiter)
    assert "2 requests at once (maxConcurrent)" in error.message and error.retry_after_s == 1
    first.close(0)
    first.close(0)
    third = limiter.enter()
    refused(limiter)
    second.close(0)
    third.close(0)
    assert places.taken == 0


def test_a_refusal_for_want_of_a_place_costs_no_request(clock: Clock) -> None:
    limiter = Limiter("alice", Limits(max_concurrent=1, requests_per_minute=2), clock)
    first = limiter.enter()
    for _ in range(5):
        refused(limiter)
    first.close(0)
    limiter.enter()


def test_unused_tokens_come_back_and_overuse_is_carried_on(clock: Clock) -> None:
    limiter = Limiter("alice", Limits(tokens_per_minute=100), clock)
    lease = limiter.enter()
    lease.reserve(80)
    error = refused(limiter, 30, limiter.enter())
    assert error.retry_after_s == 60 and "100 tokens a minute (tokensPerMinute)" in error.message
    assert "expected to take 30" in error.message
    clock.now += 10
    lease.close(20)
    limiter.enter().reserve(80)
    clock.now += 60

    greedy = limiter.enter()
    greedy.reserve(10)
    clock.now += 10
    greedy.close(150)
    error = refused(limiter, 1, limiter.enter())
    assert error.retry_after_s == 60, "what nobody expected counts from when it became known"
    clock.now += 60
    limiter.enter().reserve(100)


def test_a_request_that_asked_nobody_uses_no_tokens(clock: Clock) -> None:
    limiter = Limiter("alice", Limits(tokens_per_minute=100), clock)
    limiter.enter().close(90)  # an answer from the cache: its usage is another's
    lease = limiter.enter()
    lease.reserve(100)
    lease.close(0)  # it failed
    quota = limiter.quota()
    assert quota.requests is None and quota.tokens is not None
    assert (quota.tokens.limit, quota.tokens.remaining, quota.tokens.reset_s) == (100, 100, 0)


def test_what_never_fits_says_so_and_invites_no_retry(clock: Clock) -> None:
    limiter = Limiter("", Limits(tokens_per_minute=100), clock)
    with pytest.raises(InvalidRequest, match=r"all callers together .* shorten it, or set a smaller") as error:
        limiter.enter().reserve(101)
    assert error.value.param == "max_tokens" and error.value.retry_after_s is None


def test_what_is_left(clock: Clock) -> None:
    limiter = Limiter("alice", Limits(requests_per_minute=5, tokens_per_minute=1000), clock)
    limiter.enter().reserve(300)
    clock.now += 15
    limiter.enter()
    quota = limiter.quota()
    assert quota.requests is not None and quota.tokens is not None
    assert (quota.requests.remaining, quota.requests.reset_s) == (3, 60)
    assert (quota.tokens.remaining, quota.tokens.reset_s) == (700, 45)
