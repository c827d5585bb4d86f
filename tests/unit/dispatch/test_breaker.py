from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model_gateway.config.schema import BreakerConfig
from model_gateway.dispatch.breaker import MAX_COOLDOWN_FACTOR, Breaker

CONFIG = BreakerConfig(failures=3, failure_rate=0.5, window=10, cooldown=1_000)


def fail(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        breaker.begin()
        breaker.failed(now)


def succeed(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.begin()
        breaker.succeeded()


def test_failures_in_a_row_open_it_and_one_call_tries_again_after_the_cooldown() -> None:
    breaker = Breaker(CONFIG)
    fail(breaker, 0.0, 2)
    assert breaker.allows(0.0)
    fail(breaker, 0.0)
    assert not breaker.allows(0.99)
    assert breaker.allows(1.0)
    breaker.begin()
    assert not breaker.allows(1.0), "only one call tries"
    breaker.succeeded()
    assert breaker.allows(1.0) and breaker.open_until == 0.0
    fail(breaker, 2.0, 2)
    assert breaker.allows(2.0), "the count began anew"


def test_a_trial_that_fails_doubles_the_cooldown_up_to_a_ceiling() -> None:
    breaker = Breaker(CONFIG)
    fail(breaker, 0.0, 3)
    now, waits = 0.0, list[float]()
    for _ in range(6):
        waits.append(breaker.open_until - now)
        now = breaker.open_until
        fail(breaker, now)
    assert waits == [1.0, 2.0, 4.0, 8.0, MAX_COOLDOWN_FACTOR, MAX_COOLDOWN_FACTOR]
    now = breaker.open_until
    succeed(breaker)
    fail(breaker, now, 3)
    assert breaker.open_until == now + 1.0, "a success makes the next cooldown short again"


def test_a_trial_that_was_cancelled_lets_another_try() -> None:
    breaker = Breaker(CONFIG)
    fail(breaker, 0.0, 3)
    breaker.begin()
    breaker.cancelled()
    assert breaker.allows(1.0)


def test_calls_begun_before_it_opened_do_not_prolong_it() -> None:
    breaker = Breaker(CONFIG)
    for _ in range(8):
        breaker.begin()
    for _ in range(8):
        breaker.failed(0.5)
    assert breaker.open_until == 1.5


def test_a_share_of_failures_opens_it_too() -> None:
    breaker = Breaker(CONFIG)
    for _ in range(4):
        succeed(breaker)
        fail(breaker, 0.0)
    assert breaker.allows(0.0), "the window is not full"
    succeed(breaker)
    fail(breaker, 0.0)
    assert not breaker.allows(0.0)


def test_disabled_it_never_opens() -> None:
    breaker = Breaker(BreakerConfig(enabled=False, failures=1))
    fail(breaker, 0.0, 50)
    assert breaker.allows(0.0)


@given(st.lists(st.tuples(st.sampled_from(("ok", "fail", "cancel")), st.floats(0, 2)), max_size=80))
def test_never_stuck_and_never_two_trials(steps: list[tuple[str, float]]) -> None:
    breaker = Breaker(CONFIG)
    now = 0.0
    for outcome, later in steps:
        now += later
        if not breaker.allows(now):
            assert breaker.open_until > now
            assert breaker.open_until - now <= CONFIG.cooldown / 1000 * MAX_COOLDOWN_FACTOR
            continue
        half_open = breaker.open_until > 0
        breaker.begin()
        if half_open:
            assert not breaker.allows(now)
        if outcome == "ok":
            breaker.succeeded()
        elif outcome == "cancel":
            breaker.cancelled()
        else:
            breaker.failed(now)
