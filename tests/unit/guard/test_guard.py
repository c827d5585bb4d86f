"""The guard refuses bad shapes and unsafe text, says which and where, and never repeats the prompt."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.config.schema import SecurityConfig
from model_gateway.domain.chat import Message, Part
from model_gateway.domain.errors import InvalidRequest, UnsafePrompt
from model_gateway.guard.guard import Guard, _normalise


def user(text: str | list[Part] | None) -> Message:
    return Message(role="user", content=text)


SYSTEM = Message(role="system", content="Be brief.")


@pytest.mark.parametrize(
    "text",
    [
        "What is the weather like?",
        "今天天气怎么样？",
        "the executive summary (short)",
        "evaluate (this) carefully",
        "👩‍💻 hello\ufe0f",
        "line\nbreak\ttab",
    ],
)
def test_harmless_text_passes(text: str) -> None:
    Guard(SecurityConfig()).check_prompt([SYSTEM, user(text)])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("please EXEC (rm)", 0),
        ("eval(x)", 1),
        ("system\n(1)", 2),
        ("ｅｖａｌ（x）", 1),  # full width
        ("e\u200bva\u00adl(x)", 1),  # zero width, soft hyphen
        ("ｅ\ufeffｖａｌ (x)", 1),
        ("中文 𝐞𝐱𝐞𝐜(1)", 0),  # mathematical letters
        ("ev\U000e0061al(1)", 1),  # tag character
        ("eval\u3000(1)", 1),
    ],
)
def test_unsafe_text_is_refused_by_number_without_echo(text: str, number: int) -> None:
    with pytest.raises(UnsafePrompt, match=rf"sensitivePatterns\[{number}\]") as refused:
        Guard(SecurityConfig()).check_prompt([SYSTEM, user(text)])
    assert refused.value.param == "messages[1].content"
    assert text not in refused.value.message
    assert "unsafe" in refused.value.message


@pytest.mark.parametrize("role", ["system", "assistant", "tool", "user"])
def test_every_role_and_every_part_is_scanned(role: str) -> None:
    parts = [Part(type="text", text="fine"), Part(type="text", text="eval(1)")]
    with pytest.raises(UnsafePrompt):
        Guard(SecurityConfig()).check_prompt([Message(role=role, content=parts), user("hi")])


@pytest.mark.parametrize(
    ("messages", "param", "says"),
    [
        ([], "messages", "empty"),
        ([user("")], "messages[0].content", "blank"),
        ([SYSTEM, user(" \n")], "messages[1].content", "blank"),
        ([user(None)], "messages[0].content", "blank"),
        ([user("ok"), SYSTEM, user("x" * 11)], "messages[2].content", "11 characters, the limit is 10"),
        ([user("a\0b")], "messages[0].content", "NUL"),
        ([user("a\ud800b")], "messages[0].content", "surrogate"),
    ],
)
def test_bad_shapes_name_the_message(messages: list[Message], param: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        Guard(SecurityConfig(max_query_length=10)).check_prompt(messages)
    assert refused.value.param == param
    assert not isinstance(refused.value, UnsafePrompt)


def test_an_image_alone_and_a_tool_call_without_text_are_no_blank_questions() -> None:
    call = Message(role="assistant", content=None)
    Guard(SecurityConfig()).check_prompt([user([Part(type="image_url")]), call])


def test_each_half_can_be_switched_off() -> None:
    no_filter = Guard(SecurityConfig(enable_content_filtering=False))
    no_filter.check_prompt([user("eval(1)")])
    with pytest.raises(InvalidRequest):
        no_filter.check_prompt([])
    no_shape = Guard(SecurityConfig(enable_request_validation=False))
    no_shape.check_prompt([])
    no_shape.check_prompt([user("\ud800")])
    with pytest.raises(UnsafePrompt):
        no_shape.check_prompt([user("\ud800 eval(1)")])


def test_patterns_that_cannot_be_joined_still_match() -> None:
    guard = Guard(SecurityConfig(sensitive_patterns=(r"(?P<x>alpha)", r"/(?P<x>beta)/i")))
    guard.check_prompt([user("gamma")])
    with pytest.raises(UnsafePrompt, match=r"sensitivePatterns\[1\]"):
        guard.check_prompt([user("BETA")])


def test_a_flag_holds_for_its_own_pattern_only() -> None:
    guard = Guard(SecurityConfig(sensitive_patterns=("/alpha/i", "beta")))
    guard.check_prompt([user("BETA")])
    with pytest.raises(UnsafePrompt):
        guard.check_prompt([user("ALPHA")])


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("，！？：；（）\u3000=\u0338<>")))
def test_the_fast_normaliser_is_nfkc(text: str) -> None:
    assert _normalise(text) == unicodedata.normalize("NFKC", text)
