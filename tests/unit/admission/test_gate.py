"""What a key may do is asked in order, before anything is taken; keys never share what is theirs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from model_gateway.admission.gate import Gate, give_back
from model_gateway.admission.keys import KeyRing
from model_gateway.config.schema import CallerKey, LimitsConfig
from model_gateway.domain.caller import ANONYMOUS, Limits, Scope
from model_gateway.domain.errors import PermissionDenied, RateLimited, Unauthenticated
from model_gateway.domain.record import Record
from model_gateway.domain.usage import Usage

EXPIRY = datetime(2026, 1, 31, tzinfo=UTC)


def key(name: str, secret: str = "", **options: Any) -> CallerKey:
    return CallerKey(name=name, key=SecretStr(secret or name), **options)


def gate(*keys: CallerKey, now: float = 0.0, **defaults: Any) -> Gate:
    return Gate(KeyRing(keys, LimitsConfig(**defaults)), lambda: 0.0, lambda: now)


def record(door: str = "http") -> Record:
    return Record("r", door, 0.0)


def test_a_key_without_restrictions_is_asked_nothing() -> None:
    caller = gate(key("a")).check("a", "")
    assert (caller.scope, caller.limits) == (None, None)
    held = record()
    assert gate().admit("", held) is ANONYMOUS and held.lease is None and gate().quota("") is None


def test_who_asked_is_noted_before_any_refusal() -> None:
    held = record("grpc")
    with pytest.raises(PermissionDenied, match="may not use the door `grpc`; it may use http, responses"):
        gate(key("a", tenant="t", doors=("responses", "http"))).admit("a", held)
    assert (held.tenant, held.key_name, held.lease) == ("t", "a", None)


def test_a_key_expires_at_its_moment() -> None:
    at = EXPIRY.timestamp()
    keys = key("a", expires_at=EXPIRY, requests_per_minute=1)
    gate(keys, now=at - 0.001).admit("a", record())
    with pytest.raises(Unauthenticated, match="expired at 2026-01-31T00:00:00Z"):
        gate(keys, now=at).admit("a", record())
    with pytest.raises(Unauthenticated, match="expired"):
        gate(keys, now=at).check("a", "")


def test_looking_around_takes_nothing_but_keeps_to_the_doors() -> None:
    guarded = gate(key("a", doors=("http",), requests_per_minute=1))
    for _ in range(3):
        assert guarded.check("a", "").key_name == guarded.check("a", "http").key_name == "a"
    with pytest.raises(PermissionDenied):
        guarded.check("a", "grpc")
    guarded.admit("a", record())


def test_limits_of_the_key_win_over_the_defaults_and_nought_lifts_them() -> None:
    ring = gate(key("a"), key("b", requests_per_minute=7), key("c", requests_per_minute=0), requests_per_minute=3)
    assert [ring.check(name, "").limits for name in "abc"] == [Limits(3), Limits(7), None]


def test_without_keys_the_defaults_hold_for_all_callers_together() -> None:
    ring = gate(requests_per_minute=2)
    ring.admit("", record())
    ring.admit("anything", record())
    with pytest.raises(RateLimited, match="all callers together may send 2 requests"):
        ring.admit("", record())


def test_keys_that_begin_alike_share_nothing() -> None:
    ring = gate(key("a", "sk-team-1", tenant="x"), key("b", "sk-team-12", tenant="y"), requests_per_minute=1)
    ring.admit("sk-team-1", record())
    with pytest.raises(RateLimited, match="the key `a`"):
        ring.admit("sk-team-1", record())
    assert ring.admit("sk-team-12", record()).tenant == "y"
    with pytest.raises(Unauthenticated):
        ring.admit("sk-team", record())


def test_a_lease_is_given_back_once_with_what_was_used() -> None:
    ring = gate(key("a", max_concurrent=1, tokens_per_minute=100, max_queue=4))
    held = record()
    ring.admit("a", held)
    assert held.max_queue == 4
    held.lease.reserve(60)
    held.usage = Usage(10, 20)
    give_back(held)
    give_back(held)
    assert held.lease is None
    quota = ring.quota("a")
    assert quota is not None and quota.tokens is not None and quota.tokens.remaining == 70
    ring.admit("a", record())
    with pytest.raises(RateLimited):
        ring.admit("a", record())


def test_a_scope_is_prepared_from_the_keys_options() -> None:
    caller = gate(key("a", models=("m*",), tiers=("local",), doors=("grpc",), expires_at=EXPIRY)).check("a", "")
    assert caller.scope == Scope(("m*",), frozenset({"local"}), frozenset({"grpc"}), EXPIRY.timestamp())  # pyright: ignore[reportArgumentType]
