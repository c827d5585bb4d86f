"""Candidates that differ by their state only, and the best of them. Pure.

A candidate's rank is what its load and success are worth (its own), plus what its latency is beside the fastest's, plus
what its kind's price and efficiency are. The fastest is that of all kinds that can serve a request, so that it may be
another for the next. `Few` of a kind keep their ranks beside one fastest. `Many` are kept sorted twice, by own and by
latency: both lists are read from the top until nothing below can be better (Fagin's threshold algorithm).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left, insort
from collections.abc import Sequence
from math import inf
from typing import Final, TypeAlias

from model_gateway.domain.route import Target
from model_gateway.routing.affinity import GROUPS, LOT_BITS, MIXING, NEAR, lot_of, winner
from model_gateway.routing.view import Candidate

NEAREST: Final = 16
"""So many near equals draw lots among all of them; of more, one of a conversation's PROBES finds one."""

PROBES: Final = (
    (0x2545F491, 0x1E6C63D1, 0x1851F42D, 0x1A942043),
    (0x0D2511F5, 0x2E8D3B8B, 0x39ABDC45, 0x07ED55D1),
    (0x3C4F6A87, 0x16A09E66, 0x2BB67AE8, 0x00E3C5A9),
)
"""Tried in turn, where none of the ones before finds a near equal."""

POINTS: Final = (0x14057B7F, 0x02B2AE3D, 0x165667B1, 0x05EBCA77, 0x0C2B2AE3, 0x27D4EB2F, 0x3C6EF372, 0x1B873593)
_CIRCLE: Final = 2**LOT_BITS

Ranked: TypeAlias = "tuple[float, int, Candidate]"
"""−rank, the place by name that breaks ties, and whose they are: the smallest is the best."""


class Ring:
    """Each member at some POINTS of a circle, which follow from its mark."""

    __slots__ = ("_members", "_points", "_sectors", "_shift")

    def __init__(self, members: Sequence[Candidate]) -> None:
        found = sorted((_point(lot_of(each.mark), of), each.order, each) for each in members for of in POINTS)
        # Once around, the first is next.
        self._members = [*(member for _, _, member in found), found[0][2]]
        self._points = array("q", [*(point for point, _, _ in found), found[0][0] + _CIRCLE])
        # The circle in about as many sectors as points: from where one begins, the next point is a step or two away.
        bits = len(found).bit_length()
        self._shift = LOT_BITS - bits
        self._sectors = array("l", [bisect_left(self._points, each << self._shift) for each in range(2**bits)])

    def probed(self, conversation: int, probes: Sequence[int]) -> list[tuple[int, Candidate]]:
        members, points, sectors, shift = self._members, self._points, self._sectors, self._shift
        start = lot_of(conversation)
        found: list[tuple[int, Candidate]] = []
        for probe in probes:
            point = _point(start, probe)
            place = sectors[point >> shift]
            while points[place] < point:
                place += 1
            found.append((points[place] - point, members[place]))
        return found


def _point(number: int, of: int) -> int:
    return (number ^ of) * MIXING & _CIRCLE - 1


class Kind(ABC):
    """`members`: all of them. `out`: the places in `states` of those that would keep a caller waiting.

    Everything else tells of those that are not. `least`: their least latency that is known, in seconds; 0: none is.
    `top`: beside the fastest `beside` no rank is above it, `worth` left out. In the methods `fastest` is that of all
    kinds that can serve, and `worth` what price and efficiency add to a rank.
    """

    __slots__ = ("_ring", "_speed", "beside", "efficiency", "least", "members", "out", "target", "top")

    top: float

    def __init__(self, members: Sequence[Candidate], speed: float) -> None:
        """`speed`: what being the fastest is worth."""
        self.members = members
        self.out: set[int] = {candidate.index for candidate in members}
        self.target: Target = members[0].target
        self.efficiency = self.target.cost_efficiency
        self.least = self.beside = 0.0
        self._speed = speed
        self._ring: Ring | None = None

    @abstractmethod
    def member(self, index: int) -> Candidate | None:
        """The one whose place in `states` is `index`."""
        ...

    @abstractmethod
    def place(self, candidate: Candidate, own: float, latency_s: float) -> None:
        """It has changed, or is new. `latency_s` 0: unknown, which counts as the fastest."""
        ...

    @abstractmethod
    def leave_out(self, candidate: Candidate) -> None: ...

    @abstractmethod
    def rank(self, candidate: Candidate, fastest: float, worth: float) -> float | None:
        """Of a member; None: it is left out."""
        ...

    @abstractmethod
    def best(self, fastest: float, worth: float) -> Ranked:
        """There must be one."""
        ...

    @abstractmethod
    def near(self, fastest: float, worth: float, best: float) -> Sequence[Candidate] | None:
        """Those whose rank is NEAR to `best`, a negated one; None where there are too many, or hard to find."""
        ...

    def probed(self, conversation: int, probes: Sequence[int]) -> list[tuple[int, Candidate]]:
        """A member for each probe, with how far it is: the same in every process, and mostly after a change of some."""
        ring = self._ring = self._ring or Ring(self.members)
        return ring.probed(conversation, probes)


class Few(Kind):
    """As `Kind`. Nothing is sorted: of so few all are compared, by C."""

    __slots__ = ("_drawn", "_latencies", "_own", "_places", "_ranks")

    def __init__(self, members: Sequence[Candidate], speed: float) -> None:
        super().__init__(sorted(members, key=lambda candidate: candidate.order), speed)
        self.top = -inf
        self._places = {candidate.index: place for place, candidate in enumerate(self.members)}
        self._own = [-inf] * len(members)
        self._latencies = [0.0] * len(members)
        self._ranks = [-inf] * len(members)  # without `worth`, beside `beside`
        self._drawn = bytearray()  # by group, the place of the one with the highest lot, and one after it; 0: not known

    def member(self, index: int) -> Candidate | None:
        place = self._places.get(index)
        return None if place is None else self.members[place]

    def place(self, candidate: Candidate, own: float, latency_s: float) -> None:
        if self.out:
            self.out.discard(candidate.index)
        self._put(self._places[candidate.index], own, latency_s)

    def leave_out(self, candidate: Candidate) -> None:
        self.out.add(candidate.index)
        self._put(self._places[candidate.index], -inf, 0.0)

    def _put(self, place: int, own: float, latency_s: float) -> None:
        before = self._latencies[place]
        if latency_s != before:
            self._latencies[place] = latency_s
            if latency_s and latency_s <= self.least:
                self.least = latency_s
            elif before == self.least or not self.least:
                self.least = min([known for known in self._latencies if known], default=0.0)
        self._own[place] = own
        rank = own + self._speed * (self.beside / latency_s) if latency_s > self.beside else own + self._speed
        before, self._ranks[place] = self._ranks[place], rank
        if rank >= self.top:
            self.top = rank
        elif before == self.top:
            self.top = max(self._ranks)

    def rank(self, candidate: Candidate, fastest: float, worth: float) -> float | None:
        if candidate.index in self.out:
            return None
        if fastest != self.beside:
            self._measure(fastest)
        return self._ranks[self._places[candidate.index]] + worth

    def best(self, fastest: float, worth: float) -> Ranked:
        if fastest != self.beside:
            self._measure(fastest)
        ranks = self._ranks
        place, most = ranks.index(self.top), self.top + worth
        # Two that differ by less than the sum can hold are equals: the first by name.
        for earlier in range(place):
            if ranks[earlier] + worth == most:
                place = earlier
                break
        candidate = self.members[place]
        return -most, candidate.order, candidate

    def near(self, fastest: float, worth: float, best: float) -> Sequence[Candidate] | None:
        if fastest != self.beside:
            self._measure(fastest)
        members, ranks = self.members, self._ranks
        if -(min(ranks) + worth) - best <= NEAR:
            return members
        return [members[place] for place, rank in enumerate(ranks) if -(rank + worth) - best <= NEAR]

    def drawn(self, group: int) -> Candidate:
        """Who of all has its conversations."""
        known = self._drawn = self._drawn or bytearray(GROUPS)
        place = known[group]
        if not place:
            place = known[group] = winner(group, [candidate.mark for candidate in self.members]) + 1
        return self.members[place - 1]

    def _measure(self, fastest: float) -> None:
        speed, self.beside = self._speed, fastest
        self._ranks = [
            own + speed * (fastest / latency_s) if latency_s > fastest else own + speed
            for own, latency_s in zip(self._own, self._latencies, strict=True)
        ]
        self.top = max(self._ranks)


class Many(Kind):
    """As `Kind`."""

    __slots__ = ("_by_index", "_by_latency", "_by_own", "_known", "_unmeasured")

    def __init__(self, members: Sequence[Candidate], speed: float) -> None:
        super().__init__(members, speed)
        self.top = inf  # to know it is what `best` is for
        self._by_index = {candidate.index: candidate for candidate in members}
        self._known: dict[int, tuple[float, float]] = {}  # own and latency
        # Whose latency is not known counts as the fastest: among them what is their own decides.
        self._unmeasured: list[Ranked] = []
        self._by_own: list[Ranked] = []
        self._by_latency: list[Ranked] = []

    def member(self, index: int) -> Candidate | None:
        return self._by_index.get(index)

    def place(self, candidate: Candidate, own: float, latency_s: float) -> None:
        index, order = candidate.index, candidate.order
        known = self._known.get(index)
        if known is None:
            self.out.discard(index)
        elif known == (own, latency_s):
            return
        self._known[index] = own, latency_s
        if known is not None and known[1] and latency_s:
            before, latency_before = known
            if own != before:
                by_own = self._by_own
                del by_own[bisect_left(by_own, (-before, order))]
                insort(by_own, (-own, order, candidate))
            if latency_s != latency_before:
                by_latency = self._by_latency
                del by_latency[bisect_left(by_latency, (latency_before, order))]
                insort(by_latency, (latency_s, order, candidate))
                self.least = by_latency[0][0]
            return
        if known is not None:
            self._drop(candidate, *known)
        if latency_s:
            insort(self._by_own, (-own, order, candidate))
            insort(self._by_latency, (latency_s, order, candidate))
            self.least = self._by_latency[0][0]
        else:
            insort(self._unmeasured, (-own, order, candidate))

    def leave_out(self, candidate: Candidate) -> None:
        known = self._known.pop(candidate.index, None)
        if known is not None:
            self._drop(candidate, *known)
        self.out.add(candidate.index)

    def _drop(self, candidate: Candidate, own: float, latency_s: float) -> None:
        if latency_s:
            del self._by_own[bisect_left(self._by_own, (-own, candidate.order))]
            del self._by_latency[bisect_left(self._by_latency, (latency_s, candidate.order))]
            self.least = self._by_latency[0][0] if self._by_latency else 0.0
        else:
            del self._unmeasured[bisect_left(self._unmeasured, (-own, candidate.order))]

    def rank(self, candidate: Candidate, fastest: float, worth: float) -> float | None:
        known = self._known.get(candidate.index)
        return None if known is None else known[0] + self._of_speed(fastest, known[1]) + worth

    def best(self, fastest: float, worth: float) -> Ranked:
        speed, known = self._speed, self._known
        found: Ranked | None = None
        if self._unmeasured:
            less_own, order, candidate = self._unmeasured[0]
            found = less_own - speed - worth, order, candidate
        if not self._by_own:
            assert found is not None  # noqa: S101  there is one
            return found
        first, first_order, most, most_own = self._by_own[0][2], 0, -inf, 0.0
        for (less_own, order, candidate), (least_s, other, second) in zip(self._by_own, self._by_latency, strict=True):
            rank = speed * (fastest / known[candidate.index][1]) - less_own + worth
            if rank >= most and (rank > most or order < first_order):
                first, first_order, most, most_own = candidate, order, rank, -less_own
            of_speed = speed * (fastest / least_s)
            if second is not candidate:
                own = known[second.index][0]
                rank = own + of_speed + worth
                if rank >= most and (rank > most or other < first_order):
                    first, first_order, most, most_own = second, other, rank, own
            # None below is worth more than this one's own and that one's speed. Equals stand in the order of names.
            bound = of_speed - less_own + worth
            if bound < most or (bound == most and -less_own == most_own):
                break
        measured = -most, first_order, first
        return measured if found is None else min(measured, found)

    def near(self, fastest: float, worth: float, best: float) -> Sequence[Candidate] | None:
        found: dict[int, Candidate] = {}
        unmeasured, known = self._unmeasured, self._known
        if len(unmeasured) > NEAREST and unmeasured[NEAREST][0] - self._speed - worth - best <= NEAR:
            return None
        if len(self._by_own) > NEAREST and not self._ends(NEAREST, fastest, worth, best):
            return None
        for less_own, _, candidate in unmeasured:
            if less_own - self._speed - worth - best > NEAR:
                break
            found[candidate.index] = candidate
        for place, both in enumerate(zip(self._by_own, self._by_latency, strict=True)):
            if self._ends(place, fastest, worth, best):
                break
            for _, _, candidate in both:
                own, latency_s = known[candidate.index]
                if -(own + self._of_speed(fastest, latency_s) + worth) - best <= NEAR:
                    found[candidate.index] = candidate
        return list(found.values())

    def _ends(self, place: int, fastest: float, worth: float, best: float) -> bool:
        """Whether none from that place on in both lists can be near to the best."""
        most = self._of_speed(fastest, self._by_latency[place][0]) - self._by_own[place][0] + worth
        return -most - best > NEAR

    def _of_speed(self, fastest: float, latency_s: float) -> float:
        return self._speed * (fastest / latency_s if latency_s > 0 else 1.0)
