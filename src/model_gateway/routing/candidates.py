"""Which of some targets can serve a question, and which is best? Pure.

Score of a candidate (higher is tried first), with the weights of `routing.weights` normalised to sum to 1:
load 1 − in_flight / maxConcurrentQueries; cost the mean of costEfficiency and 1 − estimate / dearest estimate;
success the recent share of successes; speed fastest latency / own latency (1 while unknown). The target that answered
the conversation's turn before gets what staying with it is worth on top (affinity.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TypeAlias

import msgspec

from model_gateway.config.schema import RoutingWeights
from model_gateway.domain.route import News, Target, TargetState, Tier
from model_gateway.routing.affinity import NEAR, Stay, group_of, winner, worth
from model_gateway.routing.kinds import Kind, Ranked
from model_gateway.routing.pool import Pool, drawn_of
from model_gateway.routing.view import Alike, Candidate, View

Estimate: TypeAlias = Callable[[Target, int, int, float], int]
States: TypeAlias = Sequence[TargetState]


class Question(msgspec.Struct, frozen=True):
    """What the router must know of a request. `model` is `auto…`, an alias, a model, or `provider/model`.

    `now`: the dispatcher's clock. `dice`: a random number in 0–1, for what goes by share. `embeds`: for embeddings.
    `view`: what the key may be routed to, None: everything. `tenant`: in whose turn it would wait for room. `why`: for
    what this tier is asked, where the score alone does not say it. `stay`: who has its conversation, None: it has none.
    More than fifteen fields in one call cost a microsecond each time: a dictionary is made of them first.
    """

    model: str
    score: float
    tier: Tier
    preferred_provider: str = ""
    required_capabilities: frozenset[str] = frozenset()
    budget_nano: int | None = None
    input_tokens: int = 0
    max_tokens: int | None = None
    now: float = 0.0
    dice: float = 1.0
    embeds: bool = False
    view: View | None = None
    tenant: str = ""
    why: str = ""
    stay: Stay | None = None


Choice: TypeAlias = list[tuple[Candidate, int]]


class Refusals(msgspec.Struct):
    """Why candidates were passed over: the words of the error, should none be left.

    `strict`: pass over those that would keep a caller waiting as well. `full`: one would fit the money, but is busy or
    resting.
    """

    strict: bool = True
    full: bool = False
    cheapest_nano: int | None = None
    over_ceiling: list[str] = []  # copied; making a list[str] takes ten times as long


class Chooser:
    """`estimate(target, input, output, score)` → nano-USD."""

    def __init__(self, weights: RoutingWeights, default_max_tokens: int, estimate: Estimate) -> None:
        total = (weights.load + weights.cost + weights.success + weights.speed) or 1.0
        self._load, self._cost = weights.load / total, weights.cost / total
        self._success, self._speed = weights.success / total, weights.speed / total
        self._default_max_tokens = default_max_tokens
        self._estimate = estimate

    def choose(self, candidates: Sequence[Candidate], question: Question, states: States, refusals: Refusals) -> Choice:
        """Those that can, fit the money and have room, best first, with what each would cost in nano-USD."""
        # Each target costs a request: what the question says is looked up once.
        needed, embeds, budget, now = (
            question.required_capabilities,
            question.embeds,
            question.budget_nano,
            question.now,
        )
        estimate, read, score = self._estimate, question.input_tokens, question.score
        output = self._output(question)
        fitting: list[tuple[Candidate, TargetState, int]] = []
        for candidate in candidates:
            target = candidate.target
            if target.embeds != embeds or (needed and not needed <= target.capabilities):
                continue
            cost = estimate(target, read, output, score)
            if target.max_cost_nano is not None and cost > target.max_cost_nano:
                refusals.over_ceiling.append(f"{target.provider}/{target.model}")
                continue
            if budget is not None and cost > budget:
                known = refusals.cheapest_nano
                refusals.cheapest_nano = cost if known is None else min(known, cost)
                continue
            # After the money: `full` means that waiting would help.
            state = states[candidate.index]
            load = state.load
            if (load.full or state.open_until > now) and (
                refusals.strict or (load.full and not load.has_room_for(question.tenant))
            ):
                refusals.full = True
                continue
            fitting.append((candidate, state, cost))
        if len(fitting) > 1:
            return self._rank(fitting, question)
        return [(candidate, cost) for candidate, _, cost in fitting]

    def _rank(self, fitting: list[tuple[Candidate, TargetState, int]], question: Question) -> Choice:
        dearest, fastest = 0, 0.0
        for _, state, cost in fitting:
            if cost > dearest:
                dearest = cost
            latency_s = state.latency_s
            if latency_s > 0 and (latency_s < fastest or not fastest):
                fastest = latency_s
        dearest = dearest or 1
        load, cost_weight, success, speed_weight = self._load, self._cost / 2, self._success, self._speed
        ranked: list[tuple[float, int, Candidate, int]] = []
        stay = question.stay
        before = -1 if stay is None else stay.before
        for candidate, state, cost in fitting:
            target = candidate.target
            latency_s = state.latency_s
            score = (
                load * (1.0 - state.load.in_flight / target.max_concurrent)
                + success * state.success_rate
                + speed_weight * (fastest / latency_s if latency_s > 0 else 1.0)
                + cost_weight * (target.cost_efficiency + 1.0 - cost / dearest)
            )
            if stay is not None and candidate.index == before:
                score += worth(target, cost, question.input_tokens, stay.cached_of(question.input_tokens))
            ranked.append((-score, candidate.order, candidate, cost))
        ranked.sort()  # `order` is unique: a comparison never reaches the candidate
        if stay is not None and before < 0:
            _draw_first(ranked, stay.conversation)
        return [(candidate, cost) for _, _, candidate, cost in ranked]

    def _output(self, question: Question) -> int:
        return 0 if question.embeds else question.max_tokens or self._default_max_tokens

    def pool(self, groups: Alike) -> Pool:
        """For candidates that are asked about again and again."""
        return Pool(groups, self._load, self._success, self._speed)

    def best(self, pool: Pool, news: News, question: Question, states: States, refusals: Refusals) -> Choice:
        """The first of `choose`, and none of the others: for those that answer, and keep nobody waiting.

        Of very many near equals another may draw a conversation than `choose` would let.
        """
        pool.refresh(states, news, question.now)
        estimate, read, score, budget = self._estimate, question.input_tokens, question.score, question.budget_nano
        output = self._output(question)
        fitting: list[tuple[Kind, int]] = []
        dearest, fastest = 0, inf
        for kind in pool.serving(question.required_capabilities, embeds=question.embeds):
            target = kind.target
            cost = estimate(target, read, output, score)
            if target.max_cost_nano is not None and cost > target.max_cost_nano:
                refusals.over_ceiling += [f"{c.target.provider}/{c.target.model}" for c in kind.members]
                continue
            if budget is not None and cost > budget:
                known = refusals.cheapest_nano
                refusals.cheapest_nano = cost if known is None else min(known, cost)
                continue
            if kind.out:
                refusals.full = True
                if len(kind.out) == len(kind.members):
                    continue
            fitting.append((kind, cost))
            if cost > dearest:
                dearest = cost
            if 0.0 < kind.least < fastest:
                fastest = kind.least
        if not fitting:
            return []
        return [self._best(fitting, question, dearest or 1, 0.0 if fastest == inf else fastest)]

    def _best(
        self, fitting: Sequence[tuple[Kind, int]], question: Question, dearest: int, fastest: float
    ) -> tuple[Candidate, int]:
        weight, stay = self._cost / 2, question.stay
        first: Ranked | None = None
        first_cost, most = 0, -inf
        worths: list[float] = []
        for kind, cost in fitting:
            own_worth = weight * (kind.efficiency + 1.0 - cost / dearest)
            worths.append(own_worth)
            if kind.beside == fastest and kind.top + own_worth < most:
                continue
            found = kind.best(fastest, own_worth)
            if first is None or found < first:  # `order` is unique: a comparison never reaches the candidate
                first, first_cost, most = found, cost, -found[0]
        assert first is not None  # noqa: S101  one fits
        chosen = first[2]
        if stay is None:
            return chosen, first_cost
        if stay.before < 0:
            equals = [
                (kind, own_worth)
                for (kind, cost), own_worth in zip(fitting, worths, strict=True)
                if cost == first_cost and kind.efficiency == chosen.target.cost_efficiency
            ]
            return drawn_of(equals, first, fastest, stay.conversation), first_cost
        for (kind, cost), own_worth in zip(fitting, worths, strict=True):
            before = kind.member(stay.before)
            rank = None if before is None else kind.rank(before, fastest, own_worth)
            if before is not None and rank is not None:
                rank += worth(before.target, cost, question.input_tokens, stay.cached_of(question.input_tokens))
                return (before, cost) if (-rank, before.order) < first[:2] else (chosen, first_cost)
        return chosen, first_cost


def _draw_first(ranked: list[tuple[float, int, Candidate, int]], conversation: int) -> None:
    """A conversation that nobody is known to have answered goes to one of the best's equals, always the same."""
    best, _, first, cost = ranked[0]
    efficiency = first.target.cost_efficiency
    near: list[int] = []
    for place, (score, _, candidate, own_cost) in enumerate(ranked):
        if score - best > NEAR:
            break
        if own_cost == cost and candidate.target.cost_efficiency == efficiency:
            near.append(place)
    chosen = near[winner(group_of(conversation), [ranked[place][2].mark for place in near])]
    if chosen:
        ranked.insert(0, ranked.pop(chosen))


def cheapest(choice: Choice) -> Choice:
    """By estimate alone; ties keep the usual order."""
    return sorted(choice, key=lambda fit: fit[1])


def fastest(choice: Choice, states: States) -> Choice:
    """By recent latency alone; one that is not known yet is tried first, or it would never be known."""
    return sorted(choice, key=lambda fit: states[fit[0].index].latency_s)
