"""Who may enter: decides which configured key a credential is. Never keeps, logs or repeats a key.

Keys are expected as configuration resolved them (`env:` and `file:` read), either plain or as `sha256:HEX`.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Sequence
from hashlib import sha256
from time import time
from typing import Any

import msgspec
from pydantic import SecretStr, ValidationError

from model_gateway.admission.limits import Meter
from model_gateway.admission.scopes import Scope
from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import CallerKey
from model_gateway.domain.caller import ANONYMOUS, Caller
from model_gateway.domain.errors import Unauthenticated
from model_gateway.storage.keys import StoredKey, digest_of

_HASHED = "sha256:"


class KeyRing:
    """The keys of one configuration, and those that commands have made.

    Where there is none of either, and none is `demanded`, everyone is ANONYMOUS.
    """

    def __init__(
        self,
        keys: Sequence[CallerKey],
        *,
        secret: bytes = b"",
        demanded: bool = False,
        wall_clock: Callable[[], float] = time,
    ) -> None:
        """`secret`: of the stored keys' HMACs. Raises ConfigError for a name or a key given twice, an empty key and a
        malformed hash.
        """
        self._stored_secret = secret
        self._wall_clock = wall_clock
        self._stored: dict[str, tuple[StoredKey, Caller]] = {}
        self._demanded = demanded
        self._secret = secrets.token_bytes(32)
        self._callers: dict[bytes, Caller] = {}
        names: dict[str, int] = {}
        owners: dict[bytes, int] = {}
        for index, entry in enumerate(keys):
            if entry.name in names:
                raise ConfigError(
                    f"keys[{index}].name: {entry.name!r} is already the name of keys[{names[entry.name]}]",
                    "give every key its own name",
                )
            digest = self._seal(_hash_of(index, entry.key.get_secret_value()))
            if digest in owners:
                raise ConfigError(
                    f"keys[{index}].key: the same key as keys[{owners[digest]}]", "give every caller its own key"
                )
            names[entry.name] = owners[digest] = index
            self._callers[digest] = _caller_of(entry)
        self.required = demanded or bool(self._callers)

    def replace(self, stored: Sequence[StoredKey]) -> None:
        """The stored keys as they are now. One that has not changed keeps its caller, and with it what it has used."""
        found: dict[str, tuple[StoredKey, Caller]] = {}
        meters = {entry.name: caller for entry, caller in self._stored.values()}
        for entry in stored:
            known = self._stored.get(entry.digest)
            if known is not None and known[0].options == entry.options:
                found[entry.digest] = entry, known[1]
                continue
            caller = _stored_caller(entry)
            twin = meters.setdefault(entry.name, caller)
            if twin.meter is not None and caller.meter is not None:
                # A rotated key goes on where the old one was: two keys of one name have one limit.
                caller = msgspec.structs.replace(caller, meter=twin.meter)
            found[entry.digest] = entry, caller
        self._stored = found
        self.required = self._demanded or bool(self._callers) or bool(found)

    def check(self, credential: str) -> Caller:
        """The caller whose key `credential` is; "" means none was given. Raises Unauthenticated."""
        if not self.required:
            return ANONYMOUS
        if not credential:
            raise Unauthenticated("no API key given: send Authorization: Bearer <key>")
        caller = self._callers.get(self._seal(sha256(credential.encode(errors="surrogatepass")).digest()))
        if caller is not None:
            return caller
        if self._stored:
            found = self._stored.get(digest_of(self._stored_secret, credential))
            if found is not None:
                return self._checked(*found)
        raise Unauthenticated("the API key is not known here: check it, or ask the gateway's operator for one")

    def _checked(self, entry: StoredKey, caller: Caller) -> Caller:
        state = entry.state(self._wall_clock())
        if state == "active":
            return caller
        raise Unauthenticated(f"the API key {entry.shown} is {state}: ask the gateway's operator for a new one")

    def _seal(self, key_hash: bytes) -> bytes:
        # A dictionary lookup compares with early exit. That tells nothing here: what is compared is an HMAC under a
        # secret that no caller knows and that dies with the process, so a guess cannot be steered towards a match.
        return hmac.digest(self._secret, key_hash, "sha256")


def _stored_caller(entry: StoredKey) -> Caller:
    """Options that this version does not know, or that are wrong, must not open more than was meant."""
    given: dict[str, Any] = {**entry.options, "name": entry.name, "tenant": entry.tenant, "key": SecretStr("stored")}
    try:
        return _caller_of(CallerKey(**given))
    except ValidationError as error:
        raise ConfigError(
            f"the stored key {entry.name} ({entry.shown}) has {error.error_count()} options that cannot be read",
            "revoke it and create it anew",
        ) from None


def _caller_of(entry: CallerKey) -> Caller:
    """Prepared once: a key that is not limited costs its requests nothing."""
    limited = entry.requests_per_minute or entry.tokens_per_minute or entry.max_concurrent
    scope = Scope(entry)
    scoped = entry.doors or entry.expires_at is not None or scope.restricts_models
    return Caller(
        tenant=entry.tenant,
        key_name=entry.name,
        meter=Meter(entry) if limited else None,
        scope=scope if scoped else None,
        restricted=scope.restricts_models,
    )


def _hash_of(index: int, key: str) -> bytes:
    """SHA-256 of the key. A `sha256:HEX` entry holds it; sent as a credential, it is hashed again and fits nothing."""
    if not key.startswith(_HASHED):
        if not key or key.isspace():
            raise ConfigError(f"keys[{index}].key is empty", "set the key, or the variable or file that it refers to")
        return sha256(key.encode()).digest()
    text = key[len(_HASHED) :]
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != sha256().digest_size or len(text) != 2 * len(digest):
        raise ConfigError(
            f"keys[{index}].key: sha256: must be followed by 64 hexadecimal digits",
            "compute them with: printf %s KEY | sha256sum",
        )
    return digest
