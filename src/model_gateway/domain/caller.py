"""Who is asking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from model_gateway.domain.route import Target


class Meter(Protocol):
    """What a key may use; admission/limits.py has the one."""

    def enter(self, now: float) -> None: ...

    def leave(self) -> None: ...

    def reserve(self, now: float, tokens: int) -> Any: ...

    def correct(self, reservation: Any, tokens: int) -> None: ...

    def remaining(self, now: float) -> dict[str, tuple[int, int, float]]: ...


class Scope(Protocol):
    """What a key may ask for; admission/scopes.py has the one."""

    def check(self, door: str, now: float) -> None: ...

    def names(self, name: str) -> bool: ...

    def allows(self, target: Target) -> bool: ...

    def allowed(self, targets: Sequence[Target]) -> frozenset[int]: ...


class Caller(msgspec.Struct, frozen=True):
    """`tenant` separates caches, limits and bills; `key_name` is the key's name, never the key.

    `meter` and `scope` are None for a key that is not limited so.
    """

    tenant: str = "default"
    key_name: str = ""
    meter: Meter | None = None
    scope: Scope | None = None
    restricted: bool = False
    """Its scope leaves models out."""


ANONYMOUS = Caller()
