"""Token counts: about for every request, exactly by a vocabulary, and in bounded time for anything."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_gateway.budget import tokens
from model_gateway.budget.tokens import EXACT_CHARACTERS, about, count, most


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", 0, 0),
        ("a", 1, 1),
        ("Please explain the basic principles of quantum computing to a child.", 11, 18),  # o200k: 12
        ("解释一下量子计算的基本原理", 8, 14),  # o200k: 8, cl100k: 14
        ("Объясните основные принципы квантовых вычислений", 10, 26),
        ("😀", 1, 3),
        ("\ud800", 1, 2),
    ],
)
def test_a_quick_count_is_near_the_truth(text: str, low: int, high: int) -> None:
    assert low <= about(text) <= high


@pytest.mark.parametrize(
    ("text", "model", "exact"),
    [
        ("", "gpt-4o", 0),
        ("tiktoken is great!", "gpt-4o", 6),  # the vendor's own examples
        ("tiktoken is great!", "gpt-4", 6),
        ("お誕生日おめでとう", "openai/gpt-4o", 8),
        ("お誕生日おめでとう", "gpt-4", 9),
        ("antidisestablishmentarianism", "gpt-3.5-turbo", 6),
        ("解释一下量子计算的基本原理", "", 9),
        ("解释一下量子计算的基本原理", "gpt-4-turbo", 13),
        ("解释一下量子计算的基本原理", "deepseek-chat", 6),
    ],
)
def test_a_models_own_vocabulary_counts(text: str, model: str, exact: int) -> None:
    assert count(text, model) == exact


MODELS = [
    "", "gpt-4", "qwen3-max", "claude-sonnet-4-5", "llama-3.1-8b", "mistral-small", "glm-4.6", "deepseek-chat",
    "kimi-k2", "gemma-3",
]  # fmt: skip


@settings(deadline=None)  # the first text of a vocabulary loads it
@given(st.text(), st.sampled_from(MODELS))
def test_anything_is_counted_and_never_more_than_most(text: str, model: str) -> None:
    assert 0 <= count(text, model) <= most(text)


def test_most_holds_for_characters_that_grow_when_they_are_normalised() -> None:
    def grows(char: str) -> bool:
        return any(len(unicodedata.normalize(form, char).encode()) > len(char.encode()) for form in ("NFC", "NFKC"))

    growing = [char for char in map(chr, range(sys.maxunicode + 1)) if not "\ud800" <= char <= "\udfff" and grows(char)]
    assert len(growing) > 500
    for model in MODELS:
        for char in growing:
            assert count(char * 5, model) <= most(char * 5)


@pytest.mark.parametrize(
    "text",
    ["a" * 60_000, "\x00" * 60_000, "\x00" * 50_000 + "中" * 20_000, "中" * 50_000 + "\x00" * 9, "\u0958" * 60_000],
)
def test_most_holds_for_what_is_only_estimated(text: str) -> None:
    for model in MODELS:
        assert count(text, model) <= most(text)


@given(st.text())
def test_most_is_more_than_about(text: str) -> None:
    assert about(text) <= most(text)


def test_a_huge_text_is_counted_in_bounded_time_and_nearly() -> None:
    text = "The quick brown fox jumps over the lazy dog, 42 times. " * 40_000
    begun = time.perf_counter()
    found = count(text)
    assert time.perf_counter() - begun < 0.5
    exact = 14 * 40_000
    assert abs(found - exact) / exact < 0.01
    assert count("a" * 1_000_000) > 0 and len(text) > EXACT_CHARACTERS


@pytest.mark.parametrize("model", MODELS)
def test_every_vocabulary_counts_on_and_on(model: str) -> None:
    text = "The quick brown fox. " * 1_000
    assert {count(text, model) for _ in range(3)} == {count(text, model)} != {0}


def test_what_the_vocabulary_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MAX_CHUNKS", 100)
    for start in range(0, 3_000, 50):
        count(" ".join(f"word{n}x" for n in range(start, start + 50)))
    assert tokens._vocabulary("o200k_base").vocabulary.cache_len <= 100 + 200  # pyright: ignore[reportPrivateUsage]
