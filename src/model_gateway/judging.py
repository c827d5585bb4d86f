"""How hard a request is within its conversation, and who answered there before: what routing is asked with.

Puts together the scores of its turns (assess) and what is remembered (sessions). Awaits only another machine's memory,
for conversations that their callers have named. Chooses no target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from model_gateway.assess.assessor import Assessor
from model_gateway.assess.conversation import ConversationAssessor, Judged
from model_gateway.assess.subject import first_words
from model_gateway.budget.charges import earlier_tokens
from model_gateway.config.schema import ComplexityThresholds
from model_gateway.config.session import SessionConfig
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.record import Record
from model_gateway.domain.route import TIERS, Assessment, Tier
from model_gateway.routing.router import Router
from model_gateway.sessions.identity import beginning, named
from model_gateway.sessions.table import SessionTable

CACHED_S: Final = 600.0
"""Seconds after a turn in which its provider's prompt cache likely still holds it: vendors say five to ten minutes."""

MIN_CACHED_TOKENS: Final = 1_024
"""Vendors cache no shorter beginnings."""


class SharedSessions(Protocol):
    """The tiers of named conversations over several machines."""

    async def raised(self, key: int, tier: Tier, ttl_s: int, *, pinned: bool) -> Tier | None:
        """The conversation's tier, `tier` counted in; None where nobody answers."""
        ...


class Standing(msgspec.Struct):
    """`key`: the conversation, 0 where nothing is remembered of it; `named` by its caller. `stays`: the place of the
    target that answered before, -1 for none; `cached_tokens` that its provider's prompt cache likely holds.
    """

    assessment: Assessment
    tier: Tier
    why: str = ""
    key: int = 0
    named: bool = False
    stays: int = -1
    cached_tokens: int = 0


class Judge:
    """`clock`: the same in all processes that share `table`."""

    def __init__(
        self,
        assessor: Assessor,
        thresholds: ComplexityThresholds,
        config: SessionConfig,
        router: Router,
        table: SessionTable,
        elsewhere: SharedSessions | None,
        clock: Callable[[], float],
    ) -> None:
        self._texts = assessor
        self._conversations = ConversationAssessor(assessor, thresholds, config.tier)
        self._mode = config.tier
        self._stays = config.stay and router.has_choice
        self._ttl_s = config.ttl
        self._marks, self._places = router.marks, router.places
        self._table = table
        self._elsewhere = elsewhere
        self._clock = clock

    def alone(self, request: ChatRequest) -> Standing:
        """Without what is remembered, and without being remembered."""
        if request.embeds:
            assessment = self._texts.assess(request.query(), explain=request.explain)
            return Standing(assessment, assessment.tier)
        judged = self._judged(request)
        return Standing(judged.assessment, judged.tier, judged.why)

    async def stand(self, request: ChatRequest, record: Record) -> Standing:
        standing = self.alone(request)
        if request.embeds or not (request.session or self._stays):
            return standing
        standing.key = record.conversation = self._key_of(request, record)
        now = self._clock()
        known = self._table.find(standing.key, now, self._ttl_s)
        if known is not None and self._stays:
            standing.stays = self._places.get(known.target, -1)
            if standing.stays >= 0 and now - known.when <= CACHED_S:
                tokens = earlier_tokens(request)
                standing.cached_tokens = tokens if tokens >= MIN_CACHED_TOKENS else 0
        if request.session and self._mode != "free":
            standing.named = True
            await self._raise(standing, known.tier if known is not None else None)
            self._table.keep(standing.key, known.target if known is not None else 0, standing.tier, now)
        return standing

    def answered(self, record: Record) -> None:
        """The request is over: who answered it is preferred for the next turn."""
        key, target = record.conversation, self._marks.get((record.provider, record.model))
        if not key or target is None or record.status not in ("ok", "cancelled"):
            return
        now = self._clock()
        known = self._table.find(key, now, self._ttl_s)
        self._table.keep(key, target, known.tier if known is not None else None, now)

    def _judged(self, request: ChatRequest) -> Judged:
        tools = request.body.get("tools")
        return self._conversations.judge(
            request.messages, 0 if tools is None else len(memoryview(tools)), explain=request.explain
        )

    def _key_of(self, request: ChatRequest, record: Record) -> int:
        if request.session:
            return named(record.tenant, record.key_name, request.session)
        messages, cached = request.messages, request.body.get("prompt_cache_key")
        if cached is not None:
            # What its caller takes to share a provider's cache. It may span conversations: no tier is kept by it.
            return named(record.tenant, record.key_name, f"prompt_cache_key {bytes(cached)!r}")
        system = messages[0].text() if messages[0].role in ("system", "developer") else ""
        return beginning(record.tenant, record.key_name, system, first_words(messages))

    async def _raise(self, standing: Standing, known: Tier | None) -> None:
        """The tier of a named conversation counts where the request does not hold its earlier turns."""
        own, pinned = standing.tier, self._mode == "pinned"
        kept = own if known is None or not (pinned or _above(known, own)) else known
        if self._elsewhere is not None:
            kept = await self._elsewhere.raised(standing.key, kept, self._ttl_s, pinned=pinned) or kept
        if kept != own:
            lead = standing.why or f"score {standing.assessment.score:.2f} asks for {own}"
            standing.why = f"{lead}, kept at {kept} by its session"
            standing.tier = kept


def _above(one: Tier, other: Tier) -> bool:
    return TIERS.index(one) > TIERS.index(other)
