"""Who should go on with a conversation: what staying with a target is worth, and who gets a new one among equals. Pure.

A provider keeps what it has read in its prompt cache, and asks less for it. So the target that answered the turn before
is worth more by STAYING, and by up to CACHED where its price says so: the share of the estimate that its cached input
saves. Both together stay below what load, success and speed may differ by: a target that fails, is full or crawls loses
the conversation, and whoever answered instead keeps it.

Where nobody is known to have answered before, equals share conversations out by a hash of both: the same one in every
process and on every machine, with nothing remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from model_gateway.domain.route import Target
from model_gateway.domain.usage import PICO_PER_NANO

STAYING: Final = 0.06
CACHED: Final = 0.24

MIN_CACHED_TOKENS: Final = 1_024
"""Vendors cache no shorter beginnings."""

NEAR: Final = 0.05
"""Targets of one price whose ranks differ by no more are equals."""

_MARK_BITS: Final = 63
LOT_BITS: Final = 30
"""So many fit one digit of Python's integers, with which it reckons faster."""

GROUPS: Final = 2**12
"""Conversations of one group draw the same lots, so that who has the highest can be remembered. Of so many groups each
of ten targets gets a tenth to 8 %."""

_GROUP_SHIFT: Final = _MARK_BITS - 12
_SHIFT: Final = _MARK_BITS - LOT_BITS
MIXING: Final = 0x278DDE6D  # 2**30 by the golden ratio: spreads what differs in a few bits
_LOT: Final = 2**LOT_BITS - 1


class Stay(msgspec.Struct):
    """`conversation`: its number. `before`: the place of the target that answered it last, -1 where none is known.
    `new_tokens`: how much of the input that one has likely not in its prompt cache; -1: likely all of it.
    """

    conversation: int
    before: int = -1
    new_tokens: int = -1

    def cached_of(self, input_tokens: int) -> int:
        """How much of it that prompt cache likely holds."""
        cached = input_tokens - self.new_tokens
        return cached if self.new_tokens >= 0 and cached >= MIN_CACHED_TOKENS else 0


def mark(target: Target) -> int:
    """A number for a target that is the same in every process; it fits a signed word and is not 0."""
    name = f"{target.provider}\0{target.model}".encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest()) >> 1 or 1


def saved_nano(target: Target, input_tokens: int, cached_tokens: int) -> int:
    """What a provider asks less for input that its prompt cache holds."""
    price = target.price.at(input_tokens)
    tokens = min(cached_tokens, input_tokens)
    return max(0, tokens * (price.input_pico - price.cached_input_pico) // PICO_PER_NANO) if price.known else 0


def worth(target: Target, cost_nano: int, input_tokens: int, cached_tokens: int) -> float:
    """What staying adds to a target's rank."""
    if not cached_tokens or cost_nano <= 0:
        return STAYING
    return STAYING + CACHED * min(1.0, saved_nano(target, input_tokens, cached_tokens) / cost_nano)


def group_of(conversation: int) -> int:
    """0 to GROUPS − 1."""
    return conversation >> _GROUP_SHIFT


def lot_of(mark: int) -> int:
    """What of a mark, or of a conversation's number, a circle is divided by."""
    return mark >> _SHIFT


def drawn(group: int, marks: Sequence[int]) -> Sequence[int]:
    """The lots of the targets with those marks: the highest gets the group's conversations (rendezvous hashing)."""
    spread = group * MIXING & _LOT
    return [(spread ^ of >> _SHIFT) * MIXING & _LOT for of in marks]


def winner(group: int, marks: Sequence[int]) -> int:
    """The place of the highest of them."""
    lots = drawn(group, marks)
    return lots.index(max(lots))
