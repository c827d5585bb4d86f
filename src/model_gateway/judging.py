"""How hard a request is within its conversation, and who answered there before: what routing is asked with.

Puts together the scores of its turns (assess) and what is remembered (sessions). Awaits only another machine's memory,
for conversations that their callers have named, and the embedding of a text, where the routing model has use for it.
Chooses no target.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Protocol

import msgspec

from model_gateway.assess.assessor import Assessor
from model_gateway.assess.conversation import ConversationAssessor, plain_text
from model_gateway.assess.subject import first_words
from model_gateway.budget.charges import input_tokens, new_tokens
from model_gateway.config.complexity import ComplexityThresholds
from model_gateway.config.session import SessionConfig
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.record import Record
from model_gateway.domain.route import TIERS, Assessment, Tier
from model_gateway.routing.affinity import Stay
from model_gateway.routing.candidates import Question
from model_gateway.routing.router import Router
from model_gateway.routing.view import View
from model_gateway.sessions.identity import beginning, named
from model_gateway.sessions.table import SessionTable

CACHED_S: Final = 600.0
"""Seconds after a turn in which its provider's prompt cache likely still holds it: vendors say five to ten minutes."""


class SharedSessions(Protocol):
    """The tiers of named conversations over several machines."""

    async def raised(self, key: int, tier: Tier, ttl_s: int, *, pinned: bool) -> Tier | None:
        """The conversation's tier, `tier` counted in; None where nobody answers."""
        ...


class Standing(msgspec.Struct):
    """`stay`: the conversation, None where nothing is remembered of it; `named` by its caller. `known`: the tier that
    is remembered. `text` of a request that is one plain turn.
    """

    assessment: Assessment
    tier: Tier
    why: str = ""
    stay: Stay | None = None
    named: bool = False
    known: Tier | None = None
    text: str | None = None


def asked_of(request: ChatRequest, standing: Standing, tenant: str, view: View, now: float, dice: float) -> Question:
    """What the router must know of a request."""
    return Question(
        model=request.model,
        score=standing.assessment.score,
        tier=standing.tier,
        preferred_provider=request.preferred_provider,
        required_capabilities=request.required_capabilities,
        budget_nano=request.budget_nano,
        input_tokens=input_tokens(request),
        max_tokens=request.max_tokens,
        now=now,
        dice=dice,
        embeds=request.embeds,
        view=view if view.fingerprint else None,
        tenant=tenant,
        why=standing.why,
        stay=standing.stay,
    )


class Judge:
    """`clock`: the same in all processes that share `table`. `embed`: waits a while until a text's embedding is known;
    `scored`: the names of models whose requests go where the score says, so that the wait is worth it.
    """

    def __init__(
        self,
        assessor: Assessor,
        thresholds: ComplexityThresholds,
        config: SessionConfig,
        router: Router,
        table: SessionTable,
        elsewhere: SharedSessions | None,
        clock: Callable[[], float],
        embed: Callable[[str], Awaitable[None]] | None = None,
        scored: Collection[str] = (),
    ) -> None:
        self._texts = assessor
        self.embed, self._scored = embed, scored
        self._conversations = ConversationAssessor(assessor, thresholds, config.tier)
        self._mode = config.tier
        self._stays = config.stay and router.has_choice
        self._ttl_s = config.ttl
        self._marks, self._places = router.marks, router.places
        self._marks_by_place = {place: mark for mark, place in router.places.items()}
        self._table = table
        self._elsewhere = elsewhere
        self._clock = clock

    async def prepare(self, request: ChatRequest) -> None:
        """Before `stand`, where there is `embed`."""
        if self.embed is not None and request.model in self._scored and not request.embeds:
            await self.embed(plain_text(request.messages) or self._conversations.subject(request.messages))

    def stand(self, request: ChatRequest, record: Record) -> Standing:
        """Where `named`, `keep` must follow."""
        standing = self.alone(request)
        if not (request.session or self._stays) or request.embeds:
            return standing
        key = record.conversation = self._key_of(request, record, standing.text)
        stay = standing.stay = Stay(key)
        standing.named = bool(request.session) and self._mode != "free"
        if standing.text is not None and not request.session:
            return standing  # it has just begun
        now = self._clock()
        known = self._table.find(key, now, self._ttl_s)
        if known is not None:
            standing.known = known.tier
            if self._stays:
                stay.before = self._places.get(known.target, -1)
                if stay.before >= 0 and now - known.when <= CACHED_S:
                    stay.new_tokens = new_tokens(request)
        return standing

    def assess(self, query: str, features: Sequence[str] = ()) -> Assessment:
        """A text by itself, by what is known of it now. Raises InvalidRequest for an unknown feature."""
        return self._texts.assess(query, features)

    async def evaluate(self, query: str, features: Sequence[str] = ()) -> Assessment:
        """The same with its embedding, where the model has use for it."""
        if self.embed is not None and not features:
            await self.embed(query)
        return self._texts.assess(query, features)

    def alone(self, request: ChatRequest) -> Standing:
        """Without what is remembered, and without being remembered."""
        messages, tools = request.messages, request.body.get("tools")
        text = plain_text(messages) if tools is None else None
        if text is not None or request.embeds:
            assessment = self._texts.assess(request.query() if text is None else text, explain=request.explain)
            return Standing(assessment, assessment.tier, text=text)
        tool_bytes = 0 if tools is None else len(memoryview(tools))
        judged = self._conversations.judge(messages, tool_bytes, explain=request.explain)
        return Standing(judged.assessment, judged.tier, judged.why)

    def answered(self, record: Record) -> None:
        """The request is over: who answered it is preferred for the next turn."""
        target = self._marks.get((record.provider, record.model))
        if target is not None and record.status in ("ok", "cancelled"):
            self._table.answered(record.conversation, target, self._clock(), self._ttl_s)

    def _key_of(self, request: ChatRequest, record: Record, text: str | None) -> int:
        if request.session:
            return named(record.tenant, record.key_name, request.session)
        messages, cached = request.messages, request.body.get("prompt_cache_key")
        if cached is not None:
            # What its caller takes to share a provider's cache. It may span conversations: no tier is kept by it.
            return named(record.tenant, record.key_name, f"prompt_cache_key {bytes(cached)!r}")
        system = messages[0].text() if messages[0].role in ("system", "developer") else ""
        return beginning(record.tenant, record.key_name, system, first_words(messages) if text is None else text)

    async def keep(self, standing: Standing, stay: Stay) -> None:
        """The tier of a named conversation: it counts where the request does not hold its earlier turns."""
        own, known, pinned = standing.tier, standing.known, self._mode == "pinned"
        kept = own if known is None or not (pinned or _above(known, own)) else known
        if self._elsewhere is not None:
            kept = await self._elsewhere.raised(stay.conversation, kept, self._ttl_s, pinned=pinned) or kept
        if kept != own:
            lead = standing.why or f"score {standing.assessment.score:.2f} asks for {own}"
            standing.why = f"{lead}, kept at {kept} by its session"
            standing.tier = kept
        target = self._marks_by_place[stay.before] if stay.before >= 0 else 0
        self._table.keep(stay.conversation, target, kept, self._clock())


def _above(one: Tier, other: Tier) -> bool:
    return TIERS.index(one) > TIERS.index(other)
