"""What one key may ask for: doors, models, tiers, until when. Pure; prepared once per key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatchcase

from model_gateway.config.schema import CallerKey
from model_gateway.domain.errors import PermissionDenied, Unauthenticated
from model_gateway.domain.route import Target


class Scope:
    """Patterns are those of a shell: `gpt-*`, `openai/*`."""

    __slots__ = ("_allowed", "_doors", "_expires_at", "_models", "_name", "_tiers")

    def __init__(self, key: CallerKey) -> None:
        self._name = key.name
        self._doors = frozenset(key.doors)
        self._models = key.models
        self._tiers = frozenset(key.tiers)
        self._expires_at: datetime | None = key.expires_at
        self._allowed: frozenset[int] | None = None

    @property
    def restricts_models(self) -> bool:
        return bool(self._models or self._tiers)

    def check(self, door: str, now: float) -> None:
        """`now`: epoch seconds. Raises Unauthenticated for a key that has expired, PermissionDenied for its door."""
        if self._expires_at is not None and now >= self._expires_at.timestamp():
            raise Unauthenticated(
                f"the key `{self._name}` expired at {self._expires_at.isoformat()}: ask for a new one"
            )
        if self._doors and door not in self._doors:
            raise PermissionDenied(f"the key `{self._name}` may not use this door; its doors: {', '.join(self._doors)}")

    def allows(self, target: Target) -> bool:
        """May this target answer? By its model's name, or by provider/model; and in one of the key's tiers."""
        if self._tiers and target.tiers and not (self._tiers & target.tiers):
            return False
        return not self._models or self.names(target.model) or self.names(f"{target.provider}/{target.model}")

    def names(self, name: str) -> bool:
        return not self._models or any(fnmatchcase(name, pattern) for pattern in self._models)

    def allowed(self, targets: Sequence[Target]) -> frozenset[int]:
        """The places of the targets that may answer; found once, as the targets of a configuration do not change."""
        if self._allowed is None:
            self._allowed = frozenset(index for index, target in enumerate(targets) if self.allows(target))
        return self._allowed
