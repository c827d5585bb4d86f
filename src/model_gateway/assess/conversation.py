"""How hard a conversation is at its last turn, and what its earlier turns say about the tier. Pure but for its memory.

The last turn of the user is judged. A follow-up is as hard as the turn that it goes on with. The floor is the highest
tier that an earlier turn asked for; as clients send the whole conversation each time it is found anew wherever a
request lands, and no worker or machine needs to know another. Scores of turns are remembered, texts never.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from model_gateway.assess.assessor import Assessor
from model_gateway.assess.subject import Turn, results_in, turn_of
from model_gateway.assess.wrappers import is_plain
from model_gateway.config.schema import ComplexityThresholds
from model_gateway.domain.chat import Message
from model_gateway.domain.route import TIERS, Assessment, Factor, Tier

MAX_TURNS: Final = 200
"""The newest turns that are looked at: judging so many anew takes milliseconds."""

REMEMBERED: Final = 4_096
"""Turns whose scores are remembered; then the older half is forgotten."""

Mode = Literal["up_only", "free", "pinned"]


class Judged(msgspec.Struct, frozen=True):
    """`tier` is what is asked for; `why` says it where the score alone does not. `turns` of the user, this included."""

    assessment: Assessment
    tier: Tier
    why: str = ""
    turns: int = 1


class _Known(msgspec.Struct, frozen=True):
    assessment: Assessment
    follow_up: bool


_NOTHING = _Known(Assessment(0.0, Tier.LOCAL), follow_up=False)


class ConversationAssessor:
    """`assessor` judges texts; what is remembered is forgotten with this object."""

    def __init__(self, assessor: Assessor, thresholds: ComplexityThresholds, mode: Mode) -> None:
        self._assessor = assessor
        self._low, self._high = thresholds.low, thresholds.high
        self._mode = mode
        self._memory: dict[int, _Known] = {}

    def judge(self, messages: Sequence[Message], tool_bytes: int, *, explain: bool) -> Judged:
        """`tool_bytes`: how long the definitions of the tools are that may be called."""
        last = messages[-1]
        text = last.content
        if not tool_bytes and type(text) is str and last.role == "user" and _alone(messages) and is_plain(text):
            assessment = self._assessor.assess(text, explain=explain)
            return Judged(assessment, assessment.tier)
        return self._judge(messages, tool_bytes, explain=explain)

    def _judge(self, messages: Sequence[Message], tool_bytes: int, *, explain: bool) -> Judged:
        found: list[tuple[_Known, Message, int]] = []
        results = 0
        for message in messages:
            if message.role != "user":
                results += message.role in ("tool", "function")
                continue
            results += results_in(message)
            known = self._known(message, results, tool_bytes)
            if known is not _NOTHING:
                found.append((known, message, results))
        if not found:
            # Nothing but material: as it stands.
            assessment = self._assessor.assess(_raw(messages), explain=explain)
            return Judged(assessment, assessment.tier, turns=0)
        del found[:-MAX_TURNS]
        at = self._subject(found)
        known, message, results = found[at]
        assessment = known.assessment
        if explain:
            assessment = self._assessed(_turn(message, results), tool_bytes, explain=True)
        why = (
            ""
            if at == len(found) - 1
            else f"score {assessment.score:.2f} of the turn it follows asks for {assessment.tier}"
        )
        tier, why = self._kept([known.assessment for known, _, _ in found[:-1]], assessment, why)
        return Judged(assessment, tier, why, len(found))

    def _subject(self, found: Sequence[tuple[_Known, Message, int]]) -> int:
        """The last turn; where that is a follow-up, the turn that it follows if that is harder."""
        at = last = len(found) - 1
        while at and found[at][0].follow_up:
            at -= 1
        return at if found[at][0].assessment.score > found[last][0].assessment.score else last

    def _kept(self, earlier: Sequence[Assessment], own: Assessment, why: str) -> tuple[Tier, str]:
        if not earlier or self._mode == "free":
            return own.tier, why
        lead = why or f"score {own.score:.2f} asks for {own.tier}"
        if self._mode == "pinned":
            pinned = earlier[0].tier
            return (
                pinned,
                why if pinned == own.tier else f"{lead}, pinned to {pinned} by this conversation's first turn",
            )
        floor = max(earlier, key=_strength)
        if TIERS.index(floor.tier) <= TIERS.index(own.tier):
            return own.tier, why
        return floor.tier, f"{lead}, kept at {floor.tier} by an earlier turn of this conversation ({floor.score:.2f})"

    # --- one turn --------------------------------------------------------------------------------------------------

    def _known(self, message: Message, results: int, tool_bytes: int) -> _Known:
        content = message.content
        if isinstance(content, list):
            key = hash((tuple([(part.type, part.text) for part in content]), results, tool_bytes))
        else:
            key = hash((content, results, tool_bytes))
        memory = self._memory
        known = memory.get(key)
        if known is None:
            turn = turn_of(message, results)
            if turn is None:
                known = _NOTHING
            else:
                known = _Known(self._assessed(turn, tool_bytes, explain=False), turn.is_follow_up())
            if len(memory) >= REMEMBERED:
                for old in [*memory][: REMEMBERED // 2]:
                    del memory[old]
            memory[key] = known
        return known

    def _assessed(self, turn: Turn, tool_bytes: int, *, explain: bool) -> Assessment:
        """The score of the words, raised by what weighs on the turn. Its tier is never below that of the words."""
        own = self._assessor.assess(turn.words, explain=explain)
        weight = turn.weight(tool_bytes)
        if not weight:
            return own
        raised = (1.0 - own.score) * weight
        score = own.score + raised
        reached = Tier.LOCAL if score < self._low else Tier.HYBRID if score < self._high else Tier.REMOTE
        tier = max(own.tier, reached, key=TIERS.index)
        factors = own.factors
        if explain:
            factors = (*factors, Factor("around_the_words", weight, raised, turn.weighs(tool_bytes)))
        return msgspec.structs.replace(own, score=score, tier=tier, factors=factors)


def _alone(messages: Sequence[Message]) -> bool:
    return len(messages) == 1 or (len(messages) == 2 and messages[0].role in ("system", "developer"))


def _strength(assessment: Assessment) -> tuple[int, float]:
    return TIERS.index(assessment.tier), assessment.score


def _turn(message: Message, results: int) -> Turn:
    return turn_of(message, results) or Turn("")


def _raw(messages: Sequence[Message]) -> str:
    for message in reversed(messages):
        if message.role == "user":
            return message.text()
    return messages[-1].text()
