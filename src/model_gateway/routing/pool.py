"""The best of many candidates without looking at all of them: the same one that ranking them all would put first. Pure.

Candidates of one price, ceiling, efficiency and set of capabilities are a kind: what a request costs, and whether a
kind can serve it, is asked once for all of them. Within a kind rank follows from two numbers that only its own state
changes, what its load and success are worth, and its latency. It is kept sorted by either, and both lists are read from
the top until nothing below can be better (Fagin's threshold algorithm). Which targets have changed since the last
request is in the dispatcher's News: so a request pays for what happened, not for how many there are.

An instance belongs to one set of candidates. It needs a clock that never goes back.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from itertools import chain
from math import inf
from typing import Final, TypeAlias

from model_gateway.domain.route import News, Target, TargetState
from model_gateway.routing.affinity import NEAR, drawn
from model_gateway.routing.view import Alike, Candidate

NEAREST: Final = 16
"""So many near equals draw lots among all of them; of more, a conversation's few PROBES find one."""

PROBES: Final = (
    0x2545F4914F6CDD1D,
    0x9E6C63D0876A3F35,
    0x5851F42D4C957F2D,
    0xDA942042E4DD58B5,
    0x14057B7EF767814F,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
)
_CIRCLE: Final = 2**63

Ranked: TypeAlias = "tuple[float, int, Candidate]"
"""−rank, the place by name that breaks ties, and whose they are: the smallest is the best."""


class Kind:
    """Candidates that differ by their state only. `target`: any of theirs, to ask what a request costs."""

    __slots__ = (
        "_by_index",
        "_by_latency",
        "_by_own",
        "_known",
        "_marks",
        "_ring",
        "_speed",
        "_unmeasured",
        "members",
        "out",
        "target",
    )

    def __init__(self, members: Sequence[Candidate], speed: float) -> None:
        self.target = members[0].target
        self.members = members
        self.out: set[int] = set()
        """The places of those that would keep a caller waiting."""
        self._by_index = {candidate.index: candidate for candidate in members}
        self._speed = speed
        self._ring: list[Candidate] = []
        self._marks: list[int] = []
        self._known: dict[int, tuple[float, float]] = {}
        # Whose latency is not known counts as the fastest: among them what is their own decides.
        self._unmeasured: list[tuple[float, int, Candidate]] = []
        self._by_own: list[tuple[float, int, float, Candidate]] = []
        self._by_latency: list[tuple[float, int, float, Candidate]] = []

    @property
    def empty(self) -> bool:
        return not self._known

    def member(self, index: int) -> Candidate | None:
        """The one whose place in `states` is `index`."""
        return self._by_index.get(index)

    def place(self, candidate: Candidate, own: float, latency_s: float) -> None:
        """It has changed, or is new."""
        known = self._known.get(candidate.index)
        if known == (own, latency_s):
            return
        if known is not None:
            self._drop(candidate, *known)
        self.out.discard(candidate.index)
        self._known[candidate.index] = own, latency_s
        if latency_s > 0:
            insort(self._by_own, (-own, candidate.order, latency_s, candidate))
            insort(self._by_latency, (latency_s, candidate.order, own, candidate))
        else:
            insort(self._unmeasured, (-own, candidate.order, candidate))

    def leave_out(self, candidate: Candidate) -> None:
        known = self._known.pop(candidate.index, None)
        if known is not None:
            self._drop(candidate, *known)
        self.out.add(candidate.index)

    def _drop(self, candidate: Candidate, own: float, latency_s: float) -> None:
        if latency_s > 0:
            del self._by_own[bisect_left(self._by_own, (-own, candidate.order))]
            del self._by_latency[bisect_left(self._by_latency, (latency_s, candidate.order))]
        else:
            del self._unmeasured[bisect_left(self._unmeasured, (-own, candidate.order))]

    def fastest(self) -> float:
        """The least latency that is known, in seconds; 0: none is."""
        return self._by_latency[0][0] if self._by_latency else 0.0

    def rank(self, candidate: Candidate, fastest: float, worth: float) -> float | None:
        """Of a member, `worth` being what its price and efficiency add; None: it is left out."""
        known = self._known.get(candidate.index)
        return None if known is None else known[0] + self._of_speed(fastest, known[1]) + worth

    def best(self, fastest: float, worth: float) -> Ranked:
        """Of those that are not left out; there must be one."""
        speed = self._speed
        found: Ranked | None = None
        if self._unmeasured:
            less_own, order, candidate = self._unmeasured[0]
            found = less_own - speed - worth, order, candidate
        if not self._by_own:
            assert found is not None  # noqa: S101  there is one
            return found
        first, first_own = (inf, 0, self._by_own[0][3]), 0.0
        for (less_own, order, latency_s, candidate), (least_s, other, own, second) in zip(
            self._by_own, self._by_latency, strict=True
        ):
            rank = speed * (fastest / latency_s) - less_own + worth
            if (-rank, order) < first[:2]:
                first, first_own = (-rank, order, candidate), -less_own
            of_speed = speed * (fastest / least_s)
            rank = own + of_speed + worth
            if (-rank, other) < first[:2]:
                first, first_own = (-rank, other, second), own
            # None below is worth more than this one's own and that one's speed. Equals stand in the order of names.
            most = of_speed - less_own + worth
            if most < -first[0] or (most == -first[0] and -less_own == first_own):
                break
        return first if found is None else min(first, found)

    def near(self, fastest: float, worth: float, best: float) -> list[Candidate] | None:
        """Those whose rank is NEAR to `best`, a negated one; None where there are too many, or hard to find."""
        found: dict[int, Candidate] = {}
        for place, (less_own, _, candidate) in enumerate(self._unmeasured):
            if less_own - self._speed - worth - best > NEAR:
                break
            if place == NEAREST:
                return None
            found[candidate.index] = candidate
        if len(self._by_own) > NEAREST and not self._ends(NEAREST, fastest, worth, best):
            return None
        for place, (less, more) in enumerate(zip(self._by_own, self._by_latency, strict=True)):
            if self._ends(place, fastest, worth, best):
                break
            for own, latency_s, candidate in ((-less[0], less[2], less[3]), (more[2], more[0], more[3])):
                if -(own + self._of_speed(fastest, latency_s) + worth) - best <= NEAR:
                    found[candidate.index] = candidate
        return list(found.values())

    def _ends(self, place: int, fastest: float, worth: float, best: float) -> bool:
        """Whether none from that place on in both lists can be near to the best."""
        most = self._of_speed(fastest, self._by_latency[place][0]) - self._by_own[place][0] + worth
        return -most - best > NEAR

    def probed(self, conversation: int) -> list[tuple[int, Candidate]]:
        """A few members for it, with how far each is: the same in every process, and mostly after a change of some."""
        if not self._ring:
            members = sorted(self.members, key=lambda candidate: candidate.mark)
            self._ring = members
            self._marks = [candidate.mark for candidate in members]
        ring, marks = self._ring, self._marks
        found: list[tuple[int, Candidate]] = []
        for probe in PROBES:
            point = drawn(conversation, probe) >> 1
            place = bisect_left(marks, point)
            if place == len(marks):
                found.append((marks[0] + _CIRCLE - point, ring[0]))
            else:
                found.append((marks[place] - point, ring[place]))
        return found

    def _of_speed(self, fastest: float, latency_s: float) -> float:
        return self._speed * (fastest / latency_s if latency_s > 0 else 1.0)


def drawn_of(equals: Sequence[tuple[Kind, float]], first: Ranked, fastest: float, conversation: int) -> Candidate:
    """Who among `first` and its near equals has a conversation that nobody is known to have answered.

    `equals`: kinds of its price and efficiency, and what these are worth.
    """
    near: list[Candidate] = []
    for kind, worth in equals:
        found = kind.near(fastest, worth, first[0])
        if found is None:
            break
        near += found
    else:
        return near[0] if len(near) == 1 else max(near, key=lambda candidate: drawn(conversation, candidate.mark))
    probed = [(*far, kind, worth) for kind, worth in equals for far in kind.probed(conversation)]
    for _, candidate, kind, worth in sorted(probed, key=lambda found: found[0]):
        rank = kind.rank(candidate, fastest, worth)
        if rank is not None and -rank - first[0] <= NEAR:
            return candidate
    return first[2]


Own: TypeAlias = Callable[[Target, TargetState], float]


class Pool:
    """`own(target, state)`: what load and success are worth. `speed`: what being the fastest is."""

    def __init__(self, groups: Alike, own: Own, speed: float) -> None:
        self._own = own
        self.kinds = [Kind(members, speed) for members in groups]
        self._kinds = {candidate.index: kind for kind in self.kinds for candidate in kind.members}
        self._states: Sequence[TargetState] = ()
        self._told: dict[int, list[Candidate]] = {}
        self._seen = self._turn = 0
        self._resting: dict[int, Candidate] = {}
        self._wake = 0.0

    def refresh(self, states: Sequence[TargetState], news: News, now: float) -> None:
        """Take up what has changed. `states` must be those that `news` tells of."""
        if states is not self._states or news.turn != self._turn:
            self._begin(states, news, now)
        elif self._seen < len(news.changed):
            told = self._told
            changed = dict.fromkeys(map(id, news.changed[self._seen :]))
            self._seen = len(news.changed)
            for what in changed:
                for candidate in told.get(what, ()):
                    self._place(candidate, now)
        if self._resting and now >= self._wake:
            for candidate in list(self._resting.values()):
                self._place(candidate, now)
            self._wake = min((states[index].open_until for index in self._resting), default=0.0)

    def _begin(self, states: Sequence[TargetState], news: News, now: float) -> None:
        self._states, self._turn, self._seen = states, news.turn, len(news.changed)
        self._told = {}
        for candidate in chain.from_iterable(kind.members for kind in self.kinds):
            state = states[candidate.index]
            for what in (state, state.load):
                self._told.setdefault(id(what), []).append(candidate)
            self._place(candidate, now)

    def _place(self, candidate: Candidate, now: float) -> None:
        index = candidate.index
        state = self._states[index]
        if state.open_until > now:
            if not self._resting or state.open_until < self._wake:
                self._wake = state.open_until
            self._resting[index] = candidate
        else:
            self._resting.pop(index, None)
        kind = self._kinds[index]
        if state.load.full or state.open_until > now:
            kind.leave_out(candidate)
        else:
            kind.place(candidate, self._own(candidate.target, state), state.latency_s)
