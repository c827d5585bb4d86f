"""Gemini's own way to write a JSON schema (a part of OpenAPI's), as everybody else writes it. Pure.

`type` in capitals, `nullable`, counts as strings and `propertyOrdering` are the differences that matter.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from model_gateway.domain.errors import InvalidRequest
from model_gateway.wire.openai import DECODE_ERRORS

_COUNTS = frozenset(("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"))
_NESTED = frozenset(("items", "additionalProperties"))
_RENAMED = {"defs": "$defs", "ref": "$ref"}


def json_schema(raw: msgspec.Raw, where: str) -> msgspec.Raw:
    """Raises InvalidRequest that names the field `where`."""
    try:
        return msgspec.Raw(msgspec.json.encode(_schema(msgspec.json.decode(raw, type=dict[str, Any]))))
    except DECODE_ERRORS:
        raise InvalidRequest(f"`{where}` must be a schema (an object)", param=where) from None


def _schema(written: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for name, value in written.items():
        if name == "type" and isinstance(value, str):
            schema["type"] = value.lower()
        elif name in ("properties", "defs", "$defs") and isinstance(value, dict):
            inner = cast("dict[str, Any]", value)
            schema[_RENAMED.get(name, name)] = {key: _nested(item) for key, item in inner.items()}
        elif name in _NESTED:
            schema[name] = _nested(value)
        elif name in ("anyOf", "prefixItems") and isinstance(value, list):
            schema[name] = [_nested(item) for item in cast("list[Any]", value)]
        elif name in _COUNTS and isinstance(value, str) and value.isdecimal():
            schema[name] = int(value)
        elif not (name in ("nullable", "propertyOrdering") or (name == "format" and value == "enum")):
            schema[_RENAMED.get(name, name)] = value
    return _nullable(schema) if written.get("nullable") is True else schema


def _nested(value: Any) -> Any:
    return _schema(cast("dict[str, Any]", value)) if isinstance(value, dict) else value


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema.get("type"), str) and schema["type"] != "null":
        schema["type"] = [schema["type"], "null"]
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
    elif isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    return schema
