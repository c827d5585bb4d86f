"""Who may enter: decides which configured key a credential or a certificate is. Never keeps, logs or repeats a key.

Keys are expected as configuration resolved them (`env:` and `file:` read), either plain or as `sha256:HEX`.
"""

from __future__ import annotations

import contextlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from fnmatch import translate
from hashlib import blake2b, sha256
from time import time
from typing import Any

from pydantic import SecretStr, ValidationError

from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import CallerKey, GatewayConfig, LimitsConfig
from model_gateway.domain.caller import ANONYMOUS, Allowance, Caller, Certified, Credential, Limits, Scope
from model_gateway.domain.errors import Unauthenticated
from model_gateway.domain.route import Tier
from model_gateway.domain.usage import NANO_PER_USD
from model_gateway.storage.keys import Mark, StoredKey, digest_of, key_secret

_HASHED = "sha256:"
_UNLIMITED = LimitsConfig()

CERTIFICATE = "certificate:"
"""Begins the names of callers whose certificate no key names."""


class KeyRing:
    """The keys of one configuration, and those that commands have made. `defaults`: limits of keys that say nothing.

    Where there is none of either, and none is `demanded`, everyone is one caller: ANONYMOUS, but for the limits.
    """

    def __init__(
        self,
        keys: Sequence[CallerKey],
        defaults: LimitsConfig = _UNLIMITED,
        *,
        secret: bytes = b"",
        demanded: bool = False,
        unlisted: bool = False,
        wall_clock: Callable[[], float] = time,
    ) -> None:
        """`secret`: of the stored keys' HMACs. `unlisted`: certificates that no key names are let in too. Raises
        ConfigError for a name or a key given twice, an empty key and a malformed hash.
        """
        self._defaults = defaults
        self._stored_secret = secret
        self._wall_clock = wall_clock
        self._stored: dict[str, tuple[StoredKey, Caller]] = {}
        self.mark: Mark | None = None  # of the stored keys that were put in last
        self._secret = secrets.token_bytes(32)
        self._callers: dict[bytes, Caller] = {}
        self._seen: dict[bytes, tuple[StoredKey | None, Caller]] = {}  # under a seal of the key as it was sent
        self._unlisted = unlisted
        self._certified: list[tuple[re.Pattern[str], Caller]] = []
        names: dict[str, int] = {}
        owners: dict[bytes, int] = {}
        for index, entry in enumerate(keys):
            if entry.name in names:
                raise ConfigError(
                    f"keys[{index}].name: {entry.name!r} is already the name of keys[{names[entry.name]}]",
                    "give every key its own name",
                )
            caller = _caller_of(entry, defaults)
            if entry.certificate:
                self._certified.append((re.compile(translate(entry.certificate)), caller))
                if not entry.key.get_secret_value():
                    names[entry.name] = index
                    continue
            digest = self._seal(_hash_of(index, entry.key.get_secret_value()))
            if digest in owners:
                raise ConfigError(
                    f"keys[{index}].key: the same key as keys[{owners[digest]}]", "give every caller its own key"
                )
            names[entry.name] = owners[digest] = index
            self._callers[digest] = caller
        self._demanded = demanded or bool(self._callers or self._certified)
        self.required = self._demanded
        limits = _limits_of(None, defaults)
        self._anyone = ANONYMOUS if limits is None else Caller(limits=limits)

    def replace(self, stored: Sequence[StoredKey]) -> None:
        """The stored keys as they are now. What a key has used is known by its name: a rotated one goes on with it."""
        found: dict[str, tuple[StoredKey, Caller]] = {}
        for entry in stored:
            known = self._stored.get(entry.digest)
            same = known is not None and known[0].options == entry.options
            found[entry.digest] = entry, known[1] if known is not None and same else self._stored_caller(entry)
        self._stored = found
        self._seen.clear()
        self.required = self._demanded or bool(found)

    def budgets(self) -> dict[str, Allowance]:
        """The keys' own, by the keys' names."""
        certified = (caller for _, caller in self._certified)
        callers = [*self._callers.values(), *certified, *(caller for _, caller in self._stored.values())]
        return {caller.key_name: caller.budget for caller in callers if caller.budget is not None}

    def check(self, credential: Credential) -> Caller:
        """The caller whose key `credential` is; "" means none was given. Raises Unauthenticated.

        A certificate that a key names decides alone: clients that must send some key, such as the vendors' SDKs, may
        send any with it.
        """
        if not isinstance(credential, str):
            return self._check_certified(credential)
        if not self.required:
            return self._anyone
        if not credential:
            raise Unauthenticated("no API key given: send Authorization: Bearer <key>")
        sent = credential.encode(errors="surrogatepass")
        # One hash instead of three for a key that was found before. No more are kept than there are keys.
        seal = blake2b(sent, key=self._secret, digest_size=32).digest()
        found = self._seen.get(seal)
        if found is None:
            found = self._seen[seal] = self._find(credential, sent)
        stored, caller = found
        return caller if stored is None else self._checked(stored, caller)

    def _find(self, credential: str, sent: bytes) -> tuple[StoredKey | None, Caller]:
        """Those of the configuration first. Raises Unauthenticated."""
        if self._callers:
            caller = self._callers.get(self._seal(sha256(sent).digest()))
            if caller is not None:
                return None, caller
        if self._stored:
            stored = self._stored.get(digest_of(self._stored_secret, credential))
            if stored is not None:
                return stored
        raise Unauthenticated("the API key is not known here: check it, or ask the gateway's operator for one")

    def _check_certified(self, shown: Certified) -> Caller:
        for pattern, caller in self._certified:
            if any(pattern.match(identity) for identity in shown.identities):
                return caller
        if not self._unlisted:
            if shown.key or not self.required:
                return self.check(shown.key)
            raise Unauthenticated(
                f"no key names this client certificate's {shown.identities[0]!r}, and no API key was given: "
                "ask the gateway's operator to enter it"
            )
        if shown.key and self.required:
            with contextlib.suppress(Unauthenticated):
                return self.check(shown.key)
        # The prefix keeps whoever can have certificates made from taking another key's name, limits and budget.
        return Caller(key_name=f"{CERTIFICATE}{shown.identities[0]}", limits=self._anyone.limits)

    def _checked(self, entry: StoredKey, caller: Caller) -> Caller:
        state = entry.state(self._wall_clock())
        if state == "active":
            return caller
        raise Unauthenticated(f"the API key {entry.shown} is {state}: ask the gateway's operator for a new one")

    def _stored_caller(self, entry: StoredKey) -> Caller:
        """Options that this version does not know, or that are wrong, must not open more than was meant."""
        given: dict[str, Any] = {**entry.options, "name": entry.name, "tenant": entry.tenant}
        try:
            return _caller_of(CallerKey(key=SecretStr("stored"), **given), self._defaults)
        except ValidationError as error:
            raise ConfigError(
                f"the stored key {entry.name} ({entry.shown}) has {error.error_count()} options that cannot be read",
                "revoke it and create it anew",
            ) from None

    def _seal(self, key_hash: bytes) -> bytes:
        # A dictionary lookup compares with early exit. That tells nothing here: what is compared is an HMAC under a
        # secret that no caller knows and that dies with the process, so a guess cannot be steered towards a match.
        return hmac.digest(self._secret, key_hash, "sha256")


def ring_of(config: GatewayConfig, stored: Sequence[StoredKey] | None) -> KeyRing:
    """The keys of the configuration and, where there is a ledger, those that commands have made: `stored`."""
    tls = config.server.tls
    ring = KeyRing(
        config.keys,
        config.limits,
        secret=b"" if stored is None else key_secret(config),
        demanded=config.server.require_keys,
        unlisted=tls.client_identity != "none" and tls.unlisted_identity == "admit",
    )
    if stored is not None:
        ring.replace(stored)
    return ring


def _caller_of(entry: CallerKey, defaults: LimitsConfig) -> Caller:
    """Prepared once: a key that is not restricted costs its requests nothing."""
    budget = None if entry.budget is None else Allowance(int(entry.budget * NANO_PER_USD), entry.budget_per)
    return Caller(entry.tenant, entry.name, _scope_of(entry), _limits_of(entry, defaults), budget)


def _scope_of(entry: CallerKey) -> Scope | None:
    expires_at = None if entry.expires_at is None else entry.expires_at.timestamp()
    tiers = frozenset(Tier(name) for name in entry.tiers)
    scope = Scope(models=entry.models, tiers=tiers, doors=frozenset(entry.doors), expires_at=expires_at)
    return None if scope == Scope() else scope


def _limits_of(entry: CallerKey | None, defaults: LimitsConfig) -> Limits | None:
    """What the key says, else the default; None where nothing is limited."""
    found: dict[str, int] = {}
    for name in Limits.__struct_fields__:
        said: int | None = getattr(entry, name, None)
        found[name] = getattr(defaults, name) if said is None else said
    limits = Limits(**found)
    return None if limits == Limits() else limits


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
