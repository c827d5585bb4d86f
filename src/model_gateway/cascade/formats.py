"""Is a text the JSON that was asked for, and does it fit its schema? Pure.

A schema is the caller's: nothing that it refers to is fetched, its patterns run in linear time, and one that cannot be
read, or is too large, is not held against the answer.
"""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import msgspec

_MAX_SCHEMA_BYTES = 64 * 1024
_PATTERNS = jsonschema_rs.RegexOptions()
_decode = msgspec.json.Decoder(Any).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


def is_json(text: str, *, object_only: bool = False) -> bool:
    try:
        value = _decode(text)
    except _UNREADABLE:
        return False
    return isinstance(value, dict) if object_only else True


def fits(text: str, schema: bytes) -> bool:
    """Of a text that is JSON."""
    if len(schema) > _MAX_SCHEMA_BYTES:
        return True
    try:
        validator = jsonschema_rs.validator_for(_decode(schema), retriever=_nothing, pattern_options=_PATTERNS)
    except (*_UNREADABLE, ValueError):
        return True
    try:
        return validator.is_valid(_decode(text))
    except (*_UNREADABLE, ValueError):
        return False


def _nothing(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched")
