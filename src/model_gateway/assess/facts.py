"""What one reading of a text has found for the five features (features.py): words, marks, known terms. Pure.

Chinese has no spaces: the longest known term is taken at each place, what is left is counted in characters,
CHARACTERS_PER_WORD to a word.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Collection, Mapping, Sequence
from itertools import compress
from string import ascii_lowercase, ascii_uppercase
from typing import Final

from model_gateway.assess import lexicon_en, lexicon_zh
from model_gateway.assess.sample import Sample, but

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


def _ascii(sought: int) -> bytes:
    return "".join([mark for mark, kind in _MARKS.items() if kind & sought and mark.isascii()]).encode()


_LETTERS = (ascii_lowercase + ascii_uppercase).encode()
_SEPARATORS, _CODES, _QUESTION_MARK = frozenset(_ascii(_SEPARATOR)), frozenset(_ascii(_CODE)), ord("?")
_NOT_CODE = but(_ascii(_CODE))
# Words are so many a's, ends of sentences dots, and nothing else is left.
_NOT_WORDS_OR_ENDS = but(_LETTERS + _ascii(_END))
_WORDS_OR_ENDS = bytes.maketrans(_LETTERS + _ascii(_END), b"a" * len(_LETTERS) + b"." * len(_ascii(_END)))
# What joins words to one: apostrophes, one of them not ASCII, for which a backtick stands here, and the hyphen.
_APOSTROPHE, _STAND_IN, _JOINTS = "’", "`", "'`-"
_JOINED = bytes(code if chr(code).islower() or chr(code) in _JOINTS else 32 for code in range(128)) + b" " * 128
_JOINTS_ONLY = bytes(45 if chr(code) in _JOINTS else 32 if code == 32 else 97 for code in range(256))
_SEVERAL_JOINTS = re.compile(f"[{_JOINTS}]{{2,}}")


class _Kind:
    """What a known term is: its task depth, its domain, a clause word, a word of emphasis."""

    __slots__ = ("clause", "depth", "domain", "emphasis", "text")

    def __init__(self, text: str, depth: float, domain: str, clause: bool, emphasis: bool) -> None:
        self.text = text
        self.depth = depth
        self.domain = domain
        self.clause = clause
        self.emphasis = emphasis


def _kinds(
    tasks: Mapping[str, float], domains: Mapping[str, str], clauses: Collection[str], emphasis: Collection[str]
) -> dict[str, _Kind]:
    return {
        name: _Kind(name, tasks.get(name, 0.0), domains.get(name, ""), name in clauses, name in emphasis)
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


def _pairs(han: str) -> tuple[array[int], array[int]]:
    """Each character with the next one as one number, the first with the second, the third with the fourth; and those
    between them. All of Chinese is two bytes long.
    """
    codes = han.encode("utf-16-le")
    return array("I", codes[: len(han) // 2 * 4]), array("I", codes[2 : 2 + (len(han) - 1) // 2 * 4])


def _by_beginning() -> dict[int, tuple[str, ...]]:
    """The terms of several characters under their first two: the longest first."""
    table: dict[int, list[str]] = {}
    for term in sorted(_TERMS, key=lambda term: (-len(term), term)):
        if len(term) > 1:
            table.setdefault(_pairs(term[:2])[0][0], []).append(term)
    return {beginning: tuple(terms) for beginning, terms in table.items()}


_BEGINNINGS = _by_beginning()
_ALONE = re.compile(f"[{''.join(term for term in _TERMS if len(term) == 1)}]")


class Facts:
    """What one pass over the text has found; every feature reads it."""

    __slots__ = (
        "clauses", "code", "emphasis", "numbered", "questions", "sentences", "separators", "tasks", "terms", "unique",
        "words",
    )  # fmt: skip

    def __init__(self, sample: Sample, characters: int, notable: Sequence[str] | None = None) -> None:
        """`characters` of the whole text, where `sample` is less. `notable`: all words of TERMS, among other pieces."""
        text, wide = sample.text, sample.wide
        self.words = self.unique = 0.0
        self.clauses = self.separators = self.questions = self.emphasis = 0
        self.tasks: dict[str, float] = {}
        self.terms: dict[str, str] = {}
        code = self._read_ascii(sample, notable) if sample.plain else self._read_scripts(text)
        if sample.plain and wide:
            for mark in sample.wide_marks:
                wide = wide.replace(chr(mark), "")
            self._read_chinese(wide, sample.different_han)
        elif wide or not sample.plain:
            wide = "".join(_HAN.findall(text))
            self._read_chinese(wide, len(set(wide)))
        self.numbered = len(_NUMBERED.findall(text)) if "\n" in text else 0
        self.code = code * 16 > len(text) > 20 or "```" in text
        self.words *= characters / len(text)

    def _read_ascii(self, sample: Sample, notable: Sequence[str] | None) -> int:
        """What is narrow, where all of that is ASCII; returns the number of marks that code is full of."""
        marks, wide = sample.marks, sample.wide
        words, different = sample.words, sample.different
        if not sample.different_marks.isdisjoint(b"'-") or _APOSTROPHE in wide:
            notable = _joined(sample)
            words, different = len(notable), len(set(notable))
        elif notable is None:
            notable = sample.tokens
        self.words += words
        self.unique += different
        self._note([_ENGLISH[word] for word in notable if word in _ENGLISH])
        ends = sample.narrow.count("\n") if "\n" in sample.narrow else 0
        code = 0
        if marks:
            has, marked = sample.different_marks, marks.count
            if not has.isdisjoint(_SEPARATORS):
                self.separators = marked(b",") + marked(b":") + marked(b";")
            if not has.isdisjoint(_CODES):
                code = len(marks.translate(None, _NOT_CODE))
            if _QUESTION_MARK in has:
                self.questions = marked(b"?")
            ends += marked(b".") + marked(b"!") + self.questions
        spoken = sample.folded
        if wide:
            count = wide.count
            self.separators += count("，") + count("；") + count("：") + count("、")
            questions = count("？")
            self.questions += questions
            more = count("。") + count("！") + questions
            if more and words:
                ends += more
                spoken = sample.text.replace("。", ".").replace("！", ".").replace("？", ".").encode("ascii", "ignore")
        self.sentences = 1
        if ends > 1:
            # An end counts where a word is before it.
            self.sentences = max(1, spoken.translate(_WORDS_OR_ENDS, _NOT_WORDS_OR_ENDS).count(b"a."))
        return code

    def _read_scripts(self, text: str) -> int:
        """The same by a regular expression: what is narrow is not only ASCII."""
        rest = " ".join(_HAN.split(text))
        self.words += len(_KANA.findall(rest)) / 2.5
        tokens = _TOKENS.findall(rest.lower())
        marks = [mark for mark in map(_MARKS.get, tokens) if mark is not None]
        different = set(tokens)
        self.words += len(tokens) - len(marks)
        self.unique += len(different) - len(different & _MARKS.keys())
        for mark in marks:
            self.separators += mark & _SEPARATOR
            self.questions += mark >> 2 & 1
        self.sentences = _sentences(tokens)
        self._note([_ENGLISH[token] for token in tokens if token in _ENGLISH])
        return sum([mark >> 3 for mark in marks])

    def _read_chinese(self, han: str, different: int) -> None:
        """`different`: how many characters occur in it."""
        if not han:
            return
        matched = _segment(han)
        left = len(han) - len("".join(matched))
        self._note([_TERMS[term] for term in matched])
        self.words += len(matched) + left / CHARACTERS_PER_WORD
        self.unique += len(set(matched)) + different * left / len(han) / CHARACTERS_PER_WORD

    def _note(self, kinds: list[_Kind]) -> None:
        """Clause words count each time, tasks, terms and words of emphasis once."""
        emphasis: set[str] | None = None
        for kind in kinds:
            if kind.clause:
                self.clauses += 1
            if kind.depth:
                self.tasks[kind.text] = kind.depth
            if kind.domain:
                self.terms[kind.text] = kind.domain
            if kind.emphasis:
                emphasis = emphasis or set()
                emphasis.add(kind.text)
        if emphasis:
            self.emphasis += len(emphasis)


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


def _segment(han: str) -> list[str]:
    """The known terms in their order, the longest at each place."""
    begun: list[tuple[str, ...] | None] = [None] * len(han)
    even, odd = _pairs(han)
    begun[: 2 * len(even) : 2] = map(_BEGINNINGS.get, even)
    begun[1 : 2 * len(odd) : 2] = map(_BEGINNINGS.get, odd)
    for match in _ALONE.finditer(han):
        place = match.start()
        begun[place] = (*(begun[place] or ()), match[0])
    found: list[str] = []
    end = 0
    for place in compress(range(len(han)), begun):
        if place >= end:
            for term in begun[place] or ():
                if len(term) < 3 or han.startswith(term, place):
                    found.append(term)
                    end = place + len(term)
                    break
    return found
