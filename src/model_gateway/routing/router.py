"""The router: which targets answer a question, in which order. Pure; one instance per configuration.

Everything that does not depend on the request is prepared before (view.py): the order of tiers to look in, each tier's
online candidates, aliases, and what a key may use of it. Decides by name, tier, status, capability, load, cost, success
and speed, and steps down to a cheaper target when the budget does not fit. Never awaits, never reads a clock, never
tries a target.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import msgspec

from model_gateway.config.cascades import places
from model_gateway.config.schema import RoutingConfig
from model_gateway.domain.caller import Scope
from model_gateway.domain.errors import (
    CostLimitExceeded,
    GatewayError,
    InvalidRequest,
    ModelUnavailable,
    Overloaded,
    PermissionDenied,
    UnknownModel,
)
from model_gateway.domain.route import TIERS, News, Route, Target, Tier, served_tier
from model_gateway.domain.usage import usd_from_nano
from model_gateway.routing.affinity import Stay, mark, saved_nano
from model_gateway.routing.candidates import (
    Choice,
    Chooser,
    Estimate,
    Question,
    Refusals,
    States,
    cheapest,
    fastest,
)
from model_gateway.routing.fallbacks import Targets
from model_gateway.routing.names import AUTO, AUTOS, BEST, CHEAP
from model_gateway.routing.pool import Pool
from model_gateway.routing.view import Candidate, View

MAX_VIEWS = 1_000  # more than keys differ; keys come and go
MAX_POOLS = 100  # a pool holds a kilobyte for each of its candidates


class Router:
    """`statuses`: provider → online, offline or draining. `estimate(target, input, output, score)` → nano-USD."""

    def __init__(
        self, targets: Sequence[Target], config: RoutingConfig, statuses: Mapping[str, str], estimate: Estimate
    ) -> None:
        self._statuses = dict(statuses)
        self._fallback = config.fallback
        self._chooser = Chooser(config.weights, config.default_max_tokens, estimate)
        self._aliases = config.aliases
        self._canary = config.canary
        by_name = sorted(range(len(targets)), key=lambda i: (targets[i].provider, targets[i].model))
        order = {index: place for place, index in enumerate(by_name)}
        candidates = [Candidate(i, order[i], target, mark(target)) for i, target in enumerate(targets)]
        self._targets = tuple(targets)
        self.marks = {(c.target.provider, c.target.model): c.mark for c in candidates}
        self.places = {c.mark: c.index for c in candidates}
        self.everything = View(candidates, self._statuses, self._aliases, cascades=places(config.cascades))
        # Whether a conversation could ever be answered by one of several.
        self.has_choice = any(len(tier) > 1 for tier in self.everything.by_tier.values()) or any(
            len(offered) > 1 for offered in self.everything.by_model.values()
        )
        self._pools: dict[tuple[bytes, Tier], Pool] = {}
        self._views: dict[tuple[tuple[str, ...], frozenset[Tier]], View] = {}

    def _is_online(self, candidate: Candidate) -> bool:
        return self._statuses.get(candidate.target.provider) == "online"

    def view(self, scope: Scope) -> View:
        """What a key may be routed to: prepared when it is first asked for, and kept, as long as there are not many."""
        asked = scope.models, scope.tiers
        found = self._views.get(asked)
        if found is None:
            if len(self._views) >= MAX_VIEWS:
                self._views.clear()
            found = self._views[asked] = self.everything.narrowed(scope, self._statuses, self._aliases)
        return found

    def check(self, view: View, model: str, preferred_provider: str) -> None:
        """Raises PermissionDenied for what is named, exists, and lies outside the view."""
        if not view.knows(model) and self.everything.knows(model):
            raise PermissionDenied(
                f"this key may not use the model `{model}`; GET /v1/models lists what it may", param="model"
            )
        if preferred_provider in self.everything.providers - view.providers:
            known = ", ".join(sorted(view.providers))
            raise PermissionDenied(
                f"this key may not use the provider `{preferred_provider}`; it may use {known}",
                param="preferredProvider",
            )

    def route(self, question: Question, states: States) -> Route:
        """Raises UnknownModel, InvalidRequest, ModelUnavailable, Overloaded or CostLimitExceeded."""
        if question.preferred_provider and question.preferred_provider not in self._statuses:
            known = ", ".join(sorted(self._statuses if question.view is None else question.view.providers))
            raise InvalidRequest(
                f"unknown preferred provider `{question.preferred_provider}`; known: {known}", param="preferredProvider"
            )
        try:
            route = self._route(question, states, Refusals())
        except Overloaded:
            # Nobody answers at once. So: who would, after a wait?
            route = self._route(question, states, Refusals(strict=False))
        stay = question.stay
        return route if stay is None or stay.before < 0 else self._said(route, question, stay)

    def _said(self, route: Route, question: Question, stay: Stay) -> Route:
        """With a word about the target that answered the turn before."""
        before, first = self._targets[stay.before], route.targets[0]
        name = f"{before.provider}/{before.model}"
        if before is not first:
            said = f"{name} answered before"
        else:
            saved = saved_nano(first, question.input_tokens, stay.cached_of(question.input_tokens))
            said = f"stays with {name}" + (f", whose cached input saves ${usd_from_nano(saved):.9f}" if saved else "")
        return msgspec.structs.replace(route, reason=f"{route.reason}; {said}")

    def route_at(self, place: str, question: Question, states: States, *, waits: bool = True) -> Route:
        """At one place of a cascade, a tier or a model, and nowhere else. Raises as `route`.

        `waits`: false where nobody shall wait for room there.
        """
        try:
            return self._route_at(place, question, states, Refusals())
        except Overloaded:
            if not waits:
                raise
            return self._route_at(place, question, states, Refusals(strict=False))

    def _route_at(self, place: str, question: Question, states: States, refusals: Refusals) -> Route:
        if place not in TIERS:
            return self._route_named((place,), question, states, refusals)
        tier = Tier(place)
        candidates = (question.view or self.everything).by_tier[tier]
        if not candidates:
            raise ModelUnavailable(f"no provider that is online and may be used serves {tier}")
        route = self._route_over(candidates, question, states, refusals, f"score {question.score:.2f}; at {tier}")
        return msgspec.structs.replace(route, served_tier=tier)

    def _route(self, question: Question, states: States, refusals: Refusals) -> Route:
        model, view = question.model, question.view or self.everything
        if model == AUTO and not question.embeds:
            return self._with_canary(self._route_tiers(question, question.tier, states, refusals), question, states)
        cascade = view.cascades.get(model)
        if cascade is not None and model not in AUTOS:
            return self._route_at(cascade[-1], question, states, refusals)  # what cannot be cascaded
        alias = view.aliases.get(model)
        names = alias.order(question.dice) if alias is not None else (model,)
        if names[0] not in AUTOS:
            return self._route_named(names, question, states, refusals)
        if question.embeds:
            return self._route_over(view.online, question, states, refusals, "any model that embeds")
        if names[0] == AUTO:
            return self._route_tiers(question, question.tier, states, refusals)
        if names[0] == BEST:
            return self._route_tiers(question, TIERS[-1], states, refusals, "the best was asked for")
        return self._route_by_quality(names[0], question, states, refusals)

    # --- a model by name -------------------------------------------------------------------------------------------

    def _route_named(self, names: Sequence[str], question: Question, states: States, refusals: Refusals) -> Route:
        """`names` in order of preference; the targets of each are ranked."""
        view = question.view or self.everything
        choice: Choice = []
        asked: list[Candidate] = []
        for name in names:
            having = view.by_model.get(name)
            if having is None:
                raise _unknown(name, view)
            asked += having
            online = [c for c in having if self._is_online(c)]
            choice += self._chooser.choose(online, question, states, refusals)
        online = [c for c in asked if self._is_online(c)]
        if not online:
            shown = ", ".join(f"{c.target.provider} is {self._statuses.get(c.target.provider)}" for c in asked)
            raise ModelUnavailable(f"the model `{question.model}` cannot be asked now: {shown}")
        if not choice:
            raise self._nobody(question, refusals, online)
        return self._route_of(choice, question, "model asked for by name")

    def _route_of(self, choice: Choice, question: Question, reason: str) -> Route:
        first, cost = choice[0][0].target, choice[0][1]
        targets = tuple(dict.fromkeys(c.target for c, _ in choice)) if self._fallback else (first,)
        return Route(targets, question.tier, served_tier(first, question.tier), reason, cost)

    def _route_over(
        self, candidates: Sequence[Candidate], question: Question, states: States, refusals: Refusals, reason: str
    ) -> Route:
        choice = self._chooser.choose(candidates, question, states, refusals)
        if not choice:
            raise self._nobody(question, refusals, candidates)
        return self._route_of(choice, question, reason)

    def _route_by_quality(self, name: str, question: Question, states: States, refusals: Refusals) -> Route:
        """`auto:cheap` and `auto:fast`: one quality decides over all targets that serve a tier."""
        online = (question.view or self.everything).online
        tiered = [candidate for candidate in online if candidate.target.tiers]
        choice = self._chooser.choose(tiered, question, states, refusals)
        if not choice:
            raise self._nobody(question, refusals, tiered)
        if name == CHEAP:
            return self._route_of(cheapest(choice), question, "the cheapest was asked for")
        return self._route_of(fastest(choice, states), question, "the fastest was asked for")

    def _with_canary(self, route: Route, question: Question, states: States) -> Route:
        """Its share of the requests tries the canary first, if it can serve them; the usual route is its fallback."""
        canary = self._canary
        if not canary.model or question.dice >= canary.share or question.preferred_provider:
            return route
        by_model = (question.view or self.everything).by_model
        online = [c for c in by_model.get(canary.model, ()) if self._is_online(c)]
        choice = self._chooser.choose(online, question, states, Refusals())
        if not choice:
            return route
        target, cost = choice[0][0].target, choice[0][1]
        rest = [other for other in route.targets if other != target] if self._fallback else []
        tier = served_tier(target, route.asked_tier)
        return Route((target, *rest), route.asked_tier, tier, f"canary; {route.reason}", cost)

    # --- auto: by tier ---------------------------------------------------------------------------------------------

    def _route_tiers(
        self, question: Question, asked: Tier, states: States, refusals: Refusals, wish: str = ""
    ) -> Route:
        """As `_route_auto`; where there are several targets only the first is looked for at once."""
        view = question.view or self.everything
        news = states[0].news if states else None
        if news is None or not refusals.strict or question.preferred_provider:
            return self._route_auto(question, asked, states, refusals, wish)
        why = ""
        for _, tier, candidates in view.plans[asked]:
            choice = self._first_of(view, tier, candidates, news, question, states, refusals)
            if choice:
                break
            if tier == asked:
                why = _why_not(view, asked, refusals)
        else:
            raise self._nobody(question, refusals, view.online)
        first, estimate = choice[0][0].target, choice[0][1]

        reason = wish or self._reason(question, tier, why)
        if not self._fallback:
            return Route((first,), asked, tier, reason, estimate)
        targets = Targets(first, self._others, question, asked, states)
        return Route(targets, asked, tier, reason, estimate, (), 0, view.dear[tier])

    def _others(self, question: Question, asked: Tier, states: States) -> Sequence[Target]:
        """All that can serve now, for when the first has failed."""
        try:
            return self._route_auto(question, asked, states, Refusals()).targets
        except GatewayError:
            return ()

    def _first_of(
        self,
        view: View,
        tier: Tier,
        candidates: Sequence[Candidate],
        news: News,
        question: Question,
        states: States,
        refusals: Refusals,
    ) -> Choice:
        if len(candidates) < 2:
            return self._chooser.choose(candidates, question, states, refusals)
        pool = self._pools.get((view.fingerprint, tier))
        if pool is None:
            if len(self._pools) >= MAX_POOLS:
                self._pools.clear()
            pool = self._pools[view.fingerprint, tier] = self._chooser.pool(view.alike[tier])
        return self._chooser.best(pool, news, question, states, refusals)

    def _route_auto(self, question: Question, asked: Tier, states: States, refusals: Refusals, wish: str = "") -> Route:
        served: Tier | None = None
        served_place = 0
        chosen: dict[int, Target] = {}  # by place in `states`: a target may serve several tiers
        estimate = 0
        why = ""
        view = question.view or self.everything
        for place, tier, candidates in view.plans[asked]:
            # Once a tier has served, only the same and cheaper ones follow: a fallback never costs more than was asked.
            if served is not None and place > served_place:
                continue
            # Those of an earlier tier are fallbacks already.
            left = [c for c in candidates if c.index not in chosen] if chosen else candidates
            if not left and chosen:
                continue
            choice = self._chooser.choose(left, question, states, refusals)
            if not choice:
                if tier == asked:
                    why = _why_not(view, asked, refusals)
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
            raise self._nobody(question, refusals, view.online)
        if not self._fallback:
            targets = targets[:1]
        return Route(tuple(targets), asked, served, wish or self._reason(question, served, why), estimate)

    def _preferred(self, question: Question, states: States, refusals: Refusals) -> tuple[Target, int] | None:
        """The preferred provider's best target, of the asked tier if it serves it, else of any; None if it cannot."""
        name = question.preferred_provider
        if not name:
            return None
        online = (question.view or self.everything).online
        own = [candidate for candidate in online if candidate.target.provider == name]
        fitting = [c for c in own if question.tier in c.target.tiers] or [c for c in own if c.target.tiers] or own
        choice = self._chooser.choose(fitting, question, states, refusals)
        return (choice[0][0].target, choice[0][1]) if choice else None

    def _reason(self, question: Question, served: Tier, why: str) -> str:
        reason = question.why or f"score {question.score:.2f} asks for {question.tier}"
        if question.preferred_provider:
            reason = f"{reason}; preferred provider {question.preferred_provider} cannot serve this now"
        if served == question.tier:
            return reason
        return f"{reason}, {why}; served by {served}"

    # --- one set of candidates -------------------------------------------------------------------------------------

    def _nobody(self, question: Question, refusals: Refusals, candidates: Sequence[Candidate]) -> GatewayError:
        """The one error that says why nothing is left."""
        needed = question.required_capabilities
        if not candidates and question.view is not None:
            return ModelUnavailable("no provider that this key may use is online")
        if not candidates:
            names = ", ".join(f"{name} is {status}" for name, status in sorted(self._statuses.items()))
            return ModelUnavailable(f"no provider is online ({names or 'none is configured'})")
        if needed and not any(needed <= c.target.capabilities for c in candidates):
            missing = ", ".join(sorted(needed))
            return InvalidRequest(f"no model that is online can do what this request needs: {missing}", param="model")
        if not any(c.target.embeds == question.embeds for c in candidates):
            if question.embeds:
                return InvalidRequest("no model that is online embeds: name some in embeddingModels", param="model")
            return InvalidRequest(f"the model `{question.model}` only embeds: POST /v1/embeddings", param="model")
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


def _unknown(model: str, view: View) -> UnknownModel:
    shown = model[:100]  # the caller's text: comparing it must not cost what its length says
    known = [*view.by_model, *view.aliases, *view.cascades]
    near = [name for name in known if name.startswith(shown)][:3] if shown else []
    near = near or difflib.get_close_matches(shown, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "GET /v1/models lists what there is"
    return UnknownModel(f"the model `{shown}` does not exist; {hint}", param="model")


def _why_not(view: View, asked: Tier, refusals: Refusals) -> str:
    """Why the asked tier itself cannot serve: `refusals` must hold nothing of another tier yet."""
    if not view.by_tier[asked]:
        return "no online provider serves it" if not view.fingerprint else "none that the key may use serves it"
    if refusals.full:
        return "its providers are at their limit"
    if refusals.cheapest_nano is not None:
        return "its estimate is over the budget"
    if refusals.over_ceiling:
        return "its estimate is over maxCostPerQuery"
    return "none of its models can do what is needed"
