"""What is counted by the shortest way is what the definition says: texts are read both ways and compared."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model_gateway.assess.facts import Facts
from model_gateway.assess.reading import (
    BITS,
    HEAD_PIECES,
    STRUCTURE,
    TAIL_PIECES,
    Hashed,
    Words,
    features_of,
    lanes_of,
    places_of,
    sampled,
    structure,
)
from model_gateway.assess.sample import Sample

SEEN = bytes(place % 3 != 0 for place in range(1 << BITS))
WORDS = Words(SEEN, frozenset(("and", "more", "explain")))
MIXED = "abcXYZ019 \n\t\x1f\0'’-`_,;:.!?=(){}[]<>$\\^，；：、。！？“”—䷀解释且比较的ぁéKİ①１ßⒶ\ud83d😀·"
FACTS = [
    "words",
    "unique",
    "clauses",
    "separators",
    "questions",
    "sentences",
    "numbered",
    "emphasis",
    "code",
    "tasks",
    "terms",
]  # a compiled class has no list of them
TEXTS = [
    "Well-known isn't it? He said 'no -- never'. A-b-c, x2 and 3.14 more; (A) one\n(B) two. The end!",
    "分布式缓存：且 Python 3.12 的 cache 为什么？不，更多。解释 it's “quoted” — twice…",
    "don’t ` rock-’n’-roll x--y -z w- 2b2 ... a.b.c ?! \n\n - list\n1. one\n",
    "中" * 300 + "x" + "文，" * 200,
    "one two three " * 200,
    "",
]


@st.composite
def texts(draw: st.DrawFn) -> str:
    return "".join(
        draw(st.lists(st.one_of(st.sampled_from([*MIXED, "explain ", "and ", "。", "it's "]), st.text(max_size=3))))
    )


def pieces(text: str) -> list[str]:
    zeros = re.sub("[1-9]", "0", text.lower().encode(errors="replace").decode())
    return re.findall(r"[a-z]+|\d+|[㐀-鿿]|[^\s\w]", zeros)


def features(found: list[str]) -> set[int]:
    places = [crc32(piece.encode()) % (1 << BITS) for piece in found]
    pairs = [(one * 1_889 + other * 811) % (1 << BITS) for one, other in pairwise(places)]
    apart = [(one * 1_543 + other * 397) % (1 << BITS) for one, other in zip(places, places[2:], strict=False)]
    return {*places, *pairs, *apart}


def test_pieces_and_features_are_what_the_definition_says() -> None:
    @given(texts())
    @settings(max_examples=300)
    @example(TEXTS[0]).via("English")
    @example(TEXTS[1]).via("Chinese")
    @example(TEXTS[2]).via("joined words")
    @example(TEXTS[3]).via("more than is hashed")
    @example(TEXTS[4]).via("the same in English")
    def check(text: str) -> None:
        sample, found = Sample(text), pieces(text)
        assert sample.pieces() == found
        assert len(sample) == len(found)
        if len(found) > HEAD_PIECES + TAIL_PIECES:
            found = found[:HEAD_PIECES] + found[-TAIL_PIECES:]
        hashed = Hashed(sample, WORDS)
        assert hashed.features == features(found)
        places = places_of(sample)
        assert list(hashed.places()) == places
        assert features_of(lanes_of(places), len(places)) == hashed.features
        assert hashed.seen == pytest.approx(sum(SEEN[place] for place in places) / len(places) if places else 1.0)
        assert [piece for piece in hashed.notable if piece in ("and", "more", "explain")] == [
            piece for piece in pieces(text) if piece in ("and", "more", "explain")
        ]

    check()


def test_measures_are_what_they_are_named_for() -> None:
    @given(texts())
    @settings(max_examples=300)
    @example(TEXTS[0]).via("English")
    @example(TEXTS[1]).via("Chinese")
    def check(text: str) -> None:
        text = sampled(text)
        found = pieces(text)
        words = [piece for piece in found if piece.isalpha()]
        numbers = sum(piece.isdigit() for piece in found)
        sentences = 1 + sum(text.count(end) for end in (". ", ".\n", "! ", "? ", "。", "？", "！"))
        expected = {
            "characters": math.log1p(len(text)),
            "words": math.log1p(len(words)),
            "sentences": math.log1p(sentences),
            "lines": math.log1p(text.count("\n")),
            "words a sentence": len(words) / sentences / 20.0,
            "word length": sum(map(len, words)) / len(words) if words else 0.0,
            "numbers": math.log1p(numbers),
            "numbers a word": numbers / (len(found) + 2.0) * 10.0,
            "questions": math.log1p(text.count("?") + text.count("？")),
            "commas": math.log1p(text.count(",") + text.count("，")),
            "brackets": math.log1p(text.count("(") + text.count("[")),
            "quotations": math.log1p(text.count('"') + text.count("'") + text.count("“")),
            "mathematics": math.log1p(sum(map(text.count, "$\\=^"))),
            "blanks": math.log1p(text.count("_")),
            "Chinese": math.log1p(len(re.findall("[㐀-鿿]", text))),
            "vocabulary": len(set(words)) / math.sqrt(len(words)) if words else 0.0,
            "repetition": 1.0 - len(set(words)) / len(words) if words else 0.0,
        }
        measured: dict[str, float] = dict(zip(STRUCTURE, structure(Sample(text), len(text)), strict=True))
        assert {name: measured[name] for name in expected} == expected

    check()


@pytest.mark.parametrize(("text", "options"), [("A. x\nB) y", 2), ("(A) x (B) y", 2), ("(A. x", 1), ("Ab. x", 0)])
def test_answers_to_choose_from_are_counted(text: str, options: int) -> None:
    assert dict(zip(STRUCTURE, structure(Sample(text), len(text)), strict=True))["options"] == math.log1p(options)


def test_facts_are_the_same_by_bytes_and_by_the_regular_expression() -> None:
    """A letter beyond ASCII sends a text the long way; one that is no word of a feature changes nothing else."""

    @given(texts())
    @settings(max_examples=300)
    @example(TEXTS[0]).via("English")
    @example(TEXTS[1]).via("Chinese")
    @example(TEXTS[2]).via("joined words")
    def check(text: str) -> None:
        sample = Sample(text)
        if not sample.plain or not text:
            return
        other = Sample(text)
        other.plain = False
        short, long = (Facts(each, len(text)) for each in (sample, other))
        for name in FACTS:
            assert getattr(short, name) == getattr(long, name), name

    check()
