"""The facts of one request, written by the pipeline's steps and read once, at the end, by telemetry and the ledger."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import msgspec

from model_gateway.domain.route import Factor
from model_gateway.domain.usage import Usage

SHADOW_DOOR = "shadow"  # the `door` of a mirrored request, which no caller waits for


class Attempt(msgspec.Struct):
    """One try at one target. `outcome` is `ok`, an ErrorKind, or `cancelled` while it has no end; times in seconds."""

    provider: str
    model: str
    outcome: str = "cancelled"
    duration_s: float = 0.0
    cost_nano: int = 0
    usage: Usage | None = None


class Cascaded(msgspec.Struct):
    """What a cascade came to. `outcome`: `kept`, `escalated` or `skipped`; `reason` in one word.

    `failed`: what the check found wrong where that is not the reason: the answer was given all the same. `logprob`: the
    mean of the first answer's tokens, None where it is not known. `barred`: why nothing may follow the first answer.
    """

    name: str
    outcome: str = ""
    reason: str = ""
    failed: str = ""
    logprob: float | None = None
    barred: str = ""

    def told(self) -> str:
        """As callers and logs see it, such as `escalated; reason=logprob`."""
        failed = f"; failed={self.failed}" if self.failed else ""
        return f"{self.outcome}; reason={self.reason}{failed}"


class Record(msgspec.Struct):
    """Plain data. `status` is `ok`, `cancelled` or an ErrorKind. Never holds a key or a prompt.

    `uid`: ours, and unlike `request_id` never given twice. `hold_nano`: what was reserved for it. `lease`: what it has
    of its key's limits, until it closes. `max_queue`: how many of its tenant's may wait for room at one provider, 0: no
    limit. `journaled`: where the ledger has noted it already. `pending`: its caller has gone, but its call is still
    being read; it is closed when that has ended. `price_assumed`: nobody told what its model costs. `ticket`: for the
    repetitions of a request with an idempotency key. `cascade`: None where there was none. `baseline_nano`:
    what the strongest model would have cost; `uncached_nano`: what a hit in the cache would have.
    `conversation`: a number that its requests share, 0 where nothing is remembered; `session`: what it has changed.
    Units: `started_at` epoch seconds, durations seconds, costs nano-USD.
    """

    request_id: str
    door: str
    started_at: float
    tenant: str = ""
    key_name: str = ""
    asked_model: str = ""
    stream: bool = False
    status: str = "ok"
    error: str = ""
    provider: str = ""
    model: str = ""
    score: float = -1.0
    factors: tuple[Factor, ...] = ()
    asked_tier: str = ""
    tier: str = ""
    route_reason: str = ""
    cache: str = ""
    attempts: list[Attempt] = []  # msgspec gives each its own; a factory such as list[Attempt] takes 1 µs
    usage: Usage | None = None
    cost_nano: int = 0
    estimate_nano: int = 0
    first_token_s: float = 0.0
    duration_s: float = 0.0
    labels: dict[str, str] = {}
    pending: bool = False
    price_assumed: bool = False
    ticket: Any = None
    uid: str = msgspec.field(default_factory=lambda: uuid4().hex)
    hold_nano: int = 0
    baseline_nano: int = 0
    uncached_nano: int = 0
    lease: Any = None
    max_queue: int = 0
    conversation: int = 0
    session: str = ""
    journaled: tuple[Any, ...] = ()
    cascade: Cascaded | None = None


def used_tokens(record: Record) -> int:
    """Read and written by every call that is paid: an answer that a cascade did not give counts too."""
    usage = record.usage
    if len(record.attempts) > 1 and record.cascade is not None:
        return sum([a.usage.input_tokens + a.usage.output_tokens for a in record.attempts if a.usage is not None])
    return usage.input_tokens + usage.output_tokens if usage is not None else 0
