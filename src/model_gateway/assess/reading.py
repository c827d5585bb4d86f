"""What a routing model sees of a text: hashed words and pairs of words, and twenty-one measures of its structure. Pure.

Words are hashed, not listed: a model that was fitted to a team's own traffic holds none of its words. The pieces are
words, numbers, single Chinese characters and punctuation marks; features are the pieces, pairs of neighbours, and pairs
with one piece between them. Each counts once however often it occurs. Fitting and scoring both read by these functions,
so a change here is a new `FORMAT` of model files.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from zlib import crc32

FORMAT = 2
BITS = 18
_MASK = (1 << BITS) - 1
HEAD_CHARACTERS, TAIL_CHARACTERS = 1_500, 700
HEAD_PIECES, TAIL_PIECES = 256, 128

_PIECES = re.compile(r"[a-z]+|\d+|[㐀-鿿]|[^\s\w]")
# What a number is counts less than how long it is: each is read as so many zeros. As bytes, where that is thirty times
# faster than in text; in UTF-8 no other character has a digit's byte.
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_HAN = re.compile(r"[㐀-鿿]")
_OPTION = re.compile(r"(?:^|\n)[^\S\n]*\(?[A-J][.):、．][^\S\n]|\([A-J]\)")
# Odd multipliers below 2**11: a place times one of them stays below 2**30, where Python's integers are fast.
_FIRST, _SECOND, _BEFORE, _AFTER = 1_889, 811, 1_543, 397

STRUCTURE = (
    "characters",
    "words",
    "sentences",
    "lines",
    "words a sentence",
    "word length",
    "numbers",
    "numbers a word",
    "questions",
    "commas",
    "brackets",
    "quotations",
    "mathematics",
    "blanks",
    "options",
    "Chinese",
    "vocabulary",
    "repetition",
    "relations",
    "connectives",
    "negations",
)

# What makes a question longer to work through, whatever it is about: quantities that are set in relation, parts that
# are joined, what is denied. Chinese by single characters, as its pieces are.
_RELATIONS = (
    "than each every per twice half double triple times total altogether together remaining left rest more less fewer "
    "average percent both other another same equal equally split divided share combined third quarter "
    "每 倍 比 共 各 均 余 剩 差 多 少 更"
)
_CONNECTIVES = "and or but 和 与 或 且 但 及 并 而"
_NEGATIONS = "not no never none neither nor cannot without except false incorrect least 不 没 无 非 未 误 错 否"
_ROLES = {
    word: role for role, words in (("r", _RELATIONS), ("c", _CONNECTIVES), ("n", _NEGATIONS)) for word in words.split()
}


def sampled(text: str) -> str:
    """The text, or its beginning and its end where it is long: the cost of reading is bounded."""
    if len(text) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return text
    return f"{text[:HEAD_CHARACTERS]}\n{text[-TAIL_CHARACTERS:]}"


def pieces(sample: str) -> list[str]:
    return _PIECES.findall(sample.lower().encode(errors="replace").translate(_ZEROS).decode())


def hashed(tokens: list[str]) -> tuple[list[int], set[int]]:
    """(one place for each piece, in order; all features' places), each below 2**BITS; of the first and last pieces."""
    if len(tokens) > HEAD_PIECES + TAIL_PIECES:
        tokens = tokens[:HEAD_PIECES] + tokens[-TAIL_PIECES:]
    places = [code & _MASK for code in map(crc32, map(str.encode, tokens))]
    found = set(places)
    found.update([(a * _FIRST + b * _SECOND) & _MASK for a, b in pairwise(places)])
    found.update([(a * _BEFORE + b * _AFTER) & _MASK for a, b in zip(places, places[2:], strict=False)])
    return places, found


def scale(features: int) -> float:
    """What a sum over that many features is multiplied by, so that long and short texts compare."""
    return 1.0 / math.sqrt(20.0 * max(1, features))


def structure(sample: str, tokens: list[str], characters: int) -> tuple[float, ...]:
    """The measures that STRUCTURE names, most as log(1 + n). `characters`: of the whole text, not of the sample."""
    count, log = sample.count, math.log1p
    alphabetic = list(filter(str.isalpha, tokens))
    words = len(alphabetic)
    different = len(set(alphabetic))
    roles = "".join(map(_ROLES.__getitem__, filter(_ROLES.__contains__, alphabetic)))
    numbers = sum(map(str.isdigit, tokens))
    sentences = count(". ") + count(".\n") + count("? ") + count("! ") + 1
    questions, commas, quotations, han = count("?"), count(","), count('"') + count("'"), 0
    if not sample.isascii():
        sentences += count("。") + count("？") + count("！")
        questions += count("？")
        commas += count("，")
        quotations += count("“")
        han = len(_HAN.findall(sample))
    return (
        log(characters),
        log(words),
        log(sentences),
        log(count("\n")),
        words / sentences / 20.0,
        len("".join(alphabetic)) / words if words else 0.0,
        log(numbers),
        numbers / (len(tokens) + 2.0) * 10.0,
        log(questions),
        log(commas),
        log(count("(") + count("[")),
        log(quotations),
        log(count("$") + count("\\") + count("=") + count("^")),
        log(count("_")),
        log(len(_OPTION.findall(sample))),
        log(han),
        different / math.sqrt(words) if words else 0.0,
        1.0 - different / words if words else 0.0,
        log(roles.count("r")),
        log(roles.count("c")),
        log(roles.count("n")),
    )
