"""The gateway's own request headers, which every HTTP door understands: so any vendor's client works unchanged.

`x-gateway-provider` (preferred), `x-gateway-budget-usd`, `x-gateway-timeout-ms`, `x-gateway-details: 1` (adds a
`gateway` object to the reply), `x-gateway-session` (names the conversation), `Cache-Control: no-cache | no-store`,
`Idempotency-Key`. Reads headers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import msgspec

from model_gateway.budget.once import checked_key
from model_gateway.domain.caller import Certified, Credential
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.usage import NANO_PER_USD
from model_gateway.server.http.request import Request

DETAILS = "x-gateway-details"
SESSION = "x-gateway-session"
_MAX_ID_CHARACTERS = 128
_HEADERS = frozenset(
    ("x-gateway-budget-usd", "x-gateway-timeout-ms", "x-gateway-provider", "cache-control", "idempotency-key")
) | {DETAILS, SESSION}


def with_options(request: ChatRequest, http: Request) -> ChatRequest:
    """`request` with what its headers say beside its body. Raises InvalidRequest that names the header."""
    headers = http.headers
    if _HEADERS.isdisjoint(headers):
        return request
    caching = headers.get("cache-control", "")
    budget, timeout = headers.get("x-gateway-budget-usd"), headers.get("x-gateway-timeout-ms")
    return msgspec.structs.replace(
        request,
        budget_nano=None if budget is None else _usd(budget),
        timeout_s=None if timeout is None else _seconds(timeout),
        preferred_provider=headers.get("x-gateway-provider", ""),
        cache_read="no-cache" not in caching and "no-store" not in caching,
        cache_write="no-store" not in caching,
        explain=DETAILS in headers,
        idempotency_key=checked_key(headers["idempotency-key"]) if "idempotency-key" in headers else "",
        session=_session(headers[SESSION]) if SESSION in headers else "",
    )


def credential_of(http: Request) -> Credential:
    """The caller's key, and what its certificate says where it has one."""
    key = _key_of(http.headers)
    return Certified(http.identities, key) if http.identities else key


def _key_of(headers: Mapping[str, str]) -> str:
    """`Authorization: Bearer …`, `x-api-key` or `x-goog-api-key`."""
    sent = headers.get("authorization", "")
    if sent.startswith("Bearer "):
        return sent[7:].strip()
    scheme, _, value = sent.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    return headers.get("x-api-key") or headers.get("x-goog-api-key", "")


def request_id_of(http: Request) -> str:
    """The caller's id is echoed where it is harmless in headers and logs; otherwise a new one is made."""
    given = http.headers.get("x-request-id", "")
    if given and len(given) <= _MAX_ID_CHARACTERS and given.isascii() and given.isprintable():
        return given
    return ""


def _session(name: str) -> str:
    if not 0 < len(name) <= _MAX_ID_CHARACTERS or not name.isprintable():
        raise InvalidRequest(
            f"header {SESSION} must be 1 to {_MAX_ID_CHARACTERS} printable characters: a name for the conversation",
            param=SESSION,
        )
    return name


def _usd(text: str) -> int:
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal("NaN")
    if not usd.is_finite() or not 0 <= usd <= 1_000_000:
        raise InvalidRequest(
            "header x-gateway-budget-usd must be an amount in USD, such as 0.05", param="x-gateway-budget-usd"
        )
    return int(usd * NANO_PER_USD)


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and len(text) <= 8) or not 0 < int(text) <= 86_400_000:
        raise InvalidRequest(
            "header x-gateway-timeout-ms must be whole milliseconds, such as 30000", param="x-gateway-timeout-ms"
        )
    return int(text) / 1000
