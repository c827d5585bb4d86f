"""Signs in a text that its model could not answer: a refusal, or a piece that it says again and again. Pure.

Decides by wording alone, in English and Chinese, and linear in what it looks at. Knows nothing of the question: an
answer that is wrong and sounds right passes.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from model_gateway.config.patterns import Pattern, compile_pattern

_BEGINNING = 240
"""Characters of an answer in which a refusal is looked for: what stands later is about something."""

_END = 1_000
_LOOP_CHARACTERS = 60
_LOOP_TIMES = 4
_SENTENCE_CHARACTERS = 12

_CANNOT = r"(?:can(?:no|')t|can ?not|could(?:n't| not)|am (?:unable|not able)|'m (?:unable|not able)|won't|will not)"
_DO = (
    r"(?:help|assist|answer|provide|fulfil+|comply|do (?:that|this)|give|access|browse|respond|continue|generate|"
    r"create|complete|offer|discuss|determine|tell|to )"
)
_ENGLISH = (
    rf"^\W*(?:(?:i'm|i am) (?:very |so |really |truly )?sorry|sorry|unfortunately|i apologi[sz]e|my apologies)\b"
    rf".{{0,60}}\b{_CANNOT}\b",
    rf"\bi {_CANNOT}(?: be able to)? {_DO}",
    rf"\bi'm (?:unable|not able) to {_DO}",
    r"^\W*as an? (?:ai|artificial intelligence|language model|large language model)\b",
    r"^\W*(?:i'm sorry,? (?:but )?)?i (?:do not|don't) (?:know\b|have (?:access|any information|enough information))",
    r"^\W*(?:i'm|i am) not sure\b",
)
_CHINESE = (
    r"^\W*(?:(?:非常|很|十分)?(?:抱歉|对不起|遗憾)).{0,20}(?:无法|不能|没有办法|没法|不便|不可以)",
    r"我(?:暂时|目前|现在)?(?:无法|不能|没办法|没有办法|没法)(?:回答|提供|帮助|协助|满足|完成|给出|访问|执行|处理|确定)",
    r"^\W*(?:作为|身为)(?:一个|一名|一款)?(?:人工智能|ai|大?语言模型)",
    r"^\W*(?:对不起|抱歉)?[，,]?我(?:不知道|不清楚|不确定|不了解)",
)
_REFUSAL: Pattern = compile_pattern("|".join(f"(?:{pattern})" for pattern in (*_ENGLISH, *_CHINESE)))
_SENTENCE = re.compile(r"[.!?。！？；;\n]+")
_WORD = re.compile(r"[^\W_]+")
_IDEOGRAPH = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af]")


def refuses(text: str) -> bool:
    """Does it begin like an answer that gives none?"""
    beginning = unicodedata.normalize("NFKC", text[: 2 * _BEGINNING].strip()[:_BEGINNING]).lower().replace("’", "'")
    return _REFUSAL.search(" ".join(beginning.split())) is not None


def repeats(text: str) -> bool:
    """Does it end in a piece said over and over, or is most of it one sentence?"""
    return _loops(" ".join(text[-2 * _END :].split())[-_END:]) or _dwells(text[:10_000])


def words(text: str) -> int:
    """How many; each ideograph is one."""
    ideographs = len(_IDEOGRAPH.findall(text))
    return ideographs + len(_WORD.findall(_IDEOGRAPH.sub(" ", text) if ideographs else text))


def _loops(end: str) -> bool:
    """Some stretch up to the end is one piece at least _LOOP_TIMES over (Knuth, Morris and Pratt, read backwards)."""
    backwards = end[::-1]
    borders = [0] * len(backwards)
    border = 0
    for at in range(1, len(backwards)):
        while border and backwards[at] != backwards[border]:
            border = borders[border - 1]
        if backwards[at] == backwards[border]:
            border += 1
        borders[at] = border
        length = at + 1
        if length >= _LOOP_CHARACTERS and length >= _LOOP_TIMES * (length - border):
            return True
    return False


def _dwells(text: str) -> bool:
    sentences = [sentence for part in _SENTENCE.split(text) if len(sentence := part.strip()) >= _SENTENCE_CHARACTERS]
    if len(sentences) < _LOOP_TIMES:
        return False
    most = Counter(sentences).most_common(1)[0][1]
    return most >= _LOOP_TIMES and 2 * most > len(sentences)
