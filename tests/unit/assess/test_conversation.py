from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.assess.conversation import MAX_TURNS, ConversationAssessor, Mode
from model_gateway.assess.features import FeatureAssessor
from model_gateway.config.complexity import ComplexityConfig
from model_gateway.domain.chat import Message, Part
from model_gateway.domain.route import TIERS, Tier

EASY = "What's the weather like today?"
MIDDLE = "Explain the basic principles of quantum computing"
HARD = (
    "Please analyse in detail the application of AI in medicine, including technical principles, ethical issues, "
    "regulatory challenges and the outlook for the next ten years, with concrete cases"
)
CONFIG = ComplexityConfig()
TEXTS = FeatureAssessor(CONFIG)


def assessor(mode: Mode = "up_only") -> ConversationAssessor:
    return ConversationAssessor(TEXTS, CONFIG.thresholds, mode)


def said(*turns: str) -> list[Message]:
    """The user's turns, each but the last answered."""
    found = [Message(role="system", content="You are helpful")]
    for turn in turns:
        found += [Message(role="user", content=turn), Message(role="assistant", content="Certainly.")]
    return found[:-1]


def tiers(mode: Mode, *turns: str) -> list[Tier]:
    judge = assessor(mode)
    return [judge.judge(said(*turns[: n + 1]), 0, explain=False).tier for n in range(len(turns))]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("up_only", ["local", "hybrid", "hybrid", "remote", "remote", "remote"]),
        ("free", ["local", "hybrid", "local", "remote", "local", "hybrid"]),
        ("pinned", ["local"] * 6),
    ],
)
def test_easy_hard_easy(mode: Mode, expected: list[str]) -> None:
    assert tiers(mode, EASY, MIDDLE, EASY, HARD, EASY, MIDDLE) == expected


def test_the_reason_is_told() -> None:
    kept = assessor().judge(said(HARD, EASY), 0, explain=False)
    assert kept.assessment.tier == Tier.LOCAL
    assert kept.why.startswith(f"score {kept.assessment.score:.2f} asks for local, kept at remote by an earlier turn")
    assert assessor().judge(said(EASY, HARD), 0, explain=False).why == ""
    assert "pinned to local" in assessor("pinned").judge(said(EASY, HARD), 0, explain=False).why


@pytest.mark.parametrize("follow_up", ["and why?", "继续", "为什么？", "go on"])
@pytest.mark.parametrize("mode", ["up_only", "free"])
def test_a_follow_up_is_as_hard_as_what_it_follows(mode: Mode, follow_up: str) -> None:
    alone = TEXTS.assess(HARD)
    judged = assessor(mode).judge(said(EASY, HARD, follow_up, follow_up), 0, explain=True)
    assert judged.assessment == alone
    assert judged.tier == Tier.REMOTE
    assert "of the turn it follows asks for remote" in judged.why
    first = assessor(mode).judge(said(follow_up), 0, explain=False)
    assert first.assessment.score == TEXTS.assess(follow_up).score


def test_one_message_is_judged_as_it_always_was() -> None:
    for text in (EASY, MIDDLE, HARD):
        for messages in (said(text), said(text)[1:]):
            judged = assessor().judge(messages, 0, explain=True)
            assert judged.assessment == TEXTS.assess(text)
            assert judged.why == ""


# --- what weighs -----------------------------------------------------------------------------------------------------


def scored(messages: Sequence[Message], tool_bytes: int = 0) -> float:
    judged = assessor().judge(messages, tool_bytes, explain=True)
    assert sum(factor.contribution for factor in judged.assessment.factors) == pytest.approx(judged.assessment.score)
    return judged.assessment.score


def test_tools_results_files_and_material_raise_a_little_and_never_lower() -> None:
    plain = scored(said(MIDDLE))
    by_tools = [scored(said(MIDDLE), size) for size in (1, 1_000, 10_000, 1_000_000)]
    assert plain < by_tools[0] < by_tools[1] < by_tools[2] == by_tools[3] < plain + 0.1
    wrapped = [
        scored(said(f"<system-reminder>{'x ' * size}</system-reminder>{MIDDLE}")) for size in (10, 5_000, 99_999)
    ]
    assert plain < wrapped[0] < wrapped[1] < wrapped[2] < plain + 0.1
    files = [Part(type="file"), Part(type="text", text=MIDDLE)]
    with_files = [Message(role="user", content=files[:1] * count + files[1:]) for count in (1, 3, 9)]
    by_files = [scored([message]) for message in with_files]
    assert plain < by_files[0] < by_files[1] == by_files[2] < plain + 0.1


def test_pictures_do_not_change_the_score_of_the_text() -> None:
    for kind in ("image", "image_url", "input_image"):
        parts = [Part(type=kind), Part(type="text", text=MIDDLE)]
        assert scored([Message(role="user", content=parts)]) == scored(said(MIDDLE))


def loop_of(schema: str, count: int) -> list[Message]:
    """An agent's loop: the model calls, results come back."""
    call = Message(role="assistant", content=None)
    text = "def f(): ... " * 50
    results = {
        "openai": Message(role="tool", content=text),
        "anthropic": Message(role="user", content=[Part(type="tool_result", text=text)]),
        "gemini": Message(role="user", content=[Part(type="function", text=text)]),
        "responses": Message(role="user", content=[Part(type="function_call_output", text=text)]),
        "as text": Message(role="user", content=[Part(type="text", text="[read_file for 'a'] Result:"),
                                                 Part(type="text", text=text)]),
        "with a reminder": Message(role="user", content=[
            Part(type="tool_result", text=text),
            Part(type="text", text="<system-reminder>analyse all risks in detail</system-reminder>"),
        ]),
    }  # fmt: skip
    return [call, results[schema]] * count


@pytest.mark.parametrize("schema", ["openai", "anthropic", "gemini", "responses", "as text", "with a reminder"])
@pytest.mark.parametrize("mode", ["up_only", "free", "pinned"])
def test_a_loop_of_results_keeps_the_score_of_the_turn_that_began_it(schema: str, mode: Mode) -> None:
    judge = assessor(mode)
    for opening in (EASY, MIDDLE, HARD):
        begun = judge.judge(said(opening), 500, explain=False)
        for count in (1, 2, 30):
            within = judge.judge([*said(opening), *loop_of(schema, count)], 500, explain=False)
            assert (within.tier, within.assessment) == (begun.tier, begun.assessment)


def test_results_before_a_turn_weigh_on_it() -> None:
    before = [*said(EASY), *loop_of("openai", 10), Message(role="assistant", content="Done.")]
    assert scored([*before, Message(role="user", content=MIDDLE)]) > scored(said(EASY, MIDDLE))


def test_material_alone_is_judged_as_it_stands() -> None:
    only = "<context>What's the weather like today?</context>"
    assert assessor().judge(said(only), 0, explain=False).assessment.score == TEXTS.assess(only).score
    # But it is no turn of a conversation that has some.
    aside = f"<context>{HARD}</context>"
    assert tiers("up_only", aside, EASY)[1] == Tier.LOCAL


# --- for any conversation --------------------------------------------------------------------------------------------

TURNS = st.lists(
    st.sampled_from([EASY, MIDDLE, HARD, "and why?", "继续", "好的", f"<context>{HARD}</context>"])
    | st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=80),
    min_size=1,
    max_size=12,
)


@given(TURNS, st.integers(0, 20_000), st.booleans())
def test_the_tier_never_falls_wherever_the_requests_land(turns: list[str], tool_bytes: int, loops: bool) -> None:
    machines = [assessor(), assessor()]
    messages: list[Message] = []
    before = -1
    for number, turn in enumerate(turns):
        messages.append(Message(role="user", content=turn))
        for place in range(3 if loops else 1):
            judged = machines[(number + place) % 2].judge(messages, tool_bytes, explain=False)
            fresh = assessor().judge(messages, tool_bytes, explain=False)
            assert judged == fresh, "what is remembered changes nothing"
            assert TIERS.index(judged.tier) >= TIERS.index(judged.assessment.tier)
            if judged.turns:
                assert TIERS.index(judged.tier) >= before
                before = TIERS.index(judged.tier)
            if loops:
                messages += loop_of("anthropic", 1)
        messages.append(Message(role="assistant", content="An answer."))


def test_what_is_looked_at_and_remembered_is_bounded() -> None:
    judge = assessor()
    turns = [f"What is {number} plus one?" for number in range(MAX_TURNS + 50)]
    assert judge.judge(said(*turns), 0, explain=False).turns == MAX_TURNS
    for start in range(0, 6_000, 200):
        judge.judge(said(*[f"What is {start + number} times two?" for number in range(200)]), 0, explain=False)
    assert len(judge._memory) <= 4_096  # pyright: ignore[reportPrivateUsage]
