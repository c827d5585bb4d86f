"""How hard a conversation is at its last turn, and what its earlier turns say about the tier. Pure but for its memory.

The last turn of the user is judged. A follow-up is as hard as the turn that it goes on with. The floor is the highest
tier that an earlier turn asked for; as clients send the whole conversation each time it is found anew wherever a
request lands, and no worker or machine needs to know another. Scores of turns are remembered, texts never.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Final, Literal, TypeAlias

import msgspec

from model_gateway.assess.assessor import Assessor
from model_gateway.assess.subject import Turn, results_in, turn_of
from model_gateway.assess.wrappers import is_plain
from model_gateway.config.complexity import ComplexityThresholds
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
    """`strength`: the place of its tier, and its score."""

    assessment: Assessment
    follow_up: bool
    strength: tuple[int, float]


_Found: TypeAlias = tuple[_Known, Message, int]  # a turn, its message, and how many results of tools came before it
_NOTHING = _Known(Assessment(0.0, Tier.LOCAL), follow_up=False, strength=(0, 0.0))
_RESULT_ROLES = frozenset(("tool", "function"))
_SYSTEM_ROLES = frozenset(("system", "developer"))
_first = itemgetter(0)


def plain_text(messages: Sequence[Message]) -> str | None:
    """The text of a request that is one plain turn: there is nothing else to judge."""
    last = messages[-1]
    text = last.content
    if type(text) is not str or last.role != "user" or not is_plain(text):
        return None
    many = len(messages)
    return text if many == 1 or (many == 2 and messages[0].role in _SYSTEM_ROLES) else None


class ConversationAssessor:
    """`assessor` judges texts; what is remembered is forgotten with this object."""

    def __init__(self, assessor: Assessor, thresholds: ComplexityThresholds, mode: Mode) -> None:
        self._assessor = assessor
        self._low, self._high = thresholds.low, thresholds.high
        self._mode = mode
        self._memory: dict[int, _Known] = {}

    def judge(self, messages: Sequence[Message], tool_bytes: int, *, explain: bool) -> Judged:
        """`tool_bytes`: how long the definitions of the tools are that may be called."""
        found = self._turns(messages, tool_bytes)
        if not found:
            # Nothing but material: as it stands.
            assessment = self._assessor.assess(_raw(messages), explain=explain)
            return Judged(assessment, assessment.tier, turns=0)
        at = self._subject(found)
        known, message, results = found[at]
        assessment = known.assessment
        if explain:
            assessment = self._assessed(turn_of(message, results) or Turn(""), tool_bytes, explain=True)
        tier, why = assessment.tier, ""
        if at < len(found) - 1:
            why = f"score {assessment.score:.2f} of the turn it follows asks for {tier}"
        if len(found) > 1 and self._mode != "free":
            tier, why = self._kept(found, assessment, why)
        return Judged(assessment, tier, why, len(found))

    def subject(self, messages: Sequence[Message]) -> str:
        """The words that will most likely be judged: those of the last turn that is no follow-up."""
        for message in reversed(messages):
            turn = turn_of(message, 0) if message.role == "user" else None
            if turn is not None and not turn.is_follow_up():
                return turn.words
        return _raw(messages)

    def _turns(self, messages: Sequence[Message], tool_bytes: int) -> list[_Found]:
        found: list[_Found] = []
        memory = self._memory
        results = 0
        for message in messages:
            if message.role != "user":
                if message.role in _RESULT_ROLES:
                    results += 1
                continue
            content = message.content
            if isinstance(content, list):
                results += results_in(message)
                key = hash((tuple([(part.type, part.text) for part in content]), results, tool_bytes))
            else:
                key = hash((content, results, tool_bytes))
            known = memory.get(key) or self._learned(key, message, results, tool_bytes)
            if known is not _NOTHING:
                found.append((known, message, results))
        return found[-MAX_TURNS:] if len(found) > MAX_TURNS else found

    def _subject(self, found: Sequence[_Found]) -> int:
        """The last turn; where that is a follow-up, the turn that it follows if that is harder."""
        at = last = len(found) - 1
        while at and found[at][0].follow_up:
            at -= 1
        return at if found[at][0].assessment.score > found[last][0].assessment.score else last

    def _kept(self, found: Sequence[_Found], own: Assessment, why: str) -> tuple[Tier, str]:
        """The tier that the conversation keeps, and why."""
        if self._mode == "pinned":
            pinned = found[0][0].assessment.tier
            if pinned == own.tier:
                return pinned, why
            lead = why or _asks(own)
            return pinned, f"{lead}, pinned to {pinned} by this conversation's first turn"
        strength, floor = max([(known.strength, known.assessment) for known, _, _ in found[:-1]], key=_first)
        if strength[0] <= TIERS.index(own.tier):
            return own.tier, why
        lead = why or _asks(own)
        return floor.tier, f"{lead}, kept at {floor.tier} by an earlier turn of this conversation ({floor.score:.2f})"

    # --- one turn --------------------------------------------------------------------------------------------------

    def _learned(self, key: int, message: Message, results: int, tool_bytes: int) -> _Known:
        known, memory = _NOTHING, self._memory
        turn = turn_of(message, results)
        if turn is not None:
            own = self._assessed(turn, tool_bytes, explain=False)
            known = _Known(own, turn.is_follow_up(), (TIERS.index(own.tier), own.score))
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


def _asks(own: Assessment) -> str:
    return f"score {own.score:.2f} asks for {own.tier}"


def _raw(messages: Sequence[Message]) -> str:
    for message in reversed(messages):
        if message.role == "user":
            return message.text()
    return messages[-1].text()
