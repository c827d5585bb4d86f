"""What the newest requests were decided by, for people who ask why: numbers and names of models, no word of a query."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, TypeAlias

import msgspec

from model_gateway.domain.route import Route
from model_gateway.routing.candidates import Question

KEPT: Final = 1_000
"""In each process: about 2 MB at most."""


class Decision(msgspec.Struct):
    """`uid`: of its record. `parts`, `gain` and `abstained` of its assessment; `route` None: there was none."""

    uid: str
    parts: tuple[Any, ...]
    gain: float
    abstained: str
    question: Question
    route: Route | None = None


Decisions: TypeAlias = deque[Decision]
"""The newest ones of one configuration, the oldest first."""


def kept() -> Decisions:
    return deque(maxlen=KEPT)
