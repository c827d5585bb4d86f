"""The targets of a route of which only the first is needed, as long as it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, overload

from model_gateway.domain.route import Target, Tier
from model_gateway.routing.candidates import Question, States

Others: TypeAlias = Callable[[Question, Tier, States], Sequence[Target]]


class Targets(Sequence[Target]):
    """`others(…)` is called when somebody wants to know what follows: by what is known of them then. `first` may be
    among them.
    """

    # Its arguments and not a function that holds them: every request has one, and the newest decisions are kept.
    __slots__ = ("_asked", "_first", "_others", "_question", "_states", "_whole")

    def __init__(self, first: Target, others: Others, question: Question, asked: Tier, states: States) -> None:
        self._first = first
        self._others = others
        self._question, self._asked, self._states = question, asked, states
        self._whole: tuple[Target, ...] = ()

    def _all(self) -> tuple[Target, ...]:
        if not self._whole:
            first, others = self._first, self._others(self._question, self._asked, self._states)
            self._whole = (first, *(target for target in others if target is not first))
        return self._whole

    @overload
    def __getitem__(self, place: int) -> Target: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Target, ...]: ...

    def __getitem__(self, place: int | slice) -> Target | tuple[Target, ...]:
        if place == 0:
            return self._first
        return self._all()[place]

    def __iter__(self) -> Iterator[Target]:
        yield self._first
        yield from self._all()[1:]

    def __len__(self) -> int:
        return len(self._all())

    def __bool__(self) -> bool:
        return True
