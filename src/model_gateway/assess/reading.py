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
from collections.abc import Collection, Sequence
from itertools import compress
from operator import itemgetter
from typing import Any, Final, TypeAlias
from zlib import crc32

from model_gateway.assess.sample import Sample

FORMAT = 2
BITS = 18
_MASK = (1 << BITS) - 1
HEAD_CHARACTERS, TAIL_CHARACTERS = 1_500, 700
READ_WHOLE = HEAD_CHARACTERS + TAIL_CHARACTERS
HEAD_PIECES, TAIL_PIECES = 256, 128
MOST_PIECES: Final = HEAD_PIECES + TAIL_PIECES

# Each alternative begins with a literal, for which the regular expression engine searches fast: a line's option letter,
# with the line break added before the text, and a letter in brackets anywhere.
_LINE_OPTION = re.compile(r"\n[^\S\n]*(?:[A-J][.):、．]|\([A-J][.:、．])[^\S\n]")
_BRACKET_OPTION = re.compile(r"\([A-J]\)")
_DOT, _EXCLAMATION, _QUESTION, _BRACKET = b".!?("
_GAPS = re.compile("\0+")  # narrow pieces, in an outline

# Places and pairs of them are lanes of 32 bits in one large integer, the first piece's the lowest: all pairs are hashed
# at once. A place is below 2**18 and each pair of multipliers adds up to less than 2**12, so that no lane spills into
# the next.
_LANE, _LANE_BYTES, _ORDER = 32, 4, sys.byteorder
_PAIR, _APART = 1_889 << _LANE | 811, 1_543 << 2 * _LANE | 397


def _lanes(value: int) -> int:
    return int.from_bytes(value.to_bytes(_LANE_BYTES, "little") * MOST_PIECES, "little")


# By how many lanes: what a place takes of each of them.
_MASKS = [_lanes(_MASK) & (1 << _LANE * count) - 1 for count in range(MOST_PIECES + 1)]

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

# Of those, how many there are of something: each measure is log(1 + n). The others are ratios; the length of the whole
# text, which may be more than a sample has, is among them as the logarithm that it is.
RATIOS: tuple[str, ...] = (
    "characters",
    "words a sentence",
    "word length",
    "numbers a word",
    "vocabulary",
    "repetition",
)
COUNTS = tuple(name for name in STRUCTURE if name not in RATIOS)
LOGARITHMS: Final = [math.log1p(count) for count in range(2 * READ_WHOLE)]
in_order = itemgetter(*[(*COUNTS, *RATIOS).index(name) for name in STRUCTURE])
SCALES: Final = [1.0 / math.sqrt(20.0 * max(1, features)) for features in range(3 * MOST_PIECES)]
Counted: TypeAlias = tuple[tuple[int, ...], tuple[float, ...]]

# What makes a question longer to work through, whatever it is about: quantities that are set in relation, parts that
# are joined, what is denied. Chinese by single characters, as its pieces are.
_RELATIONS = (
    "than each every per twice half double triple times total altogether together remaining left rest more less fewer "
    "average percent both other another same equal equally split divided share combined third quarter "
    "每 倍 比 共 各 均 余 剩 差 多 少 更"
)
_CONNECTIVES = "and or but 和 与 或 且 但 及 并 而"
_NEGATIONS = "not no never none neither nor cannot without except false incorrect least 不 没 无 非 未 误 错 否"
_RELATION, _CONNECTIVE, _NEGATION, _ROLE = 0, 16, 32, (1 << 16) - 1  # fields of one number, which counts all three
_ALL_ROLES = {
    word: 1 << role
    for role, words in ((_RELATION, _RELATIONS), (_CONNECTIVE, _CONNECTIVES), (_NEGATION, _NEGATIONS))
    for word in words.split()
}
ROLES = {word: role for word, role in _ALL_ROLES.items() if word.isascii()}
_HAN_ROLES = {ord(word): role for word, role in _ALL_ROLES.items() if not word.isascii()}
_HAN_ROLE_CODES = frozenset(_HAN_ROLES)

_KNOWN_WORDS, _LONGEST_KNOWN = 8_192, 24
_UNSEEN, _NOTABLE = 1 << 20, 1 << 24  # in a lane, above the place: notable is what a fourth byte has
_ANY_UNSEEN: Final = _lanes(_UNSEEN)


def sampled(text: str) -> str:
    """The text, or its beginning and its end where it is long: the cost of reading is bounded."""
    if len(text) <= READ_WHOLE:
        return text
    return f"{text[:HEAD_CHARACTERS]}\n{text[-TAIL_CHARACTERS:]}"


def first_and_last(pieces: list[str]) -> list[str]:
    """Those that are hashed."""
    return pieces if len(pieces) <= MOST_PIECES else pieces[:HEAD_PIECES] + pieces[-TAIL_PIECES:]


def place_of(piece: str) -> int:
    return crc32(piece.encode()) & _MASK


def places_of(sample: Sample) -> list[int]:
    """Of the pieces that are hashed, in order."""
    return [place_of(piece) for piece in first_and_last(sample.pieces())]


def places_in(lanes: int, count: int) -> Sequence[int]:
    places = array("I", lanes.to_bytes(count * _LANE_BYTES, _ORDER))
    if _ORDER == "big":
        places.reverse()
    return places


def lanes_of(places: Sequence[int]) -> int:
    return int.from_bytes(b"".join([place.to_bytes(_LANE_BYTES, "little") for place in places]), "little")


# A CRC is linear: that of a character is that of its upper byte, with a zero below, xor what its lower byte changes,
# whatever is above it. So all wide characters get their places by six translations, without being taken apart.
_UPPER = [place_of(chr(code << 8)) if code >= 0x08 and not 0xD8 <= code < 0xE0 else 0 for code in range(256)]
_LOWER = [place_of(chr(0x4E00 | code)) ^ place_of(chr(0x4E00)) for code in range(256)]
_PLANES = [
    (
        plane,
        bytes([place >> 8 * plane & 255 for place in _LOWER]),
        bytes([place >> 8 * plane & 255 for place in _UPPER]),
    )
    for plane in range(3)
]


def wide_lanes(outline: str, known: bytes = b"") -> int:
    """The places of wide characters (sample.py) as lanes; where a NUL stands for a piece, the next lane of `known`."""
    codes = outline.encode("utf-16-le")
    lower, upper = codes[::2], codes[1::2]
    size = _LANE_BYTES * len(outline)
    of_lower, of_upper = bytearray(size), bytearray(size)
    for plane, by_lower, by_upper in _PLANES:
        of_lower[plane::_LANE_BYTES] = lower.translate(by_lower)
        of_upper[plane::_LANE_BYTES] = upper.translate(by_upper)
    if known:
        at = 0
        for gap in _GAPS.finditer(outline):
            start, end = gap.span()
            size = (end - start) * _LANE_BYTES
            of_lower[start * _LANE_BYTES : end * _LANE_BYTES] = known[at : at + size]
            of_upper[start * _LANE_BYTES : end * _LANE_BYTES] = bytes(size)
            at += size
    return int.from_bytes(of_lower, "little") ^ int.from_bytes(of_upper, "little")


class Words:
    """What is known of each piece, so that it is looked up once: its place and flags above it, as the bytes of a lane.

    The flags tell those that were not `seen` in fitting, and those that are `notable`. Remembers short ones; bounded,
    1.2 MB at most.
    """

    def __init__(self, seen: bytes, notable: frozenset[str]) -> None:
        # A dict itself: looking something up in a class of its own takes twice as long.
        self.known: dict[str, bytes] = {}
        self._seen, self._notable = seen, notable
        wide = (*range(0x2000, 0xA000), *range(0xFF00, 0x10000))
        places = places_in(wide_lanes("".join(map(chr, wide))), len(wide))
        # Copied, a set is half as large as one that has grown.
        self.wide_seen = frozenset({*compress(wide, itemgetter(*places)(seen))})

    def lanes(self, pieces: Sequence[str]) -> bytes:
        """Of one after the other, whether they are `known` or not."""
        known = self.known
        return b"".join([known.get(piece) or self._learned(piece) for piece in pieces])

    def _learned(self, piece: str) -> bytes:
        place = place_of(piece)
        flags = (0 if self._seen[place] else _UNSEEN) | (_NOTABLE if piece in self._notable else 0)
        lane = (place | flags).to_bytes(_LANE_BYTES, "little")
        if len(piece) <= _LONGEST_KNOWN:
            if len(self.known) >= _KNOWN_WORDS:
                self.known.clear()
            self.known[piece] = lane
        return lane


class Hashed:
    """The features of a sample. `seen`: the share of its first and last pieces that occurred in fitting.

    `notable`: narrow pieces in order, those that are `notable` to `words`.
    """

    __slots__ = ("count", "features", "lanes", "notable", "seen")

    def __init__(self, sample: Sample, words: Words) -> None:
        pieces, wide = sample.tokens, False
        if sample.runs:
            wide = len(sample.wide) > len(pieces)
            if not wide:
                pieces = sample.pieces()
        try:
            known = b"".join(itemgetter(*pieces)(words.known)) if len(pieces) > 1 else words.lanes(pieces)
        except KeyError:
            known = words.lanes(pieces)
        self.notable = [*compress(pieces, known[3::_LANE_BYTES])]
        unseen = 0
        if wide:
            count, unseen, lanes = _of_wide(sample, known, words)
        else:
            count = len(pieces)
            if count > MOST_PIECES:
                count = MOST_PIECES
                known = known[: HEAD_PIECES * _LANE_BYTES] + known[-TAIL_PIECES * _LANE_BYTES :]
            lanes = int.from_bytes(known, "little")
        unseen += (lanes & _ANY_UNSEEN).bit_count()
        self.seen = (count - unseen) / count if count else 1.0
        # What is cut off are the flags: a lane holds its place alone.
        self.count, self.lanes = count, lanes & _MASKS[count]
        self.features = features_of(self.lanes, count)

    def places(self) -> Sequence[int]:
        """Of the pieces that were hashed, in order."""
        return places_in(self.lanes, self.count)


def _of_wide(sample: Sample, known: bytes, words: Words) -> tuple[int, int, int]:
    """(how many pieces, how many wide ones unseen, their lanes) where most are wide; `known` of the narrow ones."""
    outline = sample.outline()
    if len(outline) > MOST_PIECES:
        head, tail = outline[:HEAD_PIECES], outline[-TAIL_PIECES:]
        outline = head + tail
        known = known[: head.count("\0") * _LANE_BYTES] + known[len(known) - tail.count("\0") * _LANE_BYTES :]
    unseen = 0
    for code in sample.codes - words.wide_seen:
        unseen += outline.count(chr(code))
    return len(outline), unseen, wide_lanes(outline, known)


def features_of(lanes: int, count: int) -> set[int]:
    """The places of `count` pieces, and of their pairs."""
    if count > 1:
        # Of each lane and the next one, and of each and the next but one; they are put behind the pieces' own.
        pairs = lanes * _PAIR >> _LANE & _MASKS[count - 1]
        apart = lanes * _APART >> 2 * _LANE & _MASKS[count - 2]
        lanes |= (pairs | apart << (count - 1) * _LANE) << count * _LANE
        count += 2 * count - 3
    return set(array("I", lanes.to_bytes(count * _LANE_BYTES, _ORDER)))


def gathered(places: Collection[Any], table: Any) -> tuple[Any, ...]:
    """What stands at those places of a table, in one call: half of what a lookup for each costs."""
    if len(places) > 1:
        return itemgetter(*places)(table)
    return tuple([table[place] for place in places])


def scale(features: int) -> float:
    """What a sum over that many features is multiplied by, so that long and short texts compare."""
    return SCALES[features]


def structure(sample: Sample, characters: int) -> tuple[float, ...]:
    """The measures that STRUCTURE names. `sample` is read of `sampled(text)`; `characters`: of the whole text."""
    return measures_of(counted(sample, characters))


def measures_of(found: Counted) -> tuple[float, ...]:
    counts, ratios = found
    return in_order((*map(LOGARITHMS.__getitem__, counts), *ratios))


def counted(sample: Sample, characters: int, notable: Sequence[str] | None = None) -> Counted:
    """The same as numbers, in the order of COUNTS and of RATIOS.

    `notable`: among them the narrow pieces that have a role, where they have been found already.
    """
    words, letters, different, numbers = sample.words, sample.letters, sample.different, sample.numbers
    pieces, narrow, marks = len(sample.tokens), sample.narrow, sample.marks
    commas, questions, brackets, quotations, mathematics, _, _, _, sentences = sample.kinds
    sentences += 1
    if marks:
        # What is not there is not looked for.
        ends = narrow.count
        if _DOT in marks:
            sentences += ends(". ")
            if sample.lines:
                sentences += ends(".\n")
        if _EXCLAMATION in marks:
            sentences += ends("! ")
        if _QUESTION in marks:
            sentences += ends("? ")
    roles = han = 0
    for word in sample.tokens if notable is None else notable:
        if word in ROLES:
            roles += ROLES[word]
    if sample.codes:
        han, count = sample.han, sample.wide.count
        words, letters, pieces = words + han, letters + han, pieces + len(sample.wide)
        different += sample.different_han
        roles += sum([_HAN_ROLES[code] * count(chr(code)) for code in sample.codes & _HAN_ROLE_CODES])
    counts = (
        words,
        sentences,
        sample.lines,
        numbers,
        questions,
        commas,
        brackets,
        quotations,
        mathematics,
        narrow.count("_") if "_" in narrow else 0,
        # Most texts begin with a word, are one line, and have no brackets.
        _options(sample) if sample.lines or brackets or not sample.text[:2].isalpha() else 0,
        han if sample.plain else han + sample.hexagrams(),
        roles & _ROLE if roles else 0,
        roles >> _CONNECTIVE & _ROLE if roles else 0,
        roles >> _NEGATION if roles else 0,
    )
    return counts, (
        math.log1p(characters),
        words / sentences / 20.0,
        letters / words if words else 0.0,
        numbers / (pieces + 2.0) * 10.0,
        different / math.sqrt(words) if words else 0.0,
        1.0 - different / words if words else 0.0,
    )


def _options(sample: Sample) -> int:
    """Letters that mark answers to choose from, at the beginning of a line or in brackets."""
    text = sample.text
    options = len(_BRACKET_OPTION.findall(text)) if _BRACKET in sample.marks else 0
    if sample.lines:
        return options + len(_LINE_OPTION.findall("\n" + text))
    if text[:2].isalpha():
        return options  # the usual case: it begins with a word
    return options + (_LINE_OPTION.match("\n" + text) is not None)
