"""How a query would be routed now, or how a request was, and why. Nothing is asked, recorded or remembered.

Decides nothing: judge and router do, with the states that they have at this moment. A conversation's history, a key's
scope and what is drawn by lot (canary, shadow) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from model_gateway.assess.assessor import Assessor
from model_gateway.budget.pricing import estimate_nano
from model_gateway.config.cascades import CascadeConfig
from model_gateway.config.complexity import ComplexityThresholds
from model_gateway.domain.chat import AUTO_MODEL, ChatRequest, Message
from model_gateway.domain.errors import GatewayError
from model_gateway.domain.route import Factor, Route, Target, TargetState, Tier
from model_gateway.judging import Judge, asked_of
from model_gateway.routing.candidates import Question
from model_gateway.routing.decision import Decision, Decisions
from model_gateway.routing.router import Router

_NO_LOT: Final = 1.0
LEAST_SHOWN: Final = 0.0005
"""Of a score: less is no reason, but how sums are rounded."""


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`budget_nano` in nano-USD; None: not said."""

    prompt: str
    system: str = ""
    model: str = AUTO_MODEL
    max_tokens: int | None = None
    budget_nano: int | None = None


class Priced(msgspec.Struct, frozen=True):
    """One that would be tried, and what that is expected to cost."""

    provider: str
    model: str
    estimate_nano: int


class Explanation(msgspec.Struct, frozen=True):
    """`score` in 0–1, of which `factors` are the parts. `asked_tier` follows from it, `tier` would answer.

    `targets` in the order in which they would be tried. `refused`: why there are none. `abstained`: why nothing is
    known of such a query. `cascade`: by which one a weaker model would be asked before, "" where by none. `low` and
    `high`: the scores at which the next tier begins, where no target of quality or cost decides.
    """

    score: float
    gain: float
    asked_tier: Tier
    tier: Tier
    reason: str
    factors: tuple[Factor, ...]
    targets: tuple[Priced, ...] = ()
    abstained: str = ""
    refused: str = ""
    cascade: str = ""
    input_tokens: int = 0
    max_tokens: int = 0
    low: float = 0.0
    high: float = 1.0


class Explainer:
    """One configuration's. `states` are parallel to the router's targets; `clock`: the dispatcher's."""

    def __init__(
        self,
        judge: Judge,
        assessor: Assessor,
        decisions: Decisions,
        router: Router,
        states: Sequence[TargetState],
        cascades: Mapping[str, CascadeConfig],
        default_max_tokens: int,
        thresholds: ComplexityThresholds,
        clock: Callable[[], float],
    ) -> None:
        self._judge = judge
        self._assessor = assessor
        self.decisions = decisions
        self._router = router
        self._states = states
        self._cascades = cascades
        self._default_max_tokens = default_max_tokens
        self._thresholds = thresholds
        self._clock = clock

    async def explain(self, asked: Asked) -> Explanation:
        """Never raises for what a request would be refused for: `refused` says it."""
        request = _request(asked)
        await self._judge.prepare(request)
        standing = self._judge.alone(request)
        assessment = standing.assessment
        question = asked_of(request, standing, "", self._router.everything, self._clock(), _NO_LOT)
        refused, route = "", Route((), standing.tier, standing.tier)
        try:
            route = self._router.route(question, self._states)
        except GatewayError as error:
            refused = error.message
        return self._told(
            question,
            route,
            gain=assessment.gain,
            factors=assessment.factors,
            abstained=assessment.abstained,
            refused=refused,
            cascade=self._cascade(asked.model, assessment.score),
        )

    def recall(self, uid: str) -> Explanation | None:
        """How the request of that record was decided; None where it is not among the newest of this configuration.

        Prices are those that the router knew; what the provider counted is in the ledger.
        """
        found = next((each for each in reversed(self.decisions) if each.uid == uid), None)
        if found is None:
            return None
        question, route = found.question, found.route or Route((), found.question.tier, found.question.tier)
        return self._told(
            question,
            route,
            gain=found.gain,
            factors=self._factors_of(found),
            abstained=found.abstained,
            cascade=question.model if route.first else "",
        )

    def _told(
        self,
        question: Question,
        route: Route,
        *,
        gain: float,
        factors: tuple[Factor, ...],
        abstained: str,
        cascade: str,
        refused: str = "",
    ) -> Explanation:
        output = question.max_tokens or self._default_max_tokens

        def priced(target: Target) -> Priced:
            cost = estimate_nano(target, question.input_tokens, output, question.score)
            return Priced(target.provider, target.model, cost)

        return Explanation(
            score=question.score,
            gain=gain,
            asked_tier=question.tier,
            tier=route.served_tier,
            reason=route.reason,
            factors=factors,
            targets=tuple(priced(target) for target in (*route.first, *route.targets)),
            abstained=abstained,
            refused=refused,
            cascade=cascade,
            input_tokens=question.input_tokens,
            max_tokens=output,
            low=self._thresholds.low,
            high=self._thresholds.high,
        )

    def _factors_of(self, found: Decision) -> tuple[Factor, ...]:
        """With what weighs on a turn beside its words: what they do not account for."""
        factors = self._assessor.factors_of(found.parts, found.abstained)
        words = sum(factor.contribution for factor in factors)
        rest = found.question.score - words
        if rest < LEAST_SHOWN:
            return factors
        return (*factors, Factor("around_the_words", rest / (1.0 - words), rest, "tools, their results, or material"))

    def _cascade(self, model: str, score: float) -> str:
        config = self._cascades.get(model)
        return model if config is not None and config.tries(score) else ""


def _request(asked: Asked) -> ChatRequest:
    messages = [Message(role="user", content=asked.prompt)]
    if asked.system:
        messages.insert(0, Message(role="system", content=asked.system))
    return ChatRequest(
        request_id="",
        model=asked.model,
        messages=messages,
        body={},
        max_tokens=asked.max_tokens,
        budget_nano=asked.budget_nano,
        explain=True,
    )
