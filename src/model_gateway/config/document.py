"""Reads gateway.yaml and .env: text in, plain values with their line numbers out.

Decides what is well-formed (a key twice is not). Knows no option's name or type: that is schema.py and options.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Final, TypeAlias, cast

import yaml
from dotenv.parser import parse_stream

from model_gateway.config.errors import ConfigError

Keys: TypeAlias = tuple[str | int, ...]
"""The way to a value: the keys and list positions as written."""


NO_FILE: Final = "pass --config PATH, or start without a file: every option has a default"


def read_yaml(path: Path, name: str) -> tuple[Mapping[object, object], Mapping[Keys, int]]:
    """The document and the line of each of its values. Raises ConfigError, which calls the file `name`."""
    return parse(read_text(path, name, NO_FILE), name)


def parse(text: str, name: str) -> tuple[Mapping[object, object], Mapping[Keys, int]]:
    """As read_yaml, of a text."""
    lines: dict[Keys, int] = {}
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        _note_lines(node, (), lines, set())
        document = cast("object", loader.construct_document(node))  # pyright: ignore[reportUnknownMemberType]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: {error.problem or 'not valid YAML'}", "correct the file's YAML") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: not valid YAML: {_one_line(error)}", "correct the file's YAML") from None
    if document is None:
        return {}, {}
    if not isinstance(document, dict):
        raise ConfigError(f"{name}: must hold sections such as `server:` and `providers:`", "see examples/gateway.yaml")
    return cast("dict[object, object]", document), lines


def read_env_file(path: Path, name: str) -> Mapping[str, str]:
    """The variables of a .env file; {} if there is none. `${…}` inside a value stays as it is. Raises ConfigError."""
    if not path.exists():
        return {}
    text = read_text(path, name, "make it readable, or remove it")
    values: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error or (binding.key is not None and binding.value is None):
            raise ConfigError(f"{name}:{binding.original.line}: not a NAME=value line", "write NAME=value, or # first")
        if binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return values


def read_text(path: Path, name: str, remedy: str) -> str:
    """A file's text. Raises ConfigError, which calls it `name`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{name}: no such file", remedy) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8 text (byte {error.start})", "save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror or error}", remedy) from None


def _note_lines(node: yaml.Node, keys: Keys, lines: dict[Keys, int], seen: set[int]) -> None:
    """Fill `lines`, and refuse a key twice: PyYAML would keep the last and hide half of a user's configuration.

    `seen` holds the nodes met so far: through aliases one may be met again, even inside itself.
    """
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            inner = (*keys, str(key_node.value))
            if inner in lines and key_node.value != "<<":
                raise yaml.MarkedYAMLError(
                    problem=f"{key_node.value!r} is here a second time (first on line {lines[inner]})",
                    problem_mark=key_node.start_mark,
                )
            lines[inner] = key_node.start_mark.line + 1
            _note_lines(value_node, inner, lines, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            inner = (*keys, index)
            lines[inner] = item.start_mark.line + 1
            _note_lines(item, inner, lines, seen)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
