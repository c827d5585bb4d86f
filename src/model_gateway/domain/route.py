"""How hard a query is, what could answer it, and what was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from model_gateway.domain.usage import Price


class Tier(StrEnum):
    """Strength and price class of a target. Order: local < hybrid < remote."""

    LOCAL = "local"
    HYBRID = "hybrid"
    REMOTE = "remote"

    # Enum's own hash is a Python function; tiers are looked up several times a request.
    __hash__ = str.__hash__


TIERS: tuple[Tier, ...] = (Tier.LOCAL, Tier.HYBRID, Tier.REMOTE)


class Factor(msgspec.Struct, frozen=True):
    """One reason for a score. `value` in 0–1; `contribution` is its share of the score: they add up to it."""

    name: str
    value: float
    contribution: float
    detail: str = ""


class Assessment(msgspec.Struct, frozen=True):
    """`score` in 0–1: the probability that the weak tier fails. `tier` follows from it, or from `gain`.

    `gain`: how much more often, −1 to 1, the strong tier is expected to be right; 0 where neither
    an explanation nor a target asks for it. `abstained`: why nothing is known of
    such a query; then the tier is the configured safe one. `parts`: what the score is made of: numbers, of which
    its assessor can make the factors later, and no word of the query.
    """

    score: float
    tier: Tier
    factors: tuple[Factor, ...] = ()
    gain: float = 0.0
    abstained: str = ""
    parts: tuple[Any, ...] = ()


class Target(msgspec.Struct, frozen=True):
    """One model at one provider: all that routing needs, computed once per configuration.

    `tiers` are those whose default this model is; a target without tiers is reached only by its model's name. `drains`:
    a call whose caller has gone is read to its end. `embeds`: it answers with vectors, and with nothing else.
    """

    provider: str
    model: str
    tiers: frozenset[Tier]
    capabilities: frozenset[str]
    price: Price
    cost_efficiency: float
    base_cost_nano: int
    max_cost_nano: int | None
    max_concurrent: int
    drains: bool = False
    embeds: bool = False


def served_tier(target: Target, asked: Tier) -> Tier:
    """The tier in which `target` answers: the asked one if it serves that, else the cheapest it serves.

    A target without tiers is reached by its model's name only and answers in whatever tier was asked for.
    """
    return asked if asked in target.tiers or not target.tiers else min(target.tiers, key=TIERS.index)


class News:
    """What has changed of many targets' states, so that nobody has to look at all of them to find it.

    `changed`: loads and states, in order. When there are too many it begins anew, with another `turn`: then all may
    have changed.
    """

    __slots__ = ("_limit", "changed", "turn")

    LIMIT = 4_096

    def __init__(self, targets: int = 0) -> None:
        """Of so many: that all are looked at anew must be rare beside what is told of them."""
        self.changed: list[object] = []
        self.turn = 1
        self._limit = max(self.LIMIT, 16 * targets)

    def tell(self, what: object) -> None:
        if len(self.changed) >= self._limit:
            self.changed = []
            self.turn += 1
        self.changed.append(what)


class Load(msgspec.Struct):
    """How busy a provider is, kept by the dispatcher: calls in flight, callers that wait, and `room` for more of them.

    `full`: a new call would have to wait. `tenants`: how many callers of each wait. `news` are told when
    `in_flight` or `full` changes; None: nobody asks.
    """

    in_flight: int = 0
    waiting: int = 0
    room: int = 0
    full: bool = False
    tenants: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    news: News | None = None

    def has_room_for(self, tenant: str) -> bool:
        """A full queue still has room for a tenant that would have fewer waiting there than another has."""
        return self.room > 0 or max(self.tenants.values(), default=0) > self.tenants.get(tenant, 0) + 1


class TargetState(msgspec.Struct):
    """The live side of a target, kept by the dispatcher: what routing weighs.

    `latency_s` is an exponential mean; what nobody notices counts as the least that somebody does. `open_until`: when
    its breaker lets calls through again, 0: it does. `load` is shared by the targets of one provider. `news` are told
    of what changes here, None: nobody asks.
    """

    load: Load = msgspec.field(default_factory=Load)
    success_rate: float = 1.0
    latency_s: float = 0.0
    open_until: float = 0.0
    news: News | None = None


class Route(msgspec.Struct, frozen=True):
    """Targets in the order to try. `asked_tier` is what the score asked for, `served_tier` whom it went to.

    `first`: of a cascade, those that are asked and paid before, and what that will cost; `targets` then follow where
    their answer fails, and are empty where nothing may. `estimate_nano` is all of it. Often all but the first are
    only looked for when somebody wants to know them; then `dear` holds targets of every price that one of them may
    have, two of each, since two may be asked at once.
    """

    targets: Sequence[Target]
    asked_tier: Tier
    served_tier: Tier
    reason: str = ""
    estimate_nano: int = 0
    first: Sequence[Target] = ()
    first_estimate_nano: int = 0
    dear: Sequence[Target] = ()
