"""One reading of a text for all who count in it: its pieces and its marks. Pure; decides nothing about difficulty.

Pieces are words of a-z, numbers, single Chinese characters and punctuation marks, in lower case. What a number is
counts less than how long it is: each is read as so many zeros.

Matching by a regular expression costs some 1,500 instructions a word, translating and splitting a tenth of that. So
what is ASCII is folded as bytes (in UTF-8 no other character has a byte of ASCII), its marks get blanks around them,
and it is split. Chinese and its marks are kept as runs: each character is a piece, and taking them apart costs more
than counting them together. Only other scripts are matched word by word.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from itertools import zip_longest
from string import ascii_lowercase, ascii_uppercase
from typing import Final

# Runs of what is a piece by itself, has no lower case, and takes three bytes of UTF-8: Chinese, dashes and quotation
# marks, arrows and operators, marks of Chinese. \u4dc0-\u4dff are hexagrams, which are no letters.
_WIDE = re.compile(
    "([\u3400-\u4dbf\u4e00-\u9fff\u2010-\u2027\u2190-\u23ff\u3001-\u3003\u3008-\u3011\u3014-\u301f"
    "\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]+)"
)
_HEXAGRAMS = re.compile("[\u4dc0-\u4dff]")
_WIDE_MARKS: Final = frozenset(
    code for code in (*range(0x2010, 0x3400), *range(0xFF00, 0xFF66)) if _WIDE.fullmatch(chr(code))
)
# Runs of wide characters are where this was; to whoever splits a text it is a blank.
_GAP = "\x1f"
_PIECES = re.compile(r"[a-z]+|\d+|[^\s\w]")
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_NUMBERS = re.compile("(00*)")  # it begins with a literal, for which is searched fast
_FOLD = bytes.maketrans(f"{ascii_uppercase}123456789_".encode(), f"{ascii_lowercase}000000000 ".encode())


def but(kept: bytes) -> bytes:
    """All of ASCII that is not in `kept`: what `translate` shall delete so that these are left."""
    return bytes(sorted(set(range(128)).difference(kept)))


MARKS: Final = bytes(code for code in range(128) if re.fullmatch(r"[^\s\w]", chr(code)))
_NOT_MARKS = but(MARKS)
# What marks count as, in the order of `Sample.kinds`.
KINDS: Final = {
    "commas": ",，",
    "questions": "?？",
    "brackets": "([",
    "quotations": "\"'“",
    "mathematics": "$\\=^",
    "separators": ",:;，；：、",
    "code": ";=(){}[]<>",
    "ends": ".!?。！？",
    "wide ends": "。！？",
}


def _kinds_of(mark: str) -> tuple[int, ...]:
    return tuple([place for place, marks in enumerate(KINDS.values()) if mark in marks])


_APART = {code: (chr(code), f" {chr(code)} ", _kinds_of(chr(code))) for code in MARKS}
_WIDE_KINDS = {code: _kinds_of(chr(code)) for code in _WIDE_MARKS}
_NO_KINDS: Final[Sequence[int]] = (0,) * len(KINDS)

_NONE: frozenset[int] = frozenset()


class Sample:
    """What is `narrow` is not wide; `wide`, and `codes` of it, are Chinese characters and the marks beside them.

    `tokens`: the narrow pieces; `segments`: the same between the `runs` of wide ones. `words`, `different` words,
    `letters` and `numbers` are counts of narrow pieces, `lines` of line breaks, `han` and `different_han` of Chinese
    characters. `marks`: those of ASCII that there are; `kinds`: how many of each of KINDS, wide ones among them.
    `folded`: the bytes of what is narrow, in lower case. `plain`: all of that is ASCII.
    """

    __slots__ = (
        "codes", "different", "different_han", "folded", "han", "kinds", "letters", "lines", "marks", "narrow",
        "numbers", "plain", "runs", "segments", "text", "tokens", "wide", "wide_marks", "words",
    )  # fmt: skip

    def __init__(self, text: str) -> None:
        self.text = text
        self.han = self.different_han = 0
        self.kinds = _NO_KINDS
        if text.isascii():
            self.wide, self.narrow, self.plain = "", text, True
            self.runs: Sequence[str] = ()
            self.segments: Sequence[list[str]] = ()
            self.codes = self.wide_marks = _NONE
            self._read_ascii(text)
            return
        parts = _WIDE.split(text)
        self.runs = parts[1::2]
        self._read_wide("".join(self.runs))
        self.narrow = narrow = _GAP.join(parts[::2])
        self.plain = narrow.isascii() and _GAP not in text
        if self.plain:
            self._read_ascii(narrow)
        else:
            self._read_scripts(parts[::2])

    def _read_wide(self, wide: str) -> None:
        self.wide = wide
        # As numbers: a set of so many strings must make and hash each of them.
        self.codes = codes = frozenset(array("H", wide.encode("utf-16-le")))
        self.wide_marks = marks = codes & _WIDE_MARKS
        self.han = han = len(wide)
        if marks:
            self.kinds = kinds = [*_NO_KINDS]
            for mark in marks:
                count = wide.count(chr(mark))
                han -= count
                for kind in _WIDE_KINDS[mark]:
                    kinds[kind] += count
            self.han = han
        self.different_han = len(codes) - len(marks)

    def _read_ascii(self, narrow: str) -> None:
        self.lines = narrow.count("\n") if "\n" in narrow else 0
        self.folded = folded = narrow.encode().translate(_FOLD)
        marks = folded.translate(None, _NOT_MARKS)
        text = folded.decode()
        self.marks = found = frozenset(marks)
        if found:
            self.kinds = kinds = [*self.kinds]
            size = len(text)
            for code in found:
                mark, apart, kinds_of_mark = _APART[code]
                text = text.replace(mark, apart)
                # Each has become two characters longer: so it need not be counted.
                count = len(text) - size >> 1
                size += 2 * count
                for kind in kinds_of_mark:
                    kinds[kind] += count
        numbers = different = zeros = 0
        if "0" in text:
            # Numbers that touch words are set apart from them.
            parts = _NUMBERS.split(text)
            text, runs = " ".join(parts), parts[1::2]
            numbers, different, zeros = len(runs), len(set(runs)), len("".join(runs))
        self.numbers = numbers
        self.tokens = tokens = text.split()
        if self.runs:
            self.segments = [segment.split() for segment in text.split(_GAP)]
        self.words = len(tokens) - len(marks) - numbers
        self.different = len(set(tokens)) - len(found) - different
        self.letters = len("".join(tokens)) - len(marks) - zeros

    def _read_scripts(self, parts: list[str]) -> None:
        """Half a character becomes a question mark."""
        self.lines = self.narrow.count("\n")
        lower = [part.lower().encode(errors="replace").translate(_ZEROS).decode() for part in parts]
        self.segments = segments = [_PIECES.findall(part) for part in lower]
        self.tokens = tokens = [token for segment in segments for token in segment]
        self.folded = self.narrow.encode("ascii", "ignore").translate(_FOLD)
        marks = self.folded.translate(None, _NOT_MARKS)
        self.marks = found = frozenset(marks)
        self.kinds = kinds = [*self.kinds]
        for mark in found:
            for kind in _APART[mark][2]:
                kinds[kind] += marks.count(mark)
        words = list(filter(str.isalpha, tokens))
        self.words = len(words)
        self.different = len(set(words))
        self.letters = len("".join(words))
        self.numbers = sum(map(str.isdigit, tokens))

    def __len__(self) -> int:
        """How many pieces there are."""
        return len(self.tokens) + len(self.wide)

    def pieces(self) -> list[str]:
        """All of them, in order."""
        if not self.runs:
            return self.tokens
        found: list[str] = []
        for segment, run in zip_longest(self.segments, self.runs, fillvalue=""):
            found += segment
            found += run
        return found

    def outline(self) -> str:
        """The wide characters in their places, and a NUL for each narrow piece between them."""
        parts: list[str] = []
        for segment, run in zip_longest(self.segments, self.runs, fillvalue=""):
            parts += "\0" * len(segment), run
        return "".join(parts)

    def hexagrams(self) -> int:
        """Signs among the Chinese characters that are no letters."""
        return 0 if self.plain else len(_HEXAGRAMS.findall(self.narrow))
