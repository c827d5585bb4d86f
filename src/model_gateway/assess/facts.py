"""What one reading of a text has found for the five features (features.py): words, marks, known terms. Pure.

Chinese has no spaces: the longest known term is taken at each place, what is left is counted in characters,
CHARACTERS_PER_WORD to a word.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress
from typing import Final, TypeAlias

from model_gateway.assess import lexicon_en, lexicon_zh
from model_gateway.assess.reading import gathered
from model_gateway.assess.sample import Sample

CHARACTERS_PER_WORD: Final = 1.6

# Words of scripts other than ASCII, and the marks between them.
_TOKENS = re.compile(r"[^\W\d_぀-ヿ㐀-鿿]+(?:['’-][^\W\d_぀-ヿ㐀-鿿]+)*|[,;:.!?=(){}\[\]<>\n，；：、。！？]")
_HAN = re.compile(r"[㐀-鿿]+")
_KANA = re.compile(r"[぀-ヿ]")
# Never across a line break: `\s*` from every empty line onwards would be quadratic, 190 ms for 4,000 line breaks.
_NUMBERED = re.compile(r"^[^\S\n]*(?:\d+[.)、]|[-*•])[^\S\n]+\S", re.MULTILINE)
_SEPARATOR, _END, _QUESTION, _CODE = 1, 2, 4, 8
_MARKS: dict[str, int] = {
    **dict.fromkeys(",:，；：、", _SEPARATOR),
    ";": _SEPARATOR | _CODE,
    **dict.fromkeys(".!\n。！", _END),
    **dict.fromkeys("?？", _END | _QUESTION),
    **dict.fromkeys("=(){}[]<>", _CODE),
}
_HYPHEN, _QUOTE, _BACKTICK, _EXCLAMATION, _QUESTION_MARK = b"-'`!?"
# What joins words to one: apostrophes, one of them not ASCII, for which a backtick stands here, and the hyphen.
_APOSTROPHE, _STAND_IN, _JOINTS = "’", "`", "'`-"
_JOINED = bytes(code if chr(code).islower() or chr(code) in _JOINTS else 32 for code in range(128)) + b" " * 128
_JOINTS_ONLY = bytes(45 if chr(code) in _JOINTS else 32 if code == 32 else 97 for code in range(256))
_SEVERAL_JOINTS = re.compile(f"[{_JOINTS}]{{2,}}")

# What a known term is: itself, its task depth, its domain, whether it is a clause word, or a word of emphasis.
_Kind: TypeAlias = tuple[str, float, str, bool, bool]


def _kinds(
    tasks: Mapping[str, float], domains: Mapping[str, str], clauses: Collection[str], emphasis: Collection[str]
) -> dict[str, _Kind]:
    return {
        name: (name, tasks.get(name, 0.0), domains.get(name, ""), name in clauses, name in emphasis)
        for name in dict.fromkeys((*tasks, *domains, *clauses, *emphasis))
    }


def _english_terms() -> dict[str, _Kind]:
    """With the plurals of the domains' terms; a task word is no term of a domain."""
    en = lexicon_en
    domains = {f"{word}s": domain for word, domain in en.DOMAINS.items()} | en.DOMAINS
    return _kinds(en.TASKS, {w: d for w, d in domains.items() if w not in en.TASKS}, en.CLAUSES, en.EMPHASIS)


_ENGLISH = _english_terms()
TERMS: Final = frozenset(_ENGLISH)
_TERMS = _kinds(lexicon_zh.TASKS, lexicon_zh.DOMAINS, lexicon_zh.CLAUSES, lexicon_zh.EMPHASIS)


def _lower(han: str) -> bytes:
    """The lower byte of each character: all of Chinese is two bytes long."""
    return han.encode("utf-16-le")[::2]


def _by_beginning() -> dict[str, list[_Kind]]:
    """The terms of several characters under their first two: the longest first."""
    table: dict[str, list[_Kind]] = {}
    for term in sorted(_TERMS, key=lambda term: (-len(term), term)):
        if len(term) > 1:
            table.setdefault(term[:2], []).append(_TERMS[term])
    return table


_BEGINNINGS = _by_beginning()
# Whether a term may begin where two characters have such lower bytes: hardly any others are let through.
_MAY_BEGIN = bytearray(1 << 16)
for _beginning in _BEGINNINGS:
    _MAY_BEGIN[array("H", _lower(_beginning))[0]] = True
_ALONE = re.compile(f"[{''.join(term for term in _TERMS if len(term) == 1)}]")
_NO_KINDS: list[_Kind] = []


_NONE: frozenset[str] = frozenset()


class Facts:
    """What one pass over the text has found; every feature reads it."""

    __slots__ = (
        "clauses", "code", "emphasis", "numbered", "questions", "sentences", "separators", "tasks", "terms", "unique",
        "words",
    )  # fmt: skip

    def __init__(self, sample: Sample, characters: int, notable: Sequence[str] | None = None) -> None:
        """`characters` of the whole text, where `sample` is less. `notable`: all words of TERMS, among other pieces."""
        text, wide = sample.text, sample.wide
        self.clauses = self.emphasis = 0
        self.tasks: dict[str, float] = {}
        self.terms: dict[str, str] = {}
        if sample.plain:
            code = self._read_ascii(sample, notable)
            if wide:
                for mark in sample.wide_marks:
                    wide = wide.replace(chr(mark), "")
                self._read_chinese(wide, sample.different_han)
        else:
            code = self._read_scripts(text)
            wide = "".join(_HAN.findall(text))
            self._read_chinese(wide, len(set(wide)))
        self.numbered = len(_NUMBERED.findall(text)) if sample.lines else 0
        size = len(text)
        self.code = code * 16 > size > 20 or (_BACKTICK in sample.marks and "```" in text)
        if characters != size:
            self.words *= characters / size

    def _read_ascii(self, sample: Sample, notable: Sequence[str] | None) -> int:
        """What is narrow, where all of that is ASCII; returns the number of marks that code is full of."""
        wide, marks = sample.wide, sample.marks
        words, different = sample.words, sample.different
        if _HYPHEN in marks or _QUOTE in marks or (wide and _APOSTROPHE in wide):
            notable = _joined(sample)
            words, different = len(notable), len(set(notable))
        elif notable is None:
            notable = sample.tokens
        self.words, self.unique = float(words), float(different)
        _, self.questions, _, _, _, self.separators, code, ends, wide_ends = sample.kinds
        if notable:
            self._note(map(_ENGLISH.get, notable))
        self.sentences = 1
        if ends + sample.lines > 1 and words:
            spoken = sample.folded
            if wide_ends:
                text = sample.text.replace("。", ".").replace("！", ".").replace("？", ".")
                spoken = text.encode("ascii", "ignore").lower()
            self.sentences = _sentences_of(spoken, marks, sample.lines) or 1
        return code

    def _read_scripts(self, text: str) -> int:
        """The same by a regular expression: what is narrow is not only ASCII."""
        rest = " ".join(_HAN.split(text))
        self.separators = self.questions = 0
        tokens = _TOKENS.findall(rest.lower())
        marks = [mark for mark in map(_MARKS.get, tokens) if mark is not None]
        different = set(tokens)
        self.words = len(_KANA.findall(rest)) / 2.5 + len(tokens) - len(marks)
        self.unique = float(len(different) - len(different & _MARKS.keys()))
        for mark in marks:
            self.separators += mark & _SEPARATOR
            self.questions += mark >> 2 & 1
        self.sentences = _sentences(tokens)
        self._note(map(_ENGLISH.get, tokens))
        return sum([mark >> 3 for mark in marks])

    def _read_chinese(self, han: str, different: int) -> None:
        """`different`: how many characters occur in it."""
        if not han:
            return
        matched, left = _segment(han)
        self._note(matched)
        self.words += len(matched) + left / CHARACTERS_PER_WORD
        self.unique += len(set(matched)) + different * left / len(han) / CHARACTERS_PER_WORD

    def _note(self, kinds: Iterable[_Kind | None]) -> None:
        """Clause words count each time, tasks, terms and words of emphasis once."""
        clauses, emphatic = self.clauses, _NONE
        tasks, terms = self.tasks, self.terms
        for kind in kinds:
            if kind is not None:
                word, depth, domain, clause, emphasis = kind
                if clause:
                    clauses += 1
                if depth:
                    tasks[word] = depth
                if domain:
                    terms[word] = domain
                if emphasis:
                    emphatic = emphatic | {word}
        self.clauses = clauses
        if emphatic:
            self.emphasis += len(emphatic)


def _sentences_of(spoken: bytes, marks: frozenset[int], lines: int) -> int:
    """Ends with a word before them, in lower case."""
    if _EXCLAMATION in marks:
        spoken = spoken.replace(b"!", b".")
    if _QUESTION_MARK in marks:
        spoken = spoken.replace(b"?", b".")
    if lines:
        spoken = spoken.replace(b"\n", b".")
    found = 0
    for sentence in spoken.split(b".")[:-1]:
        found += sentence.islower()
    return found


def _joined(sample: Sample) -> list[str]:
    """The words of ASCII, those that an apostrophe or a hyphen joins as one."""
    folded = sample.folded.replace(b"`", b" ")
    if _APOSTROPHE in sample.wide:
        text = sample.text.replace(_STAND_IN, " ").replace(_APOSTROPHE, _STAND_IN)
        folded = text.lower().encode("ascii", "replace")
    joined = folded.translate(_JOINED)
    shapes = joined.translate(_JOINTS_ONLY)
    text = joined.decode()
    if b"--" in shapes:
        text = _SEVERAL_JOINTS.sub(" ", text)
    elif not (b" -" in shapes or b"- " in shapes or shapes.startswith(b"-") or shapes.endswith(b"-")):
        return text.split()
    return [word for token in text.split() if (word := token.strip(_JOINTS))]


def _sentences(tokens: list[str]) -> int:
    """Ends with a word before them, at least 1."""
    sentences = 0
    ended = True
    for token in tokens:
        mark = _MARKS.get(token)
        if mark is None:
            ended = False
        elif mark & _END:
            sentences += not ended
            ended = True
    return max(1, sentences)


def _segment(han: str) -> tuple[list[_Kind], int]:
    """The known terms in their order, the longest at each place, and how many characters are left."""
    lower, size = _lower(han), len(han)
    even, odd = array("H", lower[: size // 2 * 2]), array("H", lower[1 : 1 + (size - 1) // 2 * 2])
    begun = [
        *compress(range(0, size, 2), gathered(even, _MAY_BEGIN)),
        *compress(range(1, size, 2), gathered(odd, _MAY_BEGIN)),
        *[match.start() for match in _ALONE.finditer(han)],
    ]
    begun.sort()
    found: list[_Kind] = []
    left, end = size, 0
    for place in begun:
        if place < end:
            continue
        for kind in _BEGINNINGS.get(han[place : place + 2], _NO_KINDS):
            term = kind[0]
            if len(term) == 2 or han.startswith(term, place):
                break
        else:
            term = han[place]
            if term not in _TERMS:
                continue
            kind = _TERMS[term]
        found.append(kind)
        end = place + len(term)
        left -= len(term)
    return found, left
