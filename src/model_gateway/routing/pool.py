"""The best of some candidates without looking at all of them: the same one that ranking them all would put first. Pure.

Candidates of one price, ceiling, efficiency and set of capabilities are a kind: what a request costs, and whether a
kind can serve it, is asked once for all of them. Within a kind rank follows from two numbers that only its own state
changes, what its load and success are worth, and its latency. So ranks are remembered (kinds.py), and which targets
have changed since the last request is in the dispatcher's News: a request pays for what happened, not for how many
there are.

An instance belongs to one set of candidates. It needs a clock that never goes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter

from model_gateway.domain.route import News, TargetState
from model_gateway.routing.affinity import NEAR, group_of, winner
from model_gateway.routing.kinds import PROBES, Few, Kind, Many, Ranked
from model_gateway.routing.view import Alike, Candidate

FEW = 16
"""So many of a kind are looked at one by one; of more, which takes longer for each, they are kept sorted."""

MAX_NEEDS = 1_000
"""So many sets of capabilities are remembered: callers choose them, but few differ."""

_distance = itemgetter(0)


def drawn_of(equals: Sequence[tuple[Kind, float]], first: Ranked, fastest: float, conversation: int) -> Candidate:
    """Who among `first` and its near equals has a conversation that nobody is known to have answered.

    `equals`: kinds of its price and efficiency, and what these are worth.
    """
    if len(equals) == 1 and len(equals[0][0].members) == 1:
        return first[2]
    near: Sequence[Candidate] = ()
    for kind, worth in equals:
        found = kind.near(fastest, worth, first[0])
        if found is None:
            break
        if len(equals) == 1 and isinstance(kind, Few) and found is kind.members:
            return kind.drawn(group_of(conversation))
        near = [*near, *found]
    else:
        if len(near) == 1:
            return near[0]
        return near[winner(group_of(conversation), [candidate.mark for candidate in near])]
    for probes in PROBES:
        probed: list[tuple[int, Candidate, Kind, float]] = []
        for kind, worth in equals:
            probed += [(distance, found, kind, worth) for distance, found in kind.probed(conversation, probes)]
        probed.sort(key=_distance)
        for _, candidate, kind, worth in probed:
            rank = kind.rank(candidate, fastest, worth)
            if rank is not None and -rank - first[0] <= NEAR:
                return candidate
    return first[2]


class Pool:
    """`load`, `success`: what no load and no failure are worth. `speed`: what being the fastest is."""

    def __init__(self, groups: Alike, load: float, success: float, speed: float) -> None:
        self._load, self._success = load, success
        self.kinds: Sequence[Kind] = [(Few if len(each) <= FEW else Many)(each, speed) for each in groups]
        self._kinds = {candidate.index: kind for kind in self.kinds for candidate in kind.members}
        self._serving: dict[tuple[frozenset[str], bool], Sequence[Kind]] = {}
        self._states: Sequence[TargetState] = ()
        self._told: dict[int, list[Candidate]] = {}
        self._seen = self._turn = 0
        self._resting: dict[int, Candidate] = {}
        self._wake = 0.0

    def serving(self, needed: frozenset[str], *, embeds: bool) -> Sequence[Kind]:
        """Those that have all that is `needed`: looked for once."""
        found = self._serving.get((needed, embeds))
        if found is None:
            if len(self._serving) >= MAX_NEEDS:
                self._serving.clear()
            able = [kind for kind in self.kinds if kind.target.embeds == embeds and needed <= kind.target.capabilities]
            found = self._serving[needed, embeds] = able
        return found

    def refresh(self, states: Sequence[TargetState], news: News, now: float) -> None:
        """Take up what has changed. `states` must be those that `news` tells of."""
        if states is not self._states or news.turn != self._turn:
            self._begin(states, news, now)
        elif self._seen < len(news.changed):
            told = self._told
            changed: dict[int, Candidate] = {}  # a load and its state are often told of together
            for what in news.changed[self._seen :]:
                for candidate in told.get(id(what), ()):
                    changed[candidate.index] = candidate
            self._seen = len(news.changed)
            for candidate in changed.values():
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
        load = state.load
        if state.open_until > now:
            if not self._resting or state.open_until < self._wake:
                self._wake = state.open_until
            self._resting[index] = candidate
            self._kinds[index].leave_out(candidate)
            return
        if self._resting:
            self._resting.pop(index, None)
        if load.full:
            self._kinds[index].leave_out(candidate)
            return
        own = self._load * (1.0 - load.in_flight / candidate.target.max_concurrent) + self._success * state.success_rate
        self._kinds[index].place(candidate, own, state.latency_s)
