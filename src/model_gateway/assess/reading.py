"""What a routing model sees of a text: hashed words and pairs of words, and twenty-one measures of its structure. Pure.

Words are hashed, not listed: a model that was fitted to a team's own traffic holds none of its words. The pieces are
words, numbers, single Chinese characters and punctuation marks; features are the pieces, pairs of neighbours, and pairs
with one piece between them. Each counts once however often it occurs. Fitting and scoring both read by these functions,
so a change here is a new `FORMAT` of model files.
"""

from __future__ import annotations

import math
import re
import sys
from array import array
from typing import Final
from zlib import crc32

FORMAT = 2
BITS = 18
_MASK = (1 << BITS) - 1
HEAD_CHARACTERS, TAIL_CHARACTERS = 1_500, 700
READ_WHOLE = HEAD_CHARACTERS + TAIL_CHARACTERS
HEAD_PIECES, TAIL_PIECES = 256, 128

_PIECES = re.compile(r"[a-z]+|\d+|[^\s\w]")
# Runs of Chinese are found whole and taken apart: a match costs ten times what a character does. Nothing else
# that is found begins between these two.
_RUNS = re.compile(r"[㐀-鿿]+|[a-z]+|\d+|[^\s\w]")
_FIRST_HAN, _BEHIND_HAN = "\u3400", "\ua000"
# What a number is counts less than how long it is: each is read as so many zeros. As bytes, where that is thirty times
# faster than in text; in UTF-8 no other character has a digit's byte.
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_HAN = re.compile(r"[㐀-鿿]+")
# Each alternative begins with a literal, for which the regular expression engine searches fast: a line's option letter,
# with the line break added before the text, and a letter in brackets anywhere.
_LINE_OPTION = re.compile(r"\n[^\S\n]*(?:[A-J][.):、．]|\([A-J][.:、．])[^\S\n]")
_BRACKET_OPTION = re.compile(r"\([A-J]\)")
_MATHEMATICS = frozenset("$\\=^")
_COUNTED = frozenset(".!?,'\"([") | _MATHEMATICS

# Pairs of places are hashed all at once, in one large integer with a lane of 32 bits for each place: a place is below
# 2**18 and each pair of multipliers adds up to less than 2**12, so that no lane spills into the next.
_FIRST, _SECOND, _BEFORE, _AFTER = 1_889, 811, 1_543, 397
_LANE_BYTES: Final = 4
_LANES = array("I", [_MASK]) * (HEAD_PIECES + TAIL_PIECES)
_MASKS = [int.from_bytes(_LANES[:count], sys.byteorder) for count in range(len(_LANES) + 1)]

_KNOWN_WORDS, _LONGEST_KNOWN = 16_384, 24

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
_ALL_ROLES = {
    word: role for role, words in (("r", _RELATIONS), ("c", _CONNECTIVES), ("n", _NEGATIONS)) for word in words.split()
}
_ROLES = {word: role for word, role in _ALL_ROLES.items() if word.isascii()}
_HAN_ROLES = {word: role for word, role in _ALL_ROLES.items() if not word.isascii()}


def sampled(text: str) -> str:
    """The text, or its beginning and its end where it is long: the cost of reading is bounded."""
    if len(text) <= READ_WHOLE:
        return text
    return f"{text[:HEAD_CHARACTERS]}\n{text[-TAIL_CHARACTERS:]}"


def pieces(sample: str) -> list[str]:
    text = sample.lower().encode(errors="replace").translate(_ZEROS).decode()
    if text.isascii():
        return _PIECES.findall(text)
    found: list[str] = []
    for run in _RUNS.findall(text):
        if _FIRST_HAN <= run < _BEHIND_HAN:
            found += run
        else:
            found.append(run)
    return found


class _Places(dict[str, int]):
    """The place of each piece. Remembers the short ones: a lookup costs a quarter of a hash. Bounded, 2 MB at most."""

    def __missing__(self, piece: str) -> int:
        place = crc32(piece.encode()) & _MASK
        if len(piece) <= _LONGEST_KNOWN:
            if len(self) >= _KNOWN_WORDS:
                self.clear()
            self[piece] = place
        return place


_place = _Places().__getitem__


def hashed(tokens: list[str]) -> tuple[list[int], set[int]]:
    """(one place for each piece, in order; all features' places), each below 2**BITS; of the first and last pieces."""
    if len(tokens) > HEAD_PIECES + TAIL_PIECES:
        tokens = tokens[:HEAD_PIECES] + tokens[-TAIL_PIECES:]
    places = list(map(_place, tokens))
    count = len(places)
    if count < 3:
        found = set(places)
        if count == 2:
            found.add((places[0] * _FIRST + places[1] * _SECOND) & _MASK)
        return places, found
    features = array("I", places)
    lanes = int.from_bytes(features, sys.byteorder)
    if sys.byteorder == "little":
        neighbours = lanes * _FIRST + (lanes >> 32) * _SECOND
        apart = lanes * _BEFORE + (lanes >> 64) * _AFTER
    else:
        neighbours = (lanes >> 32) * _FIRST + lanes * _SECOND
        apart = (lanes >> 64) * _BEFORE + lanes * _AFTER
    features.frombytes((neighbours & _MASKS[count - 1]).to_bytes(_LANE_BYTES * (count - 1), sys.byteorder))
    features.frombytes((apart & _MASKS[count - 2]).to_bytes(_LANE_BYTES * (count - 2), sys.byteorder))
    return places, set(features)


def scale(features: int) -> float:
    """What a sum over that many features is multiplied by, so that long and short texts compare."""
    return 1.0 / math.sqrt(20.0 * max(1, features))


def structure(sample: str, tokens: list[str], characters: int) -> tuple[float, ...]:
    """The measures that STRUCTURE names, most as log(1 + n). `characters`: of the whole text, not of the sample."""
    count, log = sample.count, math.log1p
    alphabetic = list(filter(str.isalpha, tokens))
    words = len(alphabetic)
    kinds = set(tokens)
    different = sum(map(str.isalpha, kinds))
    roles = _roles(sample, alphabetic, kinds)
    numbers = sum(map(str.isdigit, tokens)) if any(map(str.isdigit, kinds)) else 0
    # Most texts have few of the marks that are counted below: those that do not occur need not be looked for.
    marks = _COUNTED & kinds
    sentences = 1
    if "." in marks:
        sentences += count(". ") + count(".\n")
    if "!" in marks:
        sentences += count("! ")
    questions = count("?") if "?" in marks else 0
    if questions:
        sentences += count("? ")
    commas = count(",") if "," in marks else 0
    quotations = count('"') + count("'") if "'" in marks or '"' in marks else 0
    mathematics = sum(map(count, _MATHEMATICS & marks))
    lines = count("\n")
    brackets = options = han = 0
    if "(" in marks:
        brackets = count("(")
        options = len(_BRACKET_OPTION.findall(sample))
    if "[" in marks:
        brackets += count("[")
    if lines or sample[:1] in "ABCDEFGHIJ(" or sample[:1].isspace():
        options += len(_LINE_OPTION.findall("\n" + sample))
    if not sample.isascii():
        sentences += count("。") + count("？") + count("！")
        questions += count("？")
        commas += count("，")
        quotations += count("“")
        han = len("".join(_HAN.findall(sample)))
    return (
        log(characters),
        log(words),
        log(sentences),
        log(lines),
        words / sentences / 20.0,
        len("".join(alphabetic)) / words if words else 0.0,
        log(numbers),
        numbers / (len(tokens) + 2.0) * 10.0,
        log(questions),
        log(commas),
        log(brackets),
        log(quotations),
        log(mathematics),
        log(count("_")),
        log(options),
        log(han),
        different / math.sqrt(words) if words else 0.0,
        1.0 - different / words if words else 0.0,
        log(roles.count("r")),
        log(roles.count("c")),
        log(roles.count("n")),
    )


def _roles(sample: str, alphabetic: list[str], kinds: set[str]) -> str:
    """A letter for each word with a role. Chinese ones are counted in the text: of its characters many are no such."""
    if sample.isascii():
        return "".join(map(_ROLES.__getitem__, filter(_ROLES.__contains__, alphabetic)))
    roles = "".join([_HAN_ROLES[character] * sample.count(character) for character in _HAN_ROLES.keys() & kinds])
    if _ROLES.keys().isdisjoint(kinds):
        return roles
    return roles + "".join(map(_ROLES.__getitem__, filter(_ROLES.__contains__, alphabetic)))
