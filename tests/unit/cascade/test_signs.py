"""Refusals and loops, by wording alone: what must be found, and what must not."""

from __future__ import annotations

import time

import pytest

from model_gateway.cascade import signs

REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I’m sorry, I cannot assist with this request.",
    "Sorry, I am unable to provide medical advice.",
    "Unfortunately, as a text model I cannot browse the web.",
    "As an AI language model, I don't have personal opinions.",
    "I don't know.",
    "I do not have access to current weather data.",
    "I am not able to answer this question.",
    "I won't be able to help with that.",
    "抱歉，我无法回答这个问题。",
    "对不起，我不能提供这方面的帮助。",
    "作为一个人工智能语言模型，我没有个人观点。",
    "我不知道。",
    "很抱歉，我目前没有办法完成这个任务。",
)
ANSWERS = (
    "The capital of France is Paris.",
    "I'm sorry to hear that. Try restarting the router.",
    "You cannot divide by zero.",
    "A lease cannot be ended early unless both sides agree.",
    "I can help with that: first, open the settings.",
    "法国的首都是巴黎。",
    "不能把酸倒进水里之外的容器。",
    "AI is a field of computer science.",
    "抱歉的英文是 sorry。",
    '{"name": "Anna"}',
    "42",
)


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_found(text: str) -> None:
    assert signs.refuses(text) and signs.refuses("\n  " + text.upper())


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_are_none(text: str) -> None:
    assert not signs.refuses(text) and not signs.repeats(text)


def test_a_refusal_far_inside_is_about_something() -> None:
    assert not signs.refuses("The model may say things such as these. " * 10 + "I'm sorry, I can't help with that.")


@pytest.mark.parametrize(
    "text",
    [
        "It begins well. " + "and the end of " * 12,
        "答案是这样的，" * 12,
        "a" * 80,
        "The sun is a star. It is hot.\n" * 5,
        "First one thing.\nThe same old sentence here.\n" + "The same old sentence here.\nOther.\n" * 4,
    ],
)
def test_loops_are_found(text: str) -> None:
    assert signs.repeats(text)


@pytest.mark.parametrize(
    "text",
    [
        "1. one\n2. two\n3. three\n4. four\n5. five\n6. six\n7. seven\n8. eight\n9. nine\n10. ten",
        "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
        "Ha ha ha ha!",
        "def f(x):\n    return x\n\n\ndef g(x):\n    return f(x)\n",
        "Paris is in France. Rome is in Italy. Oslo is in Norway. Bern is in Switzerland. Riga is in Latvia.",
    ],
)
def test_lists_and_tables_are_no_loops(text: str) -> None:
    assert not signs.repeats(text)


def test_words_are_counted_in_both_languages() -> None:
    assert signs.words("It is four words") == 4
    assert signs.words("今天天气很好") == 6
    assert signs.words("用 Python 3 写") == 4
    assert signs.words(" \n*** ") == 0


def test_a_huge_answer_takes_no_time() -> None:
    begun = time.process_time()
    for text in ("ab" * 500_000 + "c", "I " * 500_000, "这" * 1_000_000):
        signs.repeats(text)
        signs.refuses(text)
    assert time.process_time() - begun < 1.0
