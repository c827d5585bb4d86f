from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.dispatch.retry import WINDOW_S, RetryBudget, decide
from model_gateway.domain.errors import UpstreamStatusError


def failure(*, retryable: bool = True, retry_after_s: float | None = None) -> UpstreamStatusError:
    return UpstreamStatusError("x", retryable=retryable, retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("error", "attempt", "count", "remaining_s", "wait_s"),
    [
        (failure(), 1, 2, 60.0, 1.0),
        (failure(), 2, 2, 60.0, 2.0),
        (failure(), 3, 2, 60.0, None),
        (failure(), 1, 0, 60.0, None),
        (failure(retryable=False), 1, 2, 60.0, None),
        (failure(retry_after_s=5), 1, 2, 60.0, 5.0),
        (failure(retry_after_s=0.1), 1, 2, 60.0, 1.0),
        (failure(retry_after_s=61), 1, 2, 60.0, None),
        (failure(), 1, 2, 0.5, None),
    ],
)
def test_when_to_try_again(
    error: UpstreamStatusError, attempt: int, count: int, remaining_s: float, wait_s: float | None
) -> None:
    assert decide(error, attempt, count, 1.0, remaining_s, jitter=1.0) == wait_s


@given(st.integers(1, 10), st.integers(0, 10), st.floats(0, 10), st.floats(0, 100), st.floats(0, 1))
def test_never_too_often_never_too_late(
    attempt: int, count: int, delay_s: float, remaining_s: float, jitter: float
) -> None:
    wait_s = decide(failure(retry_after_s=0.5), attempt, count, delay_s, remaining_s, jitter)
    if wait_s is not None:
        assert attempt <= count
        assert 0.5 <= wait_s < remaining_s


def test_where_others_can_be_asked_nobody_waits_for_a_long_retry_after() -> None:
    error = failure(retry_after_s=5)
    assert decide(error, 1, 2, 1.0, 60.0, 1.0, others=True) is None
    assert decide(failure(retry_after_s=0.1), 1, 2, 1.0, 60.0, 1.0, others=True) == 1.0


def test_the_budget_allows_a_share_and_a_floor() -> None:
    budget = RetryBudget(ratio=0.2, min_per_second=0)
    for _ in range(100):
        budget.deposit(5.0)
    assert sum(budget.withdraw(5.5) for _ in range(100)) == 20
    floor = RetryBudget(ratio=0.0, min_per_second=2)
    assert sum(floor.withdraw(0.0) for _ in range(100)) == 2 * WINDOW_S
    assert not floor.withdraw(WINDOW_S - 0.5)
    assert floor.withdraw(float(WINDOW_S)), "the window slides"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=200), st.floats(0, 1), st.floats(0, 3))
def test_over_any_window_retries_stay_within_the_budget(
    steps: list[tuple[bool, float]], ratio: float, floor: float
) -> None:
    budget = RetryBudget(ratio, floor)
    now = 0.0
    requests: list[float] = []
    retries: list[float] = []
    for is_request, later in steps:
        now += later
        if is_request:
            budget.deposit(now)
            requests.append(now)
        elif budget.withdraw(now):
            retries.append(now)
        # The window is counted in whole seconds, so it reaches back less than WINDOW_S.
        recent = [at for at in retries if at > now - (WINDOW_S - 1)]
        assert len(recent) <= floor * WINDOW_S + ratio * len([at for at in requests if at > now - 2 * WINDOW_S]) + 1e-9
