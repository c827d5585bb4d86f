from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.dispatch.retry import decide
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
