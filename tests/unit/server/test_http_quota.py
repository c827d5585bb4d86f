"""What is left, as the vendors write it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from model_gateway.admission.limits import Quota
from model_gateway.admission.window import Level
from model_gateway.server.http.quota import anthropics, openais


def headers(lines: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines.decode().split("\r\n") if line)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0, "0ms"), (0.0004, "1ms"), (0.999, "999ms"), (1.0, "1s"), (8.64, "8.64s"), (60.0, "1m0s"), (59.9999, "1m0s")],
)
def test_openais_durations(seconds: float, written: str) -> None:
    found = headers(openais(Quota(Level(60, 3, seconds), None)))
    assert found == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": written,
    }


def test_anthropics_moments() -> None:
    found = headers(anthropics(Quota(None, Level(1000, 10, 30.2))))
    assert found["anthropic-ratelimit-tokens-limit"] == "1000"
    assert found["anthropic-ratelimit-tokens-remaining"] == "10"
    reset = datetime.fromisoformat(found["anthropic-ratelimit-tokens-reset"])
    assert timedelta(seconds=29) <= reset - datetime.now(UTC) <= timedelta(seconds=31)
    assert len(found) == 3


def test_nothing_is_said_of_a_key_that_only_has_places() -> None:
    assert openais(Quota(None, None)) == anthropics(Quota(None, None)) == b""
