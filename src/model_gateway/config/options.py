"""The options of the schema by name: both spellings, the nearest one, and a written document in canonical spelling.

Decides which written key means which option, and refuses unknown or doubled ones. Values are the schema's to check.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import NoneType
from typing import Literal, TypeAlias, cast, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from model_gateway.config.document import Keys
from model_gateway.config.schema import GatewayConfig

Shape = Literal["section", "named sections", "listed sections", "mapping", "list", "value"]
Model: TypeAlias = type[BaseModel]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written. `source` is shown by `config show`, `subject` begins an error line about it."""

    source: str
    subject: str


@dataclass(frozen=True, slots=True)
class Layer:
    """Values in canonical spelling, the place of each, and what was wrong with the writing, one line each."""

    values: dict[str, object] = field(default_factory=dict[str, object])
    places: dict[Keys, Place] = field(default_factory=dict[Keys, Place])
    problems: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Option:
    """One leaf of the schema. A name inside `providers` is `*`, a position inside a list is 0."""

    keys: Keys
    info: FieldInfo


def dotted(keys: Keys) -> str:
    """("keys", 0, "name") is keys[0].name."""
    path = ""
    for key in keys:
        path += f"[{key}]" if isinstance(key, int) else f".{key}" if path else key
    return path


@cache
def names(model: Model) -> Mapping[str, str]:
    """Both spellings of each option of a section → its canonical name."""
    spellings: dict[str, str] = {}
    for name, info in model.model_fields.items():
        spellings[name] = name
        spellings[info.alias or name] = name
    return spellings


def shape_of(info: FieldInfo) -> tuple[Shape, Model | None]:
    """What an option holds, and the model of the sections inside it."""
    annotation: object = info.annotation
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section", annotation
    if origin is dict:
        model = _model(arguments[1])
        return ("named sections", model) if model else ("mapping", None)
    if origin is tuple:
        model = _model(arguments[0])
        return ("listed sections", model) if model else ("list", None)
    return "value", None


def is_secret(info: FieldInfo) -> bool:
    return info.annotation is SecretStr or SecretStr in get_args(info.annotation)


def options(model: Model = GatewayConfig, keys: Keys = ()) -> Iterator[Option]:
    """Every leaf of the schema, in its order."""
    for name, info in model.model_fields.items():
        inner = (*keys, name)
        shape, section = shape_of(info)
        if section is None:
            yield Option(inner, info)
        elif shape == "section":
            yield from options(section, inner)
        else:
            yield from options(section, (*inner, "*" if shape == "named sections" else 0))


def nearest(word: str, known: list[str]) -> str:
    """The known word that was probably meant, or ""."""
    found = difflib.get_close_matches(word.lower(), [name.lower() for name in known], n=1, cutoff=0.6)
    return next((name for name in known if found and name.lower() == found[0]), "")


def canonical(document: Mapping[object, object], lines: Mapping[Keys, int], file: str) -> Layer:
    """The document as written by a user, with every option under its canonical name."""
    reader = _Reader(lines, file)
    reader.layer.values.update(reader.section(GatewayConfig, document, (), ()))
    return reader.layer


class _Reader:
    def __init__(self, lines: Mapping[Keys, int], file: str) -> None:
        self.layer = Layer()
        self._lines = lines
        self._file = file

    def section(self, model: Model, written: Mapping[object, object], keys: Keys, spelled: Keys) -> dict[str, object]:
        values: dict[str, object] = {}
        first: dict[str, str] = {}
        for key, value in written.items():
            here = (*spelled, str(key))
            name = names(model).get(str(key))
            if name is None:
                self._refuse(here, f"unknown option{_hint(str(key), model)}")
            elif name in values:
                self._refuse(here, f"the same option as {first[name]}, which is there too; keep one of them")
            else:
                first[name] = str(key)
                info = model.model_fields[name]
                self._note((*keys, name), here)
                values[name] = self._value(info, value, (*keys, name), here)
        return values

    def _value(self, info: FieldInfo, value: object, keys: Keys, spelled: Keys) -> object:
        shape, model = shape_of(info)
        if shape == "value":
            if isinstance(value, bool) and not _takes_bool(info):
                self._refuse(spelled, "must not be true or false (YAML reads yes, no, on and off so: quote the word)")
                return info.default
            return value
        if value is None:  # `server:` with every line under it commented out
            return () if shape in ("list", "listed sections") else {}
        if isinstance(value, Mapping) and shape in ("section", "named sections", "mapping"):
            written = cast("Mapping[object, object]", value)
            if shape == "section" and model:
                return self.section(model, written, keys, spelled)
            return {str(name): self._inner(model, item, keys, spelled, str(name)) for name, item in written.items()}
        if isinstance(value, list) and shape in ("list", "listed sections"):
            items = cast("list[object]", value)
            return [self._inner(model, item, keys, spelled, index) for index, item in enumerate(items)]
        return cast("object", value)

    def _inner(self, model: Model | None, value: object, keys: Keys, spelled: Keys, at: str | int) -> object:
        keys, spelled = (*keys, at), (*spelled, at)
        self._note(keys, spelled)
        if model is None:
            return value
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            return value
        return self.section(model, cast("Mapping[object, object]", value), keys, spelled)

    def _note(self, keys: Keys, spelled: Keys) -> None:
        place = self._where(spelled)
        self.layer.places[keys] = Place(place, f"{place}: {dotted(spelled)}")

    def _refuse(self, spelled: Keys, problem: str) -> None:
        self.layer.problems.append(f"{self._where(spelled)}: {dotted(spelled)}: {problem}")

    def _where(self, spelled: Keys) -> str:
        line = self._lines.get(spelled)
        return f"{self._file}:{line}" if line else self._file


def _hint(key: str, model: Model) -> str:
    known = list(names(model))
    meant = nearest(key, known)
    if meant:
        return f"; did you mean {meant}?"
    elsewhere = [dotted(option.keys) for option in options() if key in (option.keys[-1], option.info.alias)]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    return f"; options here: {', '.join(model.model_fields)}"


def _takes_bool(info: FieldInfo) -> bool:
    return info.annotation is bool or bool in get_args(info.annotation)


def _model(annotation: object) -> Model | None:
    candidates = [annotation, *get_args(annotation)]
    return next(
        (
            item
            for item in candidates
            if isinstance(item, type) and item is not NoneType and issubclass(item, BaseModel)
        ),
        None,
    )
