"""What a key may be routed to: the catalog as routing looks it up, whole or narrowed to a scope. Pure.

Prepared once per configuration and scope: no pattern is compared for each request. Never looks at live state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from hashlib import blake2b
from itertools import chain
from typing import TypeAlias

import msgspec

from model_gateway.domain.caller import Scope
from model_gateway.domain.route import TIERS, Target, Tier
from model_gateway.routing.names import AUTOS, Alias


class Candidate(msgspec.Struct, frozen=True):
    """A target, its place in `states`, its place by name, which breaks ties, and its mark (affinity.py)."""

    index: int
    order: int
    target: Target
    mark: int = 0


Alike: TypeAlias = Sequence[Sequence[Candidate]]


class View:
    """`statuses`: provider → online, offline or draining. `fingerprint` tells views apart; b"" is the whole catalog.

    `cascades`: by name, the places where it asks, in order.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        statuses: Mapping[str, str],
        aliases: Mapping[str, str | Mapping[str, float]],
        tiers: frozenset[Tier] = frozenset(TIERS),
        fingerprint: bytes = b"",
        cascades: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.candidates = tuple(candidates)
        self.online = tuple(c for c in candidates if statuses.get(c.target.provider) == "online")
        self.providers = frozenset(c.target.provider for c in candidates)
        self.by_tier = {
            tier: tuple(c for c in self.online if tier in tiers and tier in c.target.tiers) for tier in TIERS
        }
        self.plans = {
            asked: tuple((TIERS.index(tier), tier, self.by_tier[tier]) for tier in _order(asked)) for asked in TIERS
        }
        self.alike = {tier: alike(candidates) for tier, candidates in self.by_tier.items()}
        # What may follow where a tier has served: no dearer tier's.
        self.dear = {
            tier: _of_each_price(c.target for below in TIERS[: place + 1] for c in self.by_tier[below])
            for place, tier in enumerate(TIERS)
        }
        self.by_model: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            self.by_model.setdefault(candidate.target.model, []).append(candidate)
        for candidate in candidates:
            # Even where another provider's model has a name with a slash: this is the very model.
            self.by_model[_full_name(candidate)] = [candidate]
        self.aliases = {name: Alias(written) for name, written in aliases.items()}
        self.cascades: Mapping[str, Sequence[str]] = {} if cascades is None else cascades

    @property
    def names(self) -> tuple[str, ...]:
        """What `model` may be besides the models themselves."""
        return (*AUTOS, *self.aliases, *(name for name in self.cascades if name not in AUTOS))

    def knows(self, model: str) -> bool:
        return model in self.by_model or model in self.aliases or model in AUTOS or model in self.cascades

    def at(self, place: str) -> Sequence[Candidate]:
        """Of one place of a cascade: a tier, or a model."""
        if place in TIERS:
            return [candidate for candidate in self.candidates if place in candidate.target.tiers]
        return self.by_model.get(place, ())

    def narrowed(
        self, scope: Scope, statuses: Mapping[str, str], aliases: Mapping[str, str | Mapping[str, float]]
    ) -> View:
        """What `scope` leaves of this, the whole. `aliases` as written; one that is allowed allows what it leads to.

        An alias stays with those of its models that are allowed, and goes where none is; so does a cascade.
        """
        if not scope.models and not scope.tiers:
            return self
        patterns = scope.models or ("*",)
        led_to = {
            candidate.index
            for name, alias in self.aliases.items()
            if _matches(patterns, name)
            for model in alias.models
            for candidate in self.by_model.get(model, ())
        } | {
            candidate.index
            for name, places in self.cascades.items()
            if name not in AUTOS and _matches(patterns, name)
            for place in places
            for candidate in self.at(place)
        }
        tiers = scope.tiers or frozenset(TIERS)
        allowed = [
            c
            for c in self.candidates
            if (_matches(patterns, c.target.model, _full_name(c)) or c.index in led_to)
            and (not scope.tiers or tiers & self._tiers_of(c.target))
        ]
        left = View(allowed, statuses, {})
        kept: dict[str, str | Mapping[str, float]] = {}
        for name, written in aliases.items():
            shares = {written: 1.0} if isinstance(written, str) else written
            models = {model: share for model, share in shares.items() if left.knows(model)}
            if models:
                kept[name] = models
        said = [*sorted(_full_name(c) for c in allowed), *sorted(tiers)]
        fingerprint = blake2b(msgspec.json.encode(said), digest_size=8).digest()
        cascades = {name: places for name, places in self.cascades.items() if any(map(left.at, places))}
        return View(allowed, statuses, kept, tiers, fingerprint, cascades)

    def _tiers_of(self, target: Target) -> frozenset[Tier]:
        """A model that is reached by its name only is in the tiers of its provider."""
        own = [c.target.tiers for c in self.candidates if c.target.provider == target.provider]
        return target.tiers or frozenset[Tier]().union(*own)


def alike(candidates: Iterable[Candidate]) -> Alike:
    """What a request costs, and whether one can serve it, is the same for all of a group: they differ by state only."""
    groups: dict[object, list[Candidate]] = {}
    for candidate in candidates:
        t = candidate.target
        same = (t.price, t.base_cost_nano, t.max_cost_nano, t.cost_efficiency, t.capabilities, t.embeds)
        groups.setdefault(same, []).append(candidate)
    return tuple(map(tuple, groups.values()))


def _of_each_price(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Two of each, of one that only one has that one."""
    found: dict[object, list[Target]] = {}
    for target in dict.fromkeys(targets):
        alike = found.setdefault((target.price, target.base_cost_nano), [])
        if len(alike) < 2:
            alike.append(target)
    return tuple(chain.from_iterable(found.values()))


def _matches(patterns: Sequence[str], *names: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _full_name(candidate: Candidate) -> str:
    return f"{candidate.target.provider}/{candidate.target.model}"


def _order(tier: Tier) -> tuple[Tier, ...]:
    """The asked tier, then cheaper ones from near to far, then stronger ones."""
    place = TIERS.index(tier)
    return (tier, *reversed(TIERS[:place]), *TIERS[place + 1 :])
