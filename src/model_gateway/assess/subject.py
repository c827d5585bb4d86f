"""What of a conversation is judged: the user's turns, each with its words and what weighs on them. Pure.

A turn is a user's message that holds words of the user. Results of tools, reminders and files are no turns: they belong
to the turn that they follow, or weigh on the next one. What weighs raises a score a little and never lowers it:

| what                                    | raises by up to | at          |
|-----------------------------------------|-----------------|-------------|
| tools that may be called                | TOOLS           | 10,000 bytes of definitions |
| results of tools before the turn        | RESULTS         | 20 of them  |
| files in the turn (pictures are not)    | FILES           | 3 of them   |
| material around the words (wrappers.py) | ASIDE           | 20,000 characters |

each as a share of what is left to 1, in proportion below. Results that follow a turn do not count: an agent's loop
keeps the score of the turn that began it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from model_gateway.assess.follow_ups import is_follow_up
from model_gateway.assess.wrappers import Words, words_of
from model_gateway.domain.chat import Message, Part

TOOLS: Final = 0.06
RESULTS: Final = 0.06
FILES: Final = 0.09
ASIDE: Final = 0.06

MOST_TOOL_BYTES: Final = 10_000
MOST_RESULTS: Final = 20
MOST_FILES: Final = 3
MOST_ASIDE: Final = 20_000

_RESULT_TYPES = ("tool_result", "_output", "function")
_FILE_TYPES = frozenset(("file", "input_file", "document"))
_TEXT_TYPES = frozenset(("text", "input_text"))


class Turn(msgspec.Struct, frozen=True):
    """One turn of the user. `results`: of tools before it."""

    words: str
    aside: int = 0
    files: int = 0
    results: int = 0

    def weight(self, tool_bytes: int) -> float:
        """What part of the rest to 1 it adds to the score of its words."""
        left = 1.0
        for most, amount, full in (
            (TOOLS, tool_bytes, MOST_TOOL_BYTES),
            (RESULTS, self.results, MOST_RESULTS),
            (FILES, self.files, MOST_FILES),
            (ASIDE, self.aside, MOST_ASIDE),
        ):
            if amount:
                left *= 1.0 - most * min(1.0, amount / full)
        return 1.0 - left

    def weighs(self, tool_bytes: int) -> str:
        """The same in words."""
        parts = (
            (f"tools of {tool_bytes} bytes", tool_bytes),
            (f"{self.results} results of tools before", self.results),
            (f"{self.files} files", self.files),
            (f"{self.aside} characters of material", self.aside),
        )
        return ", ".join(text for text, amount in parts if amount)

    def is_follow_up(self) -> bool:
        return not self.files and is_follow_up(self.words)


def results_in(message: Message) -> int:
    """How many results of tools a message holds, whichever schema it came in."""
    if message.role in ("tool", "function"):
        return 1
    content = message.content
    if not isinstance(content, list):
        return 0
    return sum([part.type.endswith(_RESULT_TYPES) for part in content])


def turn_of(message: Message, results: int) -> Turn | None:
    """None where the user says nothing in it. `results`: of tools before it."""
    content = message.content
    if isinstance(content, str):
        words = words_of(content)
        return None if words.is_result or not words.text else Turn(words.text, words.aside, 0, results)
    return _turn_of_parts(content, results) if content else None


def _turn_of_parts(parts: Sequence[Part], results: int) -> Turn | None:
    own: list[str] = []
    aside = files = 0
    told: Words | None = None
    for part in parts:
        if part.type in _TEXT_TYPES:
            if told is not None and told.is_result:
                # A client that tells results as text puts what came out into the next part.
                words = _own_only(part.text)
            else:
                words = told = words_of(part.text)
            aside += words.aside
            if words.text and not words.text.isspace():
                own.append(words.text)
        elif part.type in _FILE_TYPES:
            files += 1
            aside += len(part.text)
    return Turn("\n".join(own), aside, files, results) if own else None


def _own_only(text: str) -> Words:
    words = words_of(text)
    return words if words.aside and words.text != text else Words("", len(text))


def first_words(messages: Sequence[Message]) -> str:
    """The words of the first turn: they tell a conversation from others."""
    for message in messages:
        if message.role == "user":
            turn = turn_of(message, 0)
            if turn is not None:
                return turn.words
    return ""
