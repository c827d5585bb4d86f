"""Who is asking, what it may use and how much. Prepared once per configuration; decides nothing."""

from __future__ import annotations

import msgspec

from model_gateway.domain.route import Tier


class Scope(msgspec.Struct, frozen=True):
    """What a key may use; an empty set means everything of its kind.

    `models`: glob patterns of model, provider/model or alias. `expires_at`: epoch seconds, None: never.
    """

    models: tuple[str, ...] = ()
    tiers: frozenset[Tier] = frozenset()
    doors: frozenset[str] = frozenset()
    expires_at: float | None = None


class Limits(msgspec.Struct, frozen=True):
    """How much a key may use; 0 means no limit.

    Requests and tokens (input and output) in any 60 seconds, requests at once, and requests of its tenant that may wait
    for room at one provider.
    """

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    max_concurrent: int = 0
    max_queue: int = 0


class Allowance(msgspec.Struct, frozen=True):
    """A key's own budget: nano-USD in each `per`, which is day, month or total."""

    limit_nano: int
    per: str


class Caller(msgspec.Struct, frozen=True):
    """`tenant` separates caches, limits and bills; `key_name` is the key's name, never the key.

    `scope`, `limits` and `budget` are None where nothing restricts the key: nothing is asked then.
    """

    tenant: str = "default"
    key_name: str = ""
    scope: Scope | None = None
    limits: Limits | None = None
    budget: Allowance | None = None


class Certified(msgspec.Struct, frozen=True):
    """What a caller with a client certificate shows: its names in there, and the key it sent, "" for none."""

    identities: tuple[str, ...]
    key: str = ""


Credential = str | Certified
"""A key, "" for none; or a certificate as well."""

ANONYMOUS = Caller()
