"""The router: which targets answer a question, in which order. Pure; one instance per configuration.

Everything that does not depend on the request is prepared in the constructor: the order of tiers to look in, and each
tier's online candidates. Decides by tier, status, capability, load, cost, success and speed, and steps down to a
cheaper target when the budget does not fit. Never awaits, never reads a clock, never tries a target.

Score of a candidate (higher is tried first), with the weights of `routing.weights` normalised to sum to 1:
load 1 − in_flight / maxConcurrentQueries; cost the mean of costEfficiency and 1 − estimate / dearest estimate;
success the recent share of successes; speed fastest latency / own latency (1 while unknown).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence

import msgspec

from model_gateway.config.schema import RoutingConfig
from model_gateway.domain.chat import AUTO_MODEL
from model_gateway.domain.errors import CostLimitExceeded, InvalidRequest, ModelUnavailable, Overloaded, UnknownModel
from model_gateway.domain.route import TIERS, Route, Target, TargetState, Tier, served_tier
from model_gateway.domain.usage import usd_from_nano

Estimate = Callable[[Target, int, int, float], int]


class Question(msgspec.Struct, frozen=True):
    """What the router must know of a request. `model` is `auto`, a model, or `provider/model`."""

    model: str
    score: float
    tier: Tier
    preferred_provider: str = ""
    required_capabilities: frozenset[str] = frozenset()
    budget_nano: int | None = None
    input_tokens: int = 0
    max_tokens: int | None = None


class _Candidate(msgspec.Struct, frozen=True):
    """A target, its place in `states`, and its place by name, which breaks ties."""

    index: int
    order: int
    target: Target


class _Refusals(msgspec.Struct):
    """Why candidates were passed over: the words of the error, should none be left. `full`: one would fit the money."""

    full: bool = False
    cheapest_nano: int | None = None
    over_ceiling: list[str] = msgspec.field(default_factory=list[str])


class Router:
    """`statuses`: provider → online, offline or draining. `estimate(target, input, output, score)` → nano-USD."""

    def __init__(
        self, targets: Sequence[Target], config: RoutingConfig, statuses: Mapping[str, str], estimate: Estimate
    ) -> None:
        self._targets = tuple(targets)
        self._statuses = dict(statuses)
        self._estimate = estimate
        self._fallback = config.fallback
        self._default_max_tokens = config.default_max_tokens
        weights = config.weights
        total = (weights.load + weights.cost + weights.success + weights.speed) or 1.0
        self._load, self._cost = weights.load / total, weights.cost / total
        self._success, self._speed = weights.success / total, weights.speed / total
        by_name = sorted(range(len(targets)), key=lambda i: (targets[i].provider, targets[i].model))
        order = {index: place for place, index in enumerate(by_name)}
        candidates = [_Candidate(i, order[i], target) for i, target in enumerate(targets)]
        online = [c for c in candidates if self._statuses.get(c.target.provider) == "online"]
        self._online = tuple(online)
        self._by_tier = {tier: tuple(c for c in online if tier in c.target.tiers) for tier in TIERS}
        self._plans = {
            asked: tuple((TIERS.index(tier), tier, self._by_tier[tier]) for tier in _order(asked)) for asked in TIERS
        }
        self._by_model: dict[str, list[_Candidate]] = {}
        for candidate in candidates:
            target = candidate.target
            for name in (target.model, f"{target.provider}/{target.model}"):
                self._by_model.setdefault(name, []).append(candidate)

    @property
    def online_targets(self) -> tuple[Target, ...]:
        return tuple(candidate.target for candidate in self._online)

    def knows(self, model: str) -> bool:
        return model == AUTO_MODEL or model in self._by_model

    def route(self, question: Question, states: Sequence[TargetState]) -> Route:
        """Raises UnknownModel, InvalidRequest, ModelUnavailable, Overloaded or CostLimitExceeded."""
        if question.preferred_provider and question.preferred_provider not in self._statuses:
            known = ", ".join(sorted(self._statuses))
            raise InvalidRequest(
                f"unknown preferred provider `{question.preferred_provider}`; known: {known}", param="preferredProvider"
            )
        if question.model != AUTO_MODEL:
            return self._route_named(question, states)
        return self._route_auto(question, states)

    # --- a model by name -------------------------------------------------------------------------------------------

    def _route_named(self, question: Question, states: Sequence[TargetState]) -> Route:
        having = self._by_model.get(question.model)
        if having is None:
            raise self._unknown(question.model)
        online = [c for c in having if self._statuses.get(c.target.provider) == "online"]
        if not online:
            names = ", ".join(f"{c.target.provider} is {self._statuses.get(c.target.provider)}" for c in having)
            raise ModelUnavailable(f"the model `{question.model}` cannot be asked now: {names}")
        refusals = _Refusals()
        choice = self._choose(online, question, states, refusals)
        if not choice:
            raise self._nobody(question, refusals, online)
        first, cost = choice[0][0].target, choice[0][1]
        tier = served_tier(first, question.tier)
        targets = tuple(c.target for c, _ in choice) if self._fallback else (first,)
        return Route(targets, question.tier, tier, "model asked for by name", cost)

    def _unknown(self, model: str) -> UnknownModel:
        shown = model[:100]  # the caller's text: comparing it must not cost what its length says
        near = difflib.get_close_matches(shown, self._by_model, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "GET /v1/models lists what there is"
        return UnknownModel(f"the model `{shown}` does not exist; {hint}", param="model")

    # --- auto: by tier ---------------------------------------------------------------------------------------------

    def _route_auto(self, question: Question, states: Sequence[TargetState]) -> Route:
        asked = question.tier
        refusals = _Refusals()
        served: Tier | None = None
        served_place = 0
        chosen: dict[int, Target] = {}  # by place in `states`: a target may serve several tiers
        estimate = 0
        why = ""
        for place, tier, candidates in self._plans[asked]:
            # Once a tier has served, only the same and cheaper ones follow: a fallback never costs more than was asked.
            if served is not None and place > served_place:
                continue
            # Those of an earlier tier are fallbacks already.
            left = [c for c in candidates if c.index not in chosen] if chosen else candidates
            if not left and chosen:
                continue
            choice = self._choose(left, question, states, refusals)
            if not choice:
                if tier == asked:
                    why = self._why_not(asked, refusals)
                continue
            if served is None:
                served, served_place, estimate = tier, place, choice[0][1]
            for candidate, _ in choice:
                chosen[candidate.index] = candidate.target
            if not self._fallback:
                break
        targets = list(chosen.values())
        preferred = self._preferred(question, states, refusals)
        if preferred is not None:
            target, cost = preferred
            tier = served_tier(target, asked)
            rest = [other for other in targets if other != target] if self._fallback else []
            reason = "preferred provider" if tier == asked else f"preferred provider, which serves {tier}"
            return Route((target, *rest), asked, tier, reason, cost)
        if served is None:
            raise self._nobody(question, refusals, self._online)
        if not self._fallback:
            targets = targets[:1]
        return Route(tuple(targets), asked, served, self._reason(question, served, why), estimate)

    def _preferred(
        self, question: Question, states: Sequence[TargetState], refusals: _Refusals
    ) -> tuple[Target, int] | None:
        """The preferred provider's best target, of the asked tier if it serves it, else of any; None if it cannot."""
        name = question.preferred_provider
        if not name:
            return None
        own = [candidate for candidate in self._online if candidate.target.provider == name]
        fitting = [c for c in own if question.tier in c.target.tiers] or [c for c in own if c.target.tiers] or own
        choice = self._choose(fitting, question, states, refusals)
        return (choice[0][0].target, choice[0][1]) if choice else None

    def _reason(self, question: Question, served: Tier, why: str) -> str:
        reason = f"score {question.score:.2f} asks for {question.tier}"
        if question.preferred_provider:
            reason = f"{reason}; preferred provider {question.preferred_provider} cannot serve this now"
        if served == question.tier:
            return reason
        return f"{reason}, {why}; served by {served}"

    def _why_not(self, asked: Tier, refusals: _Refusals) -> str:
        """Why the asked tier itself cannot serve: `refusals` must hold nothing of another tier yet."""
        if not self._by_tier[asked]:
            return "no online provider serves it"
        if refusals.full:
            return "its providers are at their limit"
        if refusals.cheapest_nano is not None:
            return "its estimate is over the budget"
        if refusals.over_ceiling:
            return "its estimate is over maxCostPerQuery"
        return "none of its models can do what is needed"

    # --- one set of candidates -------------------------------------------------------------------------------------

    def _choose(
        self,
        candidates: Sequence[_Candidate],
        question: Question,
        states: Sequence[TargetState],
        refusals: _Refusals,
    ) -> list[tuple[_Candidate, int]]:
        """Those that can, fit the money and have room, best first, with what each would cost."""
        needed = question.required_capabilities
        output = question.max_tokens or self._default_max_tokens
        fitting: list[tuple[_Candidate, TargetState, int]] = []
        for candidate in candidates:
            target = candidate.target
            if needed and not needed <= target.capabilities:
                continue
            cost = self._estimate(target, question.input_tokens, output, question.score)
            if target.max_cost_nano is not None and cost > target.max_cost_nano:
                refusals.over_ceiling.append(f"{target.provider}/{target.model}")
                continue
            if question.budget_nano is not None and cost > question.budget_nano:
                known = refusals.cheapest_nano
                refusals.cheapest_nano = cost if known is None else min(known, cost)
                continue
            # After the money: `full` means that waiting would help.
            state = states[candidate.index]
            if state.in_flight >= target.max_concurrent:
                refusals.full = True
                continue
            fitting.append((candidate, state, cost))
        if len(fitting) > 1:
            return self._rank(fitting)
        return [(candidate, cost) for candidate, _, cost in fitting]

    def _rank(self, fitting: list[tuple[_Candidate, TargetState, int]]) -> list[tuple[_Candidate, int]]:
        dearest = max([cost for _, _, cost in fitting]) or 1
        latencies = [state.latency_s for _, state, _ in fitting if state.latency_s > 0]
        fastest = min(latencies) if latencies else 0.0
        load, cost_weight, success, speed_weight = self._load, self._cost / 2, self._success, self._speed
        ranked: list[tuple[float, int, _Candidate, int]] = []
        for candidate, state, cost in fitting:
            target = candidate.target
            latency_s = state.latency_s
            score = (
                load * (1.0 - state.in_flight / target.max_concurrent)
                + cost_weight * (target.cost_efficiency + 1.0 - cost / dearest)
                + success * state.success_rate
                + speed_weight * (fastest / latency_s if latency_s > 0 else 1.0)
            )
            ranked.append((-score, candidate.order, candidate, cost))
        ranked.sort()  # `order` is unique: a comparison never reaches the candidate
        return [(candidate, cost) for _, _, candidate, cost in ranked]

    def _nobody(
        self, question: Question, refusals: _Refusals, candidates: Sequence[_Candidate]
    ) -> CostLimitExceeded | Overloaded | ModelUnavailable | InvalidRequest:
        """The one error that says why nothing is left."""
        needed = question.required_capabilities
        if not candidates:
            names = ", ".join(f"{name} is {status}" for name, status in sorted(self._statuses.items()))
            return ModelUnavailable(f"no provider is online ({names or 'none is configured'})")
        if needed and not any(needed <= c.target.capabilities for c in candidates):
            missing = ", ".join(sorted(needed))
            return InvalidRequest(f"no model that is online can do what this request needs: {missing}", param="model")
        if refusals.full:
            return Overloaded("every provider for this request is at its maxConcurrentQueries", retry_after_s=1)
        if refusals.cheapest_nano is not None and question.budget_nano is not None:
            return CostLimitExceeded(
                f"the cheapest estimate is ${usd_from_nano(refusals.cheapest_nano):.9f}, "
                f"the budget is ${usd_from_nano(question.budget_nano):.9f}",
                param="budget",
            )
        if refusals.over_ceiling:
            names = ", ".join(sorted(set(refusals.over_ceiling)))
            return CostLimitExceeded(f"the estimate is over maxCostPerQuery of every target: {names}")
        return ModelUnavailable("no online provider serves any tier by default; ask for a model by name")


def _order(tier: Tier) -> tuple[Tier, ...]:
    """The asked tier, then cheaper ones from near to far, then stronger ones."""
    place = TIERS.index(tier)
    return (tier, *reversed(TIERS[:place]), *TIERS[place + 1 :])
