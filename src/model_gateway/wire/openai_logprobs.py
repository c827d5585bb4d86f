"""Log-probabilities in OpenAI's replies: asked for by us, read, and taken out again. Pure.

Decides nothing by them. Where the caller asked for them itself nothing is taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from model_gateway.wire.openai import ABSENT, DECODE_ERRORS

# One alternative a token: llama.cpp gives twenty where none are said, and none at all for zero.
LOGPROBS: Final[Mapping[str, msgspec.Raw]] = {"logprobs": msgspec.Raw(b"true"), "top_logprobs": msgspec.Raw(b"1")}


class _Token(msgspec.Struct):
    logprob: float | None = None


class _Told(msgspec.Struct):
    content: list[_Token] | None = None


class _Choice(msgspec.Struct):
    logprobs: msgspec.Raw = ABSENT


class _Reply(msgspec.Struct):
    choices: list[_Choice] = []


_reply = msgspec.json.Decoder(_Reply).decode
_told: Callable[[msgspec.Raw], _Told | None] = msgspec.json.Decoder(_Told | None).decode


def asks(body: Mapping[str, msgspec.Raw]) -> bool:
    """Does the caller want them?"""
    return bytes(body.get("logprobs", b"")) == b"true"


def logprobs_in(body: bytes) -> Sequence[float] | None:
    """Of the first choice's tokens; None: the reply has none."""
    try:
        choices = _reply(body).choices
        raw = choices[0].logprobs if choices else ABSENT
        told = None if raw is ABSENT else _told(raw)
    except DECODE_ERRORS:
        return None
    if told is None or not told.content:
        return None
    return [token.logprob for token in told.content if token.logprob is not None] or None


def without_logprobs(body: bytes) -> bytes:
    """The same bytes, with `null` for the log-probabilities: as OpenAI says where nobody asked."""
    try:
        choices = _reply(body).choices
    except DECODE_ERRORS:
        return body
    for choice in choices:
        told = bytes(choice.logprobs)
        # An object with a name in it holds quotation marks as no text inside the reply can: it is found nowhere else.
        if told.startswith(b"{") and b'"' in told:
            body = body.replace(told, b"null")
    return body
