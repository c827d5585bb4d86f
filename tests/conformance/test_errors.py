"""Errors of every protocol: the status decides, the words only explain."""

from __future__ import annotations

import pytest

from conformance.table import STATUSES, TABLE, Status
from model_gateway.domain.errors import ErrorKind, UpstreamError
from upstream import fixture

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
PAGE = b"<html><head><title>Bad Gateway</title></head></html>"
ODD = (
    b"",
    b"{",
    b"null",
    b"5",
    b"[1,2]",
    b'{"error":null}',
    b'{"error":{"message":5,"code":[]}}',
    b"[" * 100_000,
    b"\xff",
)


def error_of(protocol: str, status: int, body: bytes, **headers: str) -> UpstreamError:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return TABLE[protocol].adapter.decode_error(status, given, body)


@pytest.mark.parametrize("status", STATUSES, ids=lambda status: str(status.code))
@pytest.mark.parametrize("protocol", TABLE)
def test_a_status_says_whether_to_try_again(protocol: str, status: Status) -> None:
    words = status.recorded.get(protocol)
    body = PAGE if words is None else fixture(f"error_{status.code}.json", protocol)
    error = error_of(protocol, status.code, body)
    assert (error.kind, error.status, error.retryable) == (ErrorKind.UPSTREAM_STATUS, status.code, status.retryable)
    assert error.retry_after_s == TABLE[protocol].waits.get(status.code) and not error.other_key
    assert f"the provider answered {status.code}: " in error.message
    refused = "the gateway's key was refused" if status.code in (401, 403) else "no explanation"
    assert (words or refused) in error.message and "<html>" not in error.message
    assert error.logged == f"the provider answered {status.code}", "a log holds no provider's words"


@pytest.mark.parametrize("protocol", TABLE)
def test_odd_bodies_explain_nothing_and_break_nothing(protocol: str) -> None:
    for body in ODD:
        error = error_of(protocol, 500, body)
        assert (error.status, error.retryable, len(error.message) <= 500) == (500, True, True)
    long = b'{"error":{"message":"%s"}}' % (b"x" * 9000)
    assert "xxx" in (message := error_of(protocol, 400, long).message) and len(message) <= 500


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("protocol", TABLE)
def test_a_refused_key_is_never_quoted(protocol: str, status: int) -> None:
    body = b'{"type":"error","error":{"type":"x","status":"x","message":"bad key sk-123"},"message":"sk-123"}'
    assert "sk-123" not in error_of(protocol, status, body).message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": DATE}, 30.0),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-1"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "1e9"}, None),
    ],
)
@pytest.mark.parametrize("protocol", TABLE)
def test_when_to_come_back_is_read(protocol: str, headers: dict[str, str], seconds: float | None) -> None:
    assert error_of(protocol, 429, PAGE, **headers).retry_after_s == seconds


def test_the_field_at_fault_is_named_where_the_provider_names_it() -> None:
    for protocol in ("openai", "responses"):
        assert error_of(protocol, 400, fixture("error_400.json", protocol)).param == "temperature"
