"""Calls to named models through a running gateway, each within what may still be spent. Used by many threads.

The most that a call can cost is known before it is made: no token is shorter than a byte, and the answer's tokens are
limited. What it did cost is what the gateway says.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

from model_gateway.budget.pricing import most_nano
from model_gateway.cli.output import CommandFailed
from model_gateway.cli.spending import Spending
from model_gateway.cli.trust import Trust, remedy_for
from model_gateway.domain.route import Target
from model_gateway.domain.usage import NANO_PER_USD

_FRAMING_TOKENS: Final = 256
_SILENCE_S: Final = 600.0
_TRIES: Final = 5
_LONGEST_WAIT_S: Final = 30.0


class OutOfBudget(Exception):
    """The call was not made."""


class CallFailed(Exception):
    """This question has no answer now."""


@dataclass(frozen=True, slots=True)
class Place:
    """A running gateway."""

    url: str
    key: str
    trust: Trust


class PaidCalls:
    """`targets` by `provider/model`. `stop`: set, nothing more is asked."""

    def __init__(
        self, place: Place, targets: Mapping[str, Target], spending: Spending, max_tokens: int, stop: threading.Event
    ) -> None:
        self._place = place
        self._targets = targets
        self._spending = spending
        self._max_tokens = max_tokens
        self._stop = stop

    def ask(self, model: str, text: str, max_tokens: int | None = None) -> str:
        """The answer's text. Raises OutOfBudget, CallFailed, and CommandFailed where no call will succeed."""
        limit = max_tokens or self._max_tokens
        body = {"model": model, "max_tokens": limit, "messages": [{"role": "user", "content": text}]}
        most = most_nano(self._targets[model], len(text.encode()) + _FRAMING_TOKENS, limit, 1.0)
        for last in (*[False] * (_TRIES - 1), True):
            reserved = None if self._stop.is_set() else self._spending.reserve(most)
            if reserved is None:
                raise OutOfBudget
            cost: int | None = None
            try:
                status, headers, reply = self._post(json.dumps(body).encode())
                cost = _cost(headers) if status == 200 else 0 if status < 500 or status == 503 else None
            finally:
                self._spending.settle(reserved, cost)
            if status == 200:
                return _text(reply)
            why = f"{_message(reply)} (HTTP {status})"
            if status in (401, 402, 403, 404):
                raise CommandFailed(why, "pass your key with --key or in MODEL_GATEWAY_KEY" if status == 401 else "")
            if last or status not in (429, 502, 503, 504):
                raise CallFailed(why)
            self._stop.wait(_wait_s(headers))
        raise AssertionError("the last try ends it")

    def _post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        place = self._place
        parts = urlsplit(place.url)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=_SILENCE_S, context=place.trust.context())
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_SILENCE_S)
        headers = {"Content-Type": "application/json"}
        if place.key:
            headers["Authorization"] = f"Bearer {place.key}"
        path = parts.path.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        with closing(connection):
            try:
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
            except ConnectionRefusedError:
                raise CommandFailed(
                    f"no gateway listens at {place.url}", "start it with `make run` or `model-gateway serve`"
                ) from None
            except (OSError, http.client.HTTPException) as error:
                remedy = remedy_for(error, "")
                if remedy:
                    raise CommandFailed(f"{place.url}: {error}", remedy) from None
                raise CallFailed(f"the connection to the gateway broke: {error or type(error).__name__}") from None


def _cost(headers: Mapping[str, str]) -> int | None:
    try:
        return round(float(headers["x-gateway-cost-usd"]) * NANO_PER_USD)
    except (KeyError, ValueError):
        return None


def _wait_s(headers: Mapping[str, str]) -> float:
    try:
        return min(max(float(headers.get("retry-after", "1")), 0.05), _LONGEST_WAIT_S)
    except ValueError:
        return 1.0


def _text(reply: bytes) -> str:
    try:
        text: object = json.loads(reply)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise CallFailed("the reply is no chat completion") from None
    if not isinstance(text, str) or not text.strip():
        raise CallFailed("the model said nothing")
    return text


def _message(reply: bytes) -> str:
    try:
        told: object = json.loads(reply)
    except ValueError:
        return "not the gateway's reply"
    error = cast("dict[str, Any]", told).get("error") if isinstance(told, dict) else None
    return str(cast("dict[str, Any]", error).get("message")) if isinstance(error, dict) else "no reason given"
