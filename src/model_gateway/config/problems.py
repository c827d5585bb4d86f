"""Words for what pydantic found: one line that names the place as the user wrote it, and what is allowed there.

Decides wording only. Never shows a value that may be a secret.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from model_gateway.config.document import Keys
from model_gateway.config.options import Place, dotted, is_secret, nearest, shape_of
from model_gateway.config.schema import GatewayConfig

_Limits = dict[str, Any]

_WORDING: Final[Mapping[str, Callable[[_Limits], str]]] = {
    "int_type": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_parsing_size": lambda _: "must be a smaller whole number",
    "int_from_float": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "float_parsing": lambda _: "must be a number",
    "finite_number": lambda _: "must be a finite number",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
    "string_type": lambda _: "must be text; quote it",
    "string_too_short": lambda _: "must not be empty",
    "string_pattern_mismatch": lambda limits: f"must look like {limits['pattern']}",
    "literal_error": lambda limits: f"must be {limits['expected']}",
    "greater_than": lambda limits: f"must be greater than {limits['gt']:g}",
    "greater_than_equal": lambda limits: f"must be at least {limits['ge']:g}",
    "less_than": lambda limits: f"must be less than {limits['lt']:g}",
    "less_than_equal": lambda limits: f"must be at most {limits['le']:g}",
    "timezone_aware": lambda _: "must have a zone, such as Z or +02:00 at its end",
    "datetime_type": lambda _: "must be a date and time with a zone, such as 2027-01-31T00:00:00Z",
    "datetime_parsing": lambda _: "must be a date and time with a zone, such as 2027-01-31T00:00:00Z",
    "datetime_from_date_parsing": lambda _: "must be a date and time with a zone, such as 2027-01-31T00:00:00Z",
    "value_error": lambda limits: str(limits["error"]),
    "missing": lambda _: "is required",
    "tuple_type": lambda _: "must be a list",
    "dict_type": lambda _: "must be a mapping, name: value",
    "model_type": lambda _: "must be a section of options",
}

_WITHOUT_VALUE = {"missing", "tuple_type", "dict_type", "model_type"}


def subject(keys: Keys, places: Mapping[Keys, Place]) -> str:
    """How an error line about the value at `keys` begins: the nearest place that was written, and the rest."""
    for length in range(len(keys), 0, -1):
        place = places.get(keys[:length])
        if place is not None:
            rest = dotted(keys[length:])
            return place.subject + (f".{rest}" if rest and not rest.startswith("[") else rest)
    return dotted(keys)


def describe(error: ValidationError, places: Mapping[Keys, Place]) -> list[str]:
    """One line for each thing that is wrong."""
    return [_line(detail, places) for detail in error.errors(include_url=False)]


def _line(detail: ErrorDetails, places: Mapping[Keys, Place]) -> str:
    keys = tuple(key for key in detail["loc"] if key != "[key]")
    kind, limits = detail["type"], detail.get("ctx", {})
    wording = _WORDING.get(kind)
    text = wording(limits) if wording else detail["msg"][:1].lower() + detail["msg"][1:]
    value: object = detail["input"]
    if kind not in _WITHOUT_VALUE and not _secret_at(keys):
        text += f", not {reprlib.repr(value)}"
    if kind == "literal_error" and isinstance(value, str):
        meant = nearest(value, [word.strip("' ") for word in limits["expected"].replace(" or ", ",").split(",")])
        text += f"; did you mean {meant}?" if meant else ""
    return f"{subject(keys, places)}: {text}"


def _secret_at(keys: Keys) -> bool:
    model, position = GatewayConfig, 0
    while position < len(keys):
        info = model.model_fields.get(str(keys[position]))
        if info is None:
            return True  # not an option of ours: no reason to trust it
        shape, inner = shape_of(info)
        if inner is None:
            return is_secret(info)
        position += 1 if shape == "section" else 2
        model = inner
    return False
