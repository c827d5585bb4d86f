from __future__ import annotations

import time

import pytest

from model_gateway.assess.follow_ups import is_follow_up
from model_gateway.assess.wrappers import LARGE_CHARACTERS, words_of

MUCH = "Evaluate the legal, ethical and clinical consequences in depth. " * 40


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Why is a < b and c > d?", "Why is a < b and c > d?"),
        ("What does the <b>bold</b> tag do?", "What does the <b>bold</b> tag do?"),
        (f"<system-reminder>\n{MUCH}</system-reminder>\nrename x to y", "rename x to y"),
        (f"rename x to y\n<system-reminder>{MUCH}</system-reminder>", "rename x to y"),
        (f"<task>\nrename x\n</task>\n\n<environment_details>\n{MUCH}\n</environment_details>", "rename x"),
        (f"<task>rename x</task>\n\n# progress list\n{MUCH}\n<environmentDetails>a</environmentDetails>", "rename x"),
        (f"<additional_data>{MUCH}</additional_data>\n<user_query>\nrename x\n</user_query>", "rename x"),
        (f"Follow the rules: {MUCH[:90]}\n<userRequest>\nrename x\n</userRequest>", "rename x"),
        (f'<files>\n<file path="a.py">{MUCH}</file>\n</files>\nrename x', "rename x"),
        (f"<file_contents>{MUCH}</file_contents><question>rename x</question>", "rename x"),
        (f"<task>rename x in\n<file_content path='a'>{MUCH}</file_content></task>", "rename x in"),
        (f"<poem>\n{MUCH}\n</poem>\nTranslate it", "Translate it"),
        ("<poem>\nRoses are red\n</poem>\nTranslate it", "<poem>\nRoses are red\n</poem>\nTranslate it"),
        ("Compare both. <question>Which is faster?</question>", "Which is faster?\nCompare both."),
        (
            f"# Context from my IDE setup:\n\n## Open tabs:\n- a\n{MUCH}\n## My request for the agent:\nrename x",
            "rename x",
        ),
        ("<context>\nunclosed and rename x", "<context>\nunclosed and rename x"),
        ("<a><a></a> rename x", "<a><a></a> rename x"),
    ],
)
def test_words_are_told_from_what_a_client_puts_around_them(text: str, words: str) -> None:
    found = words_of(text)
    assert found.text == words
    assert not found.is_result
    assert found.aside == (0 if words == text else len(text) - len(words))


@pytest.mark.parametrize(
    "text",
    [
        f"# AGENTS.md instructions for /home/me\n\n<INSTRUCTIONS>\n{MUCH}</INSTRUCTIONS>",
        f"<environment_context>\n<cwd>/x</cwd>{MUCH}</environment_context>",
        f"<system-reminder>{MUCH}</system-reminder>",
        f"Here are summaries of some files present in my git repository.\n{MUCH}",
        f"I have *added these files to the chat* so you can go ahead and edit them.\n\na.py\n```\n{MUCH}\n```",
    ],
)
def test_a_message_of_material_has_no_words(text: str) -> None:
    assert words_of(text).text == ""
    assert words_of(text).aside == len(text)


@pytest.mark.parametrize("text", ["[read_file for 'a.py'] Result:\nx = 1", "<tool_result>\nx = 1\n</tool_result>"])
def test_a_result_told_as_text_is_no_turn(text: str) -> None:
    assert words_of(text).is_result


@pytest.mark.parametrize(
    "text",
    [
        "and why?",
        "Why?",
        "go on",
        "Continue please.",
        "继续",
        "为什么？",
        "那它呢？",
        "请继续",
        "What about that?",
        "ok",
    ],
)
def test_follow_ups(text: str) -> None:
    assert is_follow_up(text)


@pytest.mark.parametrize(
    "text",
    ["What is the capital of France?", "今天天气怎么样？", "Rename x to y", "Explain the basics of quantum computing",
     "解释一下量子计算的基本原理", MUCH],
)  # fmt: skip
def test_what_stands_for_itself_is_no_follow_up(text: str) -> None:
    assert not is_follow_up(text)


@pytest.mark.parametrize(
    "seed",
    [
        "<a>",
        "<a><b>",
        "</a>",
        "<a ",
        "<",
        "<a1></a2>",
        "# a\n",
        "#" + " " * 50,
        "[a-",
        "<task>",
        "\n",
        "<a>" * 9 + "</a>",
    ],
)
def test_it_is_linear_in_the_text(seed: str) -> None:
    def best_s(characters: int) -> float:
        text = (seed * (characters // len(seed) + 1))[:characters]
        times: list[float] = []
        for _ in range(3):
            begun = time.perf_counter()
            words_of(text)
            times.append(time.perf_counter() - begun)
        return min(times)

    assert best_s(1_000_000) < 1.0


def test_large_is_what_the_table_says() -> None:
    short, long = "x" * 100, "x" * LARGE_CHARACTERS
    assert words_of(f"<poem>{short}</poem>\nTranslate it").aside == 0
    assert words_of(f"<poem>{long}</poem>\nTranslate it").aside > LARGE_CHARACTERS
    assert words_of(f"a <poem>{long}</poem>\nTranslate it").aside == 0  # in a line of the user's own
