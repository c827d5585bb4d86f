"""Options about callers: their keys, what a key may do, and how much. Part of schema.py, whose rules hold here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, SecretStr

from model_gateway.config.section import Period, Section, TierName

DoorName = Literal["http", "responses", "anthropic", "gemini", "embeddings", "grpc"]


def _no_number(value: object) -> object:
    """A bare number would be read as seconds since 1970, which nobody means."""
    if isinstance(value, int | float) or (isinstance(value, str) and value.replace(".", "").isdigit()):
        raise ValueError("must be a date and time with a zone, such as 2027-01-31T00:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_no_number)]


class LimitsConfig(Section):
    """What a key may do that says nothing itself; where there are no keys, what all callers together may do."""

    requests_per_minute: int = Field(
        default=0, ge=0, description="Requests of one key in any 60 seconds; more get 429. 0: no limit."
    )
    tokens_per_minute: int = Field(
        default=0,
        ge=0,
        description="Tokens, input and output, of one key in any 60 seconds: estimated before, then as counted. "
        "0: no limit.",
    )
    max_concurrent: int = Field(default=0, ge=0, description="Requests of one key at once; more get 429. 0: no limit.")
    max_queue: int = Field(
        default=0,
        ge=0,
        description="Requests of one tenant that may wait for room at one provider. 0: as many as its queueSize.",
    )

    store: Literal["auto", "memory", "redis"] = Field(
        default="auto",
        description="Where the use of these limits is counted: in this machine's memory, or in cache.redis for several "
        "machines. auto: in Redis where cache.redis.url (REDIS_URL) is set.",
    )
    when_unavailable: Literal["fail_open", "fail_closed", "local_share"] = Field(
        default="local_share",
        description="While that Redis does not answer: each machine lets in as many as one alone might (fail_open), "
        "none (fail_closed), or its share of 1/instances.",
    )
    instances: int = Field(default=1, ge=1, le=10_000, description="Machines that share the limits, for local_share.")


class CallerKey(Section):
    name: str = Field(min_length=1, description="Shown in logs and ledger instead of the key.")
    key: SecretStr = Field(
        default=SecretStr(""), description="The key itself, `env:NAME`, `file:PATH`, or `sha256:HEX` of it."
    )
    certificate: str = Field(
        default="",
        description="Client certificates that need no key: their identity (server.tls.client_identity says which), "
        "with * and ? for any letters.",
    )
    tenant: str = Field(
        default="default", description="The team: separates caches, turns in queues and bills; budgets know it."
    )
    models: tuple[str, ...] = Field(
        default=(),
        description="Models it may use, as model, provider/model or alias; * and ? stand for any letters. Empty: all.",
    )
    tiers: tuple[TierName, ...] = Field(
        default=(),
        description="Tiers whose models it may use; a model that is reached by name only is in those of its provider.",
    )
    doors: tuple[DoorName, ...] = Field(
        default=(), description="Doors it may come by (http is chat completions). Empty: all."
    )
    expires_at: Moment | None = Field(
        default=None, description="Date and time with a zone from which on it is refused."
    )
    requests_per_minute: int | None = Field(
        default=None, ge=0, description="As in `limits`, whose value counts where nothing is said; 0: no limit."
    )
    tokens_per_minute: int | None = Field(default=None, ge=0, description="As in `limits`.")
    max_concurrent: int | None = Field(default=None, ge=0, description="As in `limits`.")
    max_queue: int | None = Field(default=None, ge=0, description="As in `limits`.")
    budget: float | None = Field(
        default=None, gt=0, le=1e9, description="USD of its own per period; `budgets` hold for it as well."
    )
    budget_per: Period = Field(default="month", description="Periods begin at midnight of `budgets.timezone`.")
