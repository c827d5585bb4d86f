"""A gateway.yaml without its secrets: what is written as it is becomes ***, references (env:, file:) stay.

Decides which values of a file are secrets: by the schema, and by nothing else. Pure text to text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import yaml

from model_gateway.config.errors import ConfigError
from model_gateway.config.options import Model, dotted, is_secret, names, shape_of
from model_gateway.config.schema import GatewayConfig

MASK: Final = "***"
_TELLING: Final = 12  # characters; a shorter one may be a word that is no secret elsewhere
_REFERENCES: Final = ("env:", "file:", "sha256:")
_REMEDY: Final = "write the secret as env:NAME or file:PATH, or take the backup with --with-secrets"


class _Found(NamedTuple):
    """A secret in the text: where, under which name, and itself."""

    start: int
    end: int
    name: str
    value: str


def masked(text: str, file: str) -> tuple[str, list[str]]:
    """The text with every literal secret replaced, and the names of those options.

    Raises ConfigError where one would still be there: in a comment, or in another value.
    """
    root = yaml.SafeLoader(text).get_single_node()
    # Through an alias the same place may be met twice.
    found = (
        sorted({each.start: each for each in reversed([*_secrets(GatewayConfig, root, "")])}.values()) if root else []
    )
    for each in reversed(found):
        written = text[each.start : each.end]
        after = written[len(written.rstrip()) :]  # a block of lines ends with its line break
        text = f"{text[: each.start]}'{MASK}'{after}{text[each.end :]}"
    for each in found:
        if len(each.value) >= _TELLING and each.value in text:
            line = text[: text.index(each.value)].count("\n") + 1
            raise ConfigError(f"{file}:{line}: the secret of {each.name} is written here too", _REMEDY)
    try:
        yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{file}: {found[0].name} cannot be masked where it is written", _REMEDY) from None
    return text, [each.name for each in found]


def _secrets(model: Model, node: yaml.Node, path: str) -> Iterator[_Found]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = names(model).get(str(key.value)) if isinstance(key, yaml.ScalarNode) else None
        if name is None:
            continue
        info, here = model.model_fields[name], f"{path}.{name}" if path else name
        shape, inner = shape_of(info)
        if shape == "section" and inner is not None:
            yield from _secrets(inner, value, here)
        elif inner is not None:
            for item, at in _items(value, here):
                yield from _secrets(inner, item, at)
        elif is_secret(info) or shape in ("mapping", "list"):
            leaves = [(value, here)] if isinstance(value, yaml.ScalarNode) else [*_items(value, here)]
            yield from (_found(leaf, at) for leaf, at in leaves if _is_literal(leaf) and is_secret(info))


def _items(node: yaml.Node, path: str) -> Iterator[tuple[yaml.Node, str]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((value, f"{path}.{key.value}") for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from ((item, path + dotted((at,))) for at, item in enumerate(node.value))


def _is_literal(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and bool(node.value) and not str(node.value).startswith(_REFERENCES)


def _found(node: yaml.Node, name: str) -> _Found:
    return _Found(node.start_mark.index, node.end_mark.index, name, str(node.value))
