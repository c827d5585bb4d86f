"""Assessor v1: five explained features of a query, and a score from them. Pure and deterministic.

Each feature has a strength s ≥ 0 and the value 1 − e^(−s). The score is 1 − e^(−STEEPNESS · Σ wᵢ sᵢ) with weights that
sum to 1: a noisy-or, so that one overwhelming reason is enough and no reason is lost to an average. A factor's
contribution is its share of the sum, so that contributions add up to the score. Strengths are bounded (MAX_STRENGTH).

Chinese has no spaces: the longest known term is taken at each place, what is left is counted in characters,
CHARACTERS_PER_WORD to a word. A long prompt is judged by its beginning and its end; its length counts whole.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Mapping

import msgspec

from model_gateway.assess import lexicon_en, lexicon_zh
from model_gateway.config.schema import ComplexityConfig
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.route import Assessment, Factor, Tier

FEATURES = ("length", "vocabulary_diversity", "grammar_complexity", "domain_knowledge", "multi_part_question")

STEEPNESS = 1.5
MAX_STRENGTH = 3.0
CHARACTERS_PER_WORD = 1.6
HEAD_CHARACTERS, TAIL_CHARACTERS = 2_500, 1_500

_WORDS = re.compile(r"[^\W\d_぀-ヿ㐀-鿿]+(?:['’-][^\W\d_぀-ヿ㐀-鿿]+)*")
_HAN = re.compile(r"[㐀-鿿]+")
_KANA = re.compile(r"[぀-ヿ]")
# Never across a line break: `\s*` from every empty line onwards would be quadratic, 190 ms for 4,000 line breaks.
_NUMBERED = re.compile(r"^[^\S\n]*(?:\d+[.)、]|[-*•])[^\S\n]+\S", re.MULTILINE)
_CODE_MARKS = re.compile(r"[=(){}\[\];<>]")
_SEPARATORS = re.compile(r"[,;:，；：、]")
_ENDS = re.compile(r"[.!?。！？\n]+")


class _Kind(msgspec.Struct, frozen=True):
    """What a Chinese term is: its task depth, its domain, a word of emphasis. Or none: a clause word."""

    text: str
    depth: float = 0.0
    domain: str = ""
    emphasis: bool = False


def _chinese_terms() -> dict[str, _Kind]:
    names = {*lexicon_zh.TASKS, *lexicon_zh.DOMAINS, *lexicon_zh.CLAUSES, *lexicon_zh.EMPHASIS}
    return {
        name: _Kind(
            name,
            lexicon_zh.TASKS.get(name, 0.0),
            lexicon_zh.DOMAINS.get(name, ""),
            name in lexicon_zh.EMPHASIS,
        )
        for name in names
    }


_TERMS = _chinese_terms()
_CLAUSES = frozenset(lexicon_zh.CLAUSES)


def _by_first_character() -> dict[str, tuple[str, ...]]:
    """Each term under its first character, the longest first."""
    table: dict[str, list[str]] = {}
    for term in sorted(_TERMS, key=lambda term: (-len(term), term)):
        table.setdefault(term[0], []).append(term)
    return {first: tuple(terms) for first, terms in table.items()}


_STARTS = _by_first_character()


class _Facts(msgspec.Struct):
    """What one pass over the text has found; every feature reads it."""

    words: float = 0.0
    unique: float = 0.0
    clauses: int = 0
    separators: int = 0
    sentences: int = 1
    questions: int = 0
    numbered: int = 0
    emphasis: int = 0
    code: bool = False
    tasks: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    terms: dict[str, str] = msgspec.field(default_factory=dict[str, str])


class FeatureAssessor:
    """Weights, thresholds and the set of features come from the configuration."""

    def __init__(self, config: ComplexityConfig) -> None:
        weights = config.weights
        self._weights = {name: float(getattr(weights, name)) for name in config.features}
        self._low, self._high = config.thresholds.low, config.thresholds.high

    def assess(self, query: str, features: Collection[str] | None = None) -> Assessment:
        """Score `query` in 0–1. `features`: a subset by name. Raises InvalidRequest for an unknown name."""
        weights = self._weights if not features else self._subset(features)
        if not query or query.isspace():
            return Assessment(0.0, self._tier(0.0), (Factor("length", 0.0, 0.0, "empty query"),))
        facts = _read(query)
        total = sum(weights.values()) or 1.0
        found: list[tuple[str, float, float, str]] = []
        weighted = 0.0
        for name, weight in weights.items():
            strength, detail = _FEATURES[name](facts)
            strength = min(strength, MAX_STRENGTH)
            share = weight * strength / total
            weighted += share
            found.append((name, 1.0 - math.exp(-strength), share, detail))
        score = 1.0 - math.exp(-STEEPNESS * weighted)
        scale = score / weighted if weighted else 0.0
        factors = [Factor(name, value, share * scale, detail) for name, value, share, detail in found]
        factors.sort(key=lambda factor: (-factor.contribution, factor.name))
        return Assessment(score, self._tier(score), tuple(factors))

    def _tier(self, score: float) -> Tier:
        return Tier.LOCAL if score < self._low else Tier.HYBRID if score < self._high else Tier.REMOTE

    def _subset(self, features: Collection[str]) -> Mapping[str, float]:
        for name in features:
            if name not in FEATURES:
                shown = name[:100]
                near = difflib.get_close_matches(shown, FEATURES, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise InvalidRequest(f"unknown feature `{shown}`; {hint}known: {', '.join(FEATURES)}", param="features")
        asked = {name: self._weights.get(name, 0.0) for name in FEATURES if name in features}
        # Asked for by name, but weighted 0 or left out by the configuration: they count alike.
        return asked if any(asked.values()) else dict.fromkeys(asked, 1.0)


def _read(query: str) -> _Facts:
    """One pass over the text, or over its two ends where it is long."""
    whole = len(query)
    text = query
    if whole > HEAD_CHARACTERS + TAIL_CHARACTERS:
        text = f"{query[:HEAD_CHARACTERS]}\n{query[-TAIL_CHARACTERS:]}"
    facts = _Facts()
    _read_words(text, facts)
    if not text.isascii():
        _read_chinese(text, facts)
    facts.separators = len(_SEPARATORS.findall(text))
    facts.sentences = max(1, len([part for part in _ENDS.split(text) if part.strip()]))
    facts.questions = text.count("?") + text.count("？")
    facts.numbered = len(_NUMBERED.findall(text)) if "\n" in text else 0
    facts.code = "```" in text or len(_CODE_MARKS.findall(text)) * 16 > len(text) > 20
    facts.words *= whole / len(text)
    return facts


def _read_words(text: str, facts: _Facts) -> None:
    words = [word.lower() for word in _WORDS.findall(text)]
    unique = set(words)
    facts.words += len(words)
    facts.unique += len(unique)
    facts.clauses += sum(1 for word in words if word in lexicon_en.CLAUSES)
    tasks, domains = lexicon_en.TASKS, lexicon_en.DOMAINS
    for word in dict.fromkeys(words):
        facts.emphasis += word in lexicon_en.EMPHASIS
        depth = tasks.get(word)
        if depth is not None:
            facts.tasks[word] = depth
            continue
        domain = domains.get(word) or (domains.get(word[:-1]) if word.endswith("s") else None)
        if domain is not None:
            facts.terms[word] = domain


def _read_chinese(text: str, facts: _Facts) -> None:
    han = "".join(_HAN.findall(text))
    facts.words += len(_KANA.findall(text)) / 2.5
    if not han:
        return
    matched = _segment(han)
    left = len(han) - len("".join(matched))
    facts.clauses += sum(map(_CLAUSES.__contains__, matched))
    for term in dict.fromkeys(matched):
        kind = _TERMS[term]
        if kind.depth:
            facts.tasks[kind.text] = kind.depth
        if kind.domain:
            facts.terms[kind.text] = kind.domain
        facts.emphasis += kind.emphasis
    facts.words += len(matched) + left / CHARACTERS_PER_WORD
    facts.unique += len(set(matched)) + len(set(han)) * left / len(han) / CHARACTERS_PER_WORD


def _segment(han: str) -> list[str]:
    """The known terms in their order, the longest at each place."""
    found: list[str] = []
    starts = _STARTS
    place, end = 0, len(han)
    while place < end:
        for term in starts.get(han[place], ()):
            if han.startswith(term, place):
                found.append(term)
                place += len(term)
                break
        else:
            place += 1
    return found


# --- the features: (strength, what counted) --------------------------------------------------------------------------


def _length(facts: _Facts) -> tuple[float, str]:
    return facts.words / 45.0, f"about {round(facts.words)} words"


def _vocabulary_diversity(facts: _Facts) -> tuple[float, str]:
    # Guiraud's index (unique / √words): unlike the plain ratio it does not fall as a text grows.
    if not facts.words:
        return 0.0, "no words"
    return facts.unique / math.sqrt(facts.words) / 6.0, f"{round(facts.unique)} different words"


def _grammar_complexity(facts: _Facts) -> tuple[float, str]:
    per_sentence = facts.words / facts.sentences
    strength = 0.14 * facts.clauses + 0.06 * facts.separators + 0.025 * max(0.0, per_sentence - 10.0)
    return strength, f"{facts.clauses} clause words, {round(per_sentence)} words a sentence"


def _domain_knowledge(facts: _Facts) -> tuple[float, str]:
    strength = 0.42 * len(facts.terms) + (0.4 if facts.code else 0.0)
    domains = list(dict.fromkeys(facts.terms.values()))
    if facts.code and "computing" not in domains:
        domains.append("code")
    if not domains:
        return 0.0, "no special terms"
    return strength, f"{', '.join(domains[:4])}: {', '.join(list(facts.terms)[:6]) or 'code'}"


def _multi_part_question(facts: _Facts) -> tuple[float, str]:
    depths = sorted(facts.tasks.values(), reverse=True)
    strength = (depths[0] + 0.4 * sum(depths[1:])) if depths else 0.0
    parts = max(0, facts.questions - 1) + facts.numbered + max(0, facts.separators - 3) // 2
    strength += 0.15 * min(parts, 6) + 0.35 * min(facts.emphasis, 3)
    if not facts.tasks and not parts:
        return strength, "one plain request"
    names = ", ".join(list(facts.tasks)[:6]) or "none named"
    return strength, f"tasks: {names}; {parts + 1} parts" if parts else f"tasks: {names}"


_FEATURES: Mapping[str, Callable[[_Facts], tuple[float, str]]] = {
    "length": _length,
    "vocabulary_diversity": _vocabulary_diversity,
    "grammar_complexity": _grammar_complexity,
    "domain_knowledge": _domain_knowledge,
    "multi_part_question": _multi_part_question,
}
