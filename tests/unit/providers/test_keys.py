from __future__ import annotations

import pytest

from model_gateway.domain.errors import UpstreamConnectError, UpstreamStatusError
from model_gateway.providers.keys import LIMITED_S, REFUSED_S, Keys


def refused(status: int, retry_after_s: float | None = None) -> UpstreamStatusError:
    return UpstreamStatusError("x", status=status, retry_after_s=retry_after_s)


def test_keys_take_turns() -> None:
    keys = Keys(["a", "b", "c"])
    assert [keys.take(0.0) for _ in range(4)] == ["a", "b", "c", "a"]


@pytest.mark.parametrize(("status", "rest_s"), [(429, LIMITED_S), (401, REFUSED_S), (403, REFUSED_S)])
def test_a_refused_key_rests_and_another_takes_over(status: int, rest_s: float) -> None:
    keys = Keys(["a", "b"])
    error = refused(status)
    keys.failed(keys.take(0.0), error, 0.0)
    assert error.other_key
    assert [keys.take(1.0) for _ in range(2)] == ["b", "b"]
    assert keys.rest_s(1.0) == 0.0
    last = refused(status)
    keys.failed("b", last, 1.0)
    assert not last.other_key, "no key is left"
    assert keys.rest_s(2.0) == rest_s - 2.0
    assert keys.take(2.0) == "a", "the one that may soonest"
    assert {keys.take(rest_s + 1) for _ in range(2)} == {"a", "b"}


def test_a_retry_after_is_kept_even_by_the_only_key() -> None:
    keys = Keys(["a"])
    error = refused(503, retry_after_s=7)
    keys.failed("a", error, 0.0)
    assert not error.other_key
    assert keys.rest_s(3.0) == 4.0 and keys.rest_s(7.0) == 0.0


@pytest.mark.parametrize("error", [refused(500), refused(404), UpstreamConnectError("x")])
def test_what_is_not_a_keys_fault_rests_none(error: UpstreamStatusError) -> None:
    keys = Keys(["a", "b"])
    keys.failed("a", error, 0.0)
    assert not error.other_key and keys.rest_s(0.0) == 0.0 and keys.take(0.0) == "a"


def test_the_only_key_is_not_rested_by_a_refusal_without_a_time() -> None:
    keys = Keys(["a"])
    for status in (401, 403, 429):
        keys.failed("a", refused(status), 0.0)
    assert keys.rest_s(0.0) == 0.0
