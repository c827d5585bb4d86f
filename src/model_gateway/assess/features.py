"""Assessor v1: five explained features of a query, and a score from them. Pure and deterministic.

Each feature has a strength s ≥ 0 and the value 1 − e^(−s). The score is 1 − e^(−STEEPNESS · Σ wᵢ sᵢ) with weights that
sum to 1: a noisy-or, so that one overwhelming reason is enough and no reason is lost to an average. A factor's
contribution is its share of the sum, so that contributions add up to the score. Strengths are bounded (MAX_STRENGTH).

Chinese has no spaces: the longest known term is taken at each place, what is left is counted in characters,
CHARACTERS_PER_WORD to a word. A long prompt is judged by its beginning and its end; its length counts whole.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Collection, Mapping, Sequence
from itertools import compress
from typing import Any, NamedTuple

from model_gateway.assess import lexicon_en, lexicon_zh
from model_gateway.config.complexity import ComplexityConfig
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.route import Assessment, Factor, Tier

FEATURES = ("length", "vocabulary_diversity", "grammar_complexity", "domain_knowledge", "multi_part_question")

STEEPNESS = 1.5
MAX_STRENGTH = 3.0
CHARACTERS_PER_WORD = 1.6
HEAD_CHARACTERS, TAIL_CHARACTERS = 2_500, 1_500

# One pass for words and marks together. In a request's flow the processor's caches are cold, and code that is entered
# costs more than code that loops: five small scans took three times as long as this one.
_ASCII_TOKENS = re.compile(r"[a-z]+(?:['-][a-z]+)*|[,;:.!?=(){}\[\]<>\n]")
_TOKENS = re.compile(r"[^\W\d_぀-ヿ㐀-鿿]+(?:['’-][^\W\d_぀-ヿ㐀-鿿]+)*|[,;:.!?=(){}\[\]<>\n，；：、。！？]")
_HAN = re.compile(r"([㐀-鿿]+)")
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
_TERMS = _kinds(lexicon_zh.TASKS, lexicon_zh.DOMAINS, lexicon_zh.CLAUSES, lexicon_zh.EMPHASIS)


def _pairs(han: str) -> list[int]:
    """Each character with the next one as one number. All of Chinese is two bytes long."""
    codes = memoryview(han.encode("utf-16-le"))
    pairs = [0] * (len(han) - 1)
    pairs[::2] = codes[: len(han) // 2 * 4].cast("I").tolist()
    pairs[1::2] = codes[2 : 2 + (len(han) - 1) // 2 * 4].cast("I").tolist()
    return pairs


def _by_beginning() -> dict[int, tuple[str, ...]]:
    """The terms of several characters under their first two: the longest first."""
    table: dict[int, list[str]] = {}
    for term in sorted(_TERMS, key=lambda term: (-len(term), term)):
        if len(term) > 1:
            table.setdefault(_pairs(term[:2])[0], []).append(term)
    return {beginning: tuple(terms) for beginning, terms in table.items()}


_BEGINNINGS = _by_beginning()
_ALONE = re.compile(f"[{''.join(term for term in _TERMS if len(term) == 1)}]")


class _Facts:
    """What one pass over the text has found; every feature reads it."""

    __slots__ = (
        "clauses", "code", "emphasis", "numbered", "questions", "sentences", "separators", "tasks", "terms", "unique",
        "words",
    )  # fmt: skip

    def __init__(self) -> None:
        self.words = self.unique = 0.0
        self.clauses = self.separators = self.questions = self.numbered = self.emphasis = 0
        self.sentences = 1
        self.code = False
        self.tasks: dict[str, float] = {}
        self.terms: dict[str, str] = {}


class _Counts(NamedTuple):
    """How many of what: facts without a word of the query."""

    words: float
    unique: float
    clauses: int
    sentences: int
    terms: int
    code: bool
    tasks: int
    questions: int
    numbered: int
    separators: int


class FeatureAssessor:
    """Weights, thresholds and the set of features come from the configuration."""

    def __init__(self, config: ComplexityConfig) -> None:
        weights = config.weights
        self._weights: dict[str, float] = {name: float(getattr(weights, name)) for name in config.features}
        self._asked = _asked(self._weights)
        self._low, self._high = config.thresholds.low, config.thresholds.high

    def assess(
        self,
        query: str,
        features: Collection[str] | None = None,
        *,
        explain: bool = True,
        pieces: list[str] | None = None,
        share: float = 1.0,
    ) -> Assessment:
        """Score `query` in 0–1. `features`: a subset by name. Raises InvalidRequest for an unknown name.

        `pieces`: the whole query's, by reading.py, where they are known: most texts need not be read again. `share` of
        the score that another counts it with: the factors' contributions add up to that.
        """
        asked = self._asked if not features else _asked(self._subset(features))
        if not query or query.isspace():
            return Assessment(0.0, self.tier(0.0), (Factor("length", 0.0, 0.0, "empty query"),))
        facts = _read(query, pieces)
        strengths = _strengths(facts)
        weighted = 0.0
        for place, weight in asked:
            weighted += weight * strengths[place]
        score = 1.0 - math.exp(-STEEPNESS * weighted)
        parts = (
            strengths, facts.words, facts.unique, facts.clauses, facts.sentences, len(facts.terms), facts.code,
            len(facts.tasks), facts.questions, facts.numbered, facts.separators,
        )  # fmt: skip
        if not explain:
            return Assessment(score, self.tier(score), parts=parts)
        factors = _factors(asked, strengths, _details(_Counts(*parts[1:]), facts), share)
        return Assessment(score, self.tier(score), factors, parts=parts)

    def factors_of(self, parts: tuple[Any, ...], abstained: str = "", share: float = 1.0) -> tuple[Factor, ...]:
        """Of a whole assessment, not of one by a subset. A text that is empty has none. `share` as in `assess`."""
        del abstained  # it never does
        if not parts:
            return ()
        return _factors(self._asked, parts[0], _details(_Counts(*parts[1:])), share)

    def tier(self, score: float) -> Tier:
        """What the thresholds say of a score."""
        return Tier.LOCAL if score < self._low else Tier.HYBRID if score < self._high else Tier.REMOTE

    def _subset(self, features: Collection[str]) -> dict[str, float]:
        for name in features:
            if name not in FEATURES:
                shown = name[:100]
                import difflib

                near = difflib.get_close_matches(shown, FEATURES, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise InvalidRequest(f"unknown feature `{shown}`; {hint}known: {', '.join(FEATURES)}", param="features")
        asked = {name: self._weights.get(name, 0.0) for name in FEATURES if name in features}
        # Asked for by name, but weighted 0 or left out by the configuration: they count alike.
        return asked if any(asked.values()) else dict.fromkeys(asked, 1.0)


def _asked(weights: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    """(place in FEATURES, weight) of each, with weights that sum to 1."""
    total = sum(weights.values()) or 1.0
    return tuple([(FEATURES.index(name), weight / total) for name, weight in weights.items()])


def _read(query: str, pieces: list[str] | None = None) -> _Facts:
    """One pass over the text, or over its two ends where it is long."""
    whole = len(query)
    text = query
    if whole > HEAD_CHARACTERS + TAIL_CHARACTERS:
        text = f"{query[:HEAD_CHARACTERS]}\n{query[-TAIL_CHARACTERS:]}"
    facts = _Facts()
    ascii_only = text.isascii()
    rest, han = text, ""
    if not ascii_only:
        # No word or mark has Chinese in it: without its runs, what is left is found several times faster.
        parts = _HAN.split(text)
        rest, han = " ".join(parts[::2]), "".join(parts[1::2])
        facts.words += len(_KANA.findall(rest)) / 2.5
    if pieces is not None and ascii_only and not ("'" in text or "-" in text or "\n" in text):
        # Without these, words and marks are those that are known already, among others that do not count here.
        pieces = [piece for piece in pieces if piece in _MARKS or piece.isalpha()]
    else:
        lower = rest.lower()
        pieces = (_ASCII_TOKENS if lower.isascii() else _TOKENS).findall(lower)
    marks = _read_words(pieces, facts)
    if han:
        _read_chinese(han, facts)
    facts.numbered = len(_NUMBERED.findall(text)) if "\n" in text else 0
    facts.code = marks * 16 > len(text) > 20 or "```" in text
    facts.words *= whole / len(text)
    return facts


def _read_words(tokens: list[str], facts: _Facts) -> int:
    """Words of alphabets, and the marks between them; returns the number of marks that code is full of."""
    marks = [mark for mark in map(_MARKS.get, tokens) if mark is not None]
    different = set(tokens)
    facts.words += len(tokens) - len(marks)
    facts.unique += len(different)
    code = 0
    if marks:
        facts.unique -= len(different & _MARKS.keys())
        for mark in marks:
            facts.separators += mark & _SEPARATOR
            facts.questions += mark >> 2 & 1
            code += mark >> 3
        facts.sentences = _sentences(tokens) if len(marks) > 1 else 1
    _note([kind for kind in map(_ENGLISH.get, tokens) if kind is not None], facts)
    return code


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


def _read_chinese(han: str, facts: _Facts) -> None:
    matched = _segment(han)
    left = len(han) - len("".join(matched))
    _note([_TERMS[term] for term in matched], facts)
    facts.words += len(matched) + left / CHARACTERS_PER_WORD
    # As numbers: a set of so many strings must make and hash each of them.
    different = len(set(array("H", han.encode("utf-16-le"))))
    facts.unique += len(set(matched)) + different * left / len(han) / CHARACTERS_PER_WORD


def _note(kinds: list[_Kind], facts: _Facts) -> None:
    """Clause words count each time, tasks, terms and words of emphasis once."""
    emphasis: set[str] | None = None
    for kind in kinds:
        if kind.clause:
            facts.clauses += 1
        if kind.depth:
            facts.tasks[kind.text] = kind.depth
        if kind.domain:
            facts.terms[kind.text] = kind.domain
        if kind.emphasis:
            emphasis = emphasis or set()
            emphasis.add(kind.text)
    if emphasis:
        facts.emphasis += len(emphasis)


def _segment(han: str) -> list[str]:
    """The known terms in their order, the longest at each place."""
    begun = [*map(_BEGINNINGS.get, _pairs(han)), None]
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


# --- the features: how strong, and what counted ----------------------------------------------------------------------


def _strengths(facts: _Facts) -> tuple[float, ...]:
    """In the order of FEATURES, each 0 to MAX_STRENGTH."""
    words = facts.words
    depths = facts.tasks.values()
    deepest = max(depths) if depths else 0.0
    strengths = (
        words / 45.0,
        # Guiraud's index (unique / √words): unlike the plain ratio it does not fall as a text grows.
        facts.unique / math.sqrt(words) / 6.0 if words else 0.0,
        0.14 * facts.clauses + 0.06 * facts.separators + 0.025 * max(0.0, words / facts.sentences - 10.0),
        0.42 * len(facts.terms) + (0.4 if facts.code else 0.0),
        deepest + 0.4 * (sum(depths) - deepest) + 0.15 * min(_parts(facts), 6) + 0.35 * min(facts.emphasis, 3),
    )
    return strengths if max(strengths) <= MAX_STRENGTH else tuple([min(each, MAX_STRENGTH) for each in strengths])


def _parts(facts: _Facts | _Counts) -> int:
    """Parts beyond the first: further question marks, numbered lines, long enumerations."""
    return max(0, facts.questions - 1) + facts.numbered + max(0, facts.separators - 3) // 2


def _factors(
    asked: Sequence[tuple[int, float]], strengths: Sequence[float], details: Sequence[str], share: float
) -> tuple[Factor, ...]:
    """The largest contribution first; they add up to this share of the score."""
    weighted = 0.0
    for place, weight in asked:
        weighted += weight * strengths[place]
    scale = share * (1.0 - math.exp(-STEEPNESS * weighted)) / weighted if weighted else 0.0
    factors = [
        Factor(FEATURES[place], 1.0 - math.exp(-strengths[place]), weight * strengths[place] * scale, details[place])
        for place, weight in asked
    ]
    factors.sort(key=lambda factor: (-factor.contribution, factor.name))
    return tuple(factors)


def _details(counts: _Counts, facts: _Facts | None = None) -> tuple[str, ...]:
    """In the order of FEATURES. Without facts, which hold words of the query, it is told how many there were."""
    per_sentence = round(counts.words / counts.sentences)
    return (
        f"about {round(counts.words)} words",
        f"{round(counts.unique)} different words",
        f"{counts.clauses} clause words, {per_sentence} words a sentence",
        _domain_detail(facts) if facts is not None else _domain_count(counts),
        _multi_part_detail(facts) if facts is not None else _multi_part_count(counts),
    )


def _domain_detail(facts: _Facts) -> str:
    domains = list(dict.fromkeys(facts.terms.values()))
    if facts.code and "computing" not in domains:
        domains.append("code")
    if not domains:
        return "no special terms"
    return f"{', '.join(domains[:4])}: {', '.join(list(facts.terms)[:6]) or 'code'}"


def _domain_count(counts: _Counts) -> str:
    found = [f"{counts.terms} special terms"] if counts.terms else []
    if counts.code:
        found.append("code")
    return ", ".join(found) or "no special terms"


def _multi_part_detail(facts: _Facts) -> str:
    parts = _parts(facts)
    if not facts.tasks and not parts:
        return "one plain request"
    names = ", ".join(list(facts.tasks)[:6]) or "none named"
    return f"tasks: {names}; {parts + 1} parts" if parts else f"tasks: {names}"


def _multi_part_count(counts: _Counts) -> str:
    parts = _parts(counts)
    if not counts.tasks and not parts:
        return "one plain request"
    tasks = f"{counts.tasks} task words"
    return f"{tasks}; {parts + 1} parts" if parts else tasks
