"""The seam for judging how hard a query is. Implementations are pure: same query, same score, no I/O."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from model_gateway.domain.route import Assessment, Factor


class Assessor(Protocol):
    def assess(self, query: str, features: Collection[str] | None = None, *, explain: bool = True) -> Assessment:
        """Score `query` by `features` (None or empty: all configured ones). Unknown names raise InvalidRequest.

        `explain` False leaves the factors out: their words cost about as much as the score.
        """
        ...

    def factors_of(self, parts: tuple[Any, ...], abstained: str = "") -> tuple[Factor, ...]:
        """Of an assessment that this one has made, later: the same, in whose details there are counts for words."""
        ...
