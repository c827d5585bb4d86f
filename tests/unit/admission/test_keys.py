"""Keys let the right caller in, nobody else, and a stored hash is worth nothing to a thief."""

from __future__ import annotations

from hashlib import sha256

import pytest
from pydantic import SecretStr

from model_gateway.admission.keys import KeyRing
from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import CallerKey
from model_gateway.domain.caller import ANONYMOUS, Caller
from model_gateway.domain.errors import Unauthenticated


def key(name: str, value: str, tenant: str = "default") -> CallerKey:
    return CallerKey(name=name, key=SecretStr(value), tenant=tenant)


HASH = sha256(b"hashed-key").hexdigest()
RING = KeyRing([key("plain", "plain-key", "acme"), key("hashed", f"sha256:{HASH}", "globex"), key("ü", "schlüssel")])


def test_without_keys_everyone_is_anonymous() -> None:
    ring = KeyRing([])
    assert not ring.required
    assert ring.check("") is ring.check("anything") is ANONYMOUS


@pytest.mark.parametrize(
    ("credential", "caller"),
    [
        ("plain-key", Caller("acme", "plain")),
        ("hashed-key", Caller("globex", "hashed")),
        ("schlüssel", Caller("default", "ü")),
    ],
)
def test_a_known_key_names_its_caller(credential: str, caller: Caller) -> None:
    assert RING.required
    assert RING.check(credential) == caller


@pytest.mark.parametrize(
    "credential", ["plain-ke", "plain-key ", "PLAIN-KEY", f"sha256:{HASH}", HASH, "\ud800", "x" * 100_000]
)
def test_anything_else_is_refused_without_echo(credential: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        RING.check(credential)
    assert credential not in refused.value.message


def test_no_credential_says_how_to_send_one() -> None:
    with pytest.raises(Unauthenticated, match="Authorization: Bearer"):
        RING.check("")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ([key("a", "1"), key("a", "2")], r"keys\[1\].name.*keys\[0\]"),
        ([key("a", "same"), key("b", "other"), key("c", "same")], r"keys\[2\].key.*keys\[0\]"),
        ([key("a", "hashed-key"), key("b", f"sha256:{HASH}")], r"keys\[1\].key"),
        ([key("a", " ")], r"keys\[0\].key is empty"),
        ([key("a", "sha256:abc")], "64 hexadecimal"),
        ([key("a", "sha256:" + "zz" * 32)], "64 hexadecimal"),
    ],
)
def test_mistakes_in_the_configuration_are_named(keys: list[CallerKey], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as mistake:
        KeyRing(keys)
    assert mistake.value.remedy
