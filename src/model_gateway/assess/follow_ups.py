"""Is this a follow-up: words that say little without the turn that they follow ("and why?", "继续")? Pure.

A follow-up is as hard as what it goes on with. Decides by a list of such words, and by how short sentences begin or
what they point at; a longer sentence is never one.
"""

from __future__ import annotations

import re

MAX_CHARACTERS = 60
MAX_WORDS = 7
MAX_HAN = 12


def _listed(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(","))


# With nothing else around but marks and politeness.
_ALONE = _listed(
    """
    why, why not, how, how so, and, and why, and how, so, then, and then, then what, so what, go on, go ahead,
    continue, carry on, keep going, proceed, next, more, again, once more, yes, yep, yeah, no, nope, ok, okay,
    sure, right, correct, exactly, really, agreed, try again, retry, redo, do it, do so, do that, elaborate,
    expand, explain, say more, tell me more, more details, in more detail, for example, such as, what else,
    anything else, is that all, are you sure, what do you mean, i see, both, all of them, the first,
    the second, the first one, the second one, shorter, longer, simpler, step by step
    """
)
_BEGINS = re.compile(r"(?:and|but|so|then|also|or|what about|how about|what if|why|because)\b")
_POINTS = re.compile(r"\b(?:it|its|that|this|them|they|these|those|above|previous|same|else|instead)\b")
_POLITE = re.compile(r"\b(?:please|pls|thanks|thank you)\b")
_NOT_WORDS = re.compile(r"[^\w\s']+")
_HAN = re.compile(r"[㐀-鿿]")
_CHINESE_ALONE = _listed(
    """
    继续, 为什么, 为何, 怎么, 怎么说, 然后, 接着, 接着说, 说下去, 往下说, 还有, 还有吗, 好, 好的, 可以, 是,
    是的, 对, 对的, 不, 不是, 不对, 行, 再来, 再试, 再试一次, 重试, 重来, 展开, 展开说说, 详细说说, 详细点,
    具体点, 具体说说, 举个例子, 举例, 真的, 确定, 下一步, 下一个, 同上, 都要, 第一个, 第二个, 简单点, 短一点,
    长一点
    """
)
_CHINESE_BEGINS = ("那", "然后", "还有", "再", "继续", "接着", "为什么", "为何", "所以", "但是", "可是", "而且", "如果")
_CHINESE_POINTS = re.compile("它|这|那|上面|上述|刚才|前面|之前|以上|同样")
_CHINESE_NOISE = re.compile("[请吧呢吗啊呀嘛了么]+$|^请")


def is_follow_up(words: str) -> bool:
    if len(words) > MAX_CHARACTERS:
        return False
    text = _NOT_WORDS.sub(" ", words.lower()).strip()
    han = len(_HAN.findall(text))
    if han:
        return han <= MAX_HAN and _points_back_in_chinese("".join(text.split()))
    text = " ".join(_POLITE.sub(" ", text).split())
    if not text or text in _ALONE:
        return True
    if text.count(" ") >= MAX_WORDS:
        return False
    return bool(_BEGINS.match(text) or _POINTS.search(text))


def _points_back_in_chinese(text: str) -> bool:
    short = _CHINESE_NOISE.sub("", text)
    return (
        text in _CHINESE_ALONE
        or short in _CHINESE_ALONE
        or text.startswith(_CHINESE_BEGINS)
        or bool(_CHINESE_POINTS.search(text))
    )
