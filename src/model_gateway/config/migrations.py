"""A gateway.yaml of an older version in this version's words: text in, text out, comments and order kept.

Decides which version a file is of, and what changes from one version to the next. Reads and writes no file.

Version 1 is the first of gateway.yaml; a file that says nothing is of it, unless it speaks JavaScript. Version 0 is
what users of the Node.js system bring: its configuration object as YAML or JSON, where a key is
`process.env.OPENAI_API_KEY`, five minutes are `5 * 60 * 1000` and the environment is `nodeEnv`. Options have had the
same names ever since.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, get_args

import yaml
from pydantic.fields import FieldInfo

from model_gateway import __version__
from model_gateway.config.environment import VARIABLES
from model_gateway.config.errors import ConfigError
from model_gateway.config.options import Model, dotted, is_secret, names, shape_of
from model_gateway.config.schema import GatewayConfig

CURRENT: Final = 1

_ENVIRONMENT_NAMES: Final = ("nodeEnv", "NODE_ENV", "env")
_VARIABLE: Final = re.compile(
    r"(?:parseInt|parseFloat|Number|String)?\(?\s*process\.env(?:\.(\w+)|\[['\"](\w+)['\"]\])\s*(?:,\s*10)?\s*\)?"
    r"\s*(?:(?:\|\||\?\?)\s*(.+?))?;?\s*"
)
_PRODUCT: Final = re.compile(r"\d+(?:\.\d+)?(?:\s*\*\s*\d+(?:\.\d+)?)+")


class Edit(NamedTuple):
    """`start` and `end` in the text; `said`: what and why, in words."""

    start: int
    end: int
    text: str
    said: str


@dataclass(frozen=True, slots=True)
class Migrated:
    """`was`: the version of the file. `said`: one line for each change; `lost`: what somebody has to write anew."""

    was: int
    text: str
    said: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def migrated(text: str, file: str) -> Migrated:
    """The text in this version's words; its lines keep their numbers. Raises ConfigError for one from the future.

    What is no YAML stays as it is: whoever reads it next says where.
    """
    try:
        root = yaml.SafeLoader(text).get_single_node()
    except (yaml.YAMLError, ValueError, RecursionError):
        return Migrated(CURRENT, text)
    if not isinstance(root, yaml.MappingNode):
        return Migrated(CURRENT, text)
    was = _version(root, text, file)
    for version in range(was, CURRENT):
        return STEPS[version](root, text)
    return Migrated(was, text)


def rewritten(text: str, file: str) -> Migrated:
    """As `migrated`, with the version written into it where it was another."""
    step = migrated(text, file)
    if step.was == CURRENT:
        return step
    root = yaml.SafeLoader(step.text).get_single_node()
    at = root.start_mark.index if root is not None else 0
    if re.search(r"^\s*[\"']?version[\"']?\s*:", step.text, re.MULTILINE):
        return step
    line = f'{{\n  "version": {CURRENT},' if step.text[at : at + 1] == "{" else f"version: {CURRENT}\n"
    after = at + 1 if step.text[at : at + 1] == "{" else at
    return Migrated(step.was, step.text[:at] + line + step.text[after:], step.said, step.lost)


def deprecation(step: Migrated, file: str) -> Iterator[str]:
    """What whoever starts with such a file should know."""
    if step.was < CURRENT:
        yield (
            f"{file} is of version {step.was} and was read as if migrated; a later gateway may not do so:"
            " run `model-gateway config migrate --write`"
        )
        yield from step.lost


def _version(root: yaml.MappingNode, text: str, file: str) -> int:
    for key, value in root.value:
        if isinstance(key, yaml.ScalarNode) and key.value == "version":
            where = f"{file}:{key.start_mark.line + 1}: version"
            if not isinstance(value, yaml.ScalarNode) or not re.fullmatch(r"\d{1,9}", str(value.value)):
                raise ConfigError(f"{where}: must be a whole number", f"write version: {CURRENT}")
            number = int(value.value)
            if number > CURRENT:
                raise ConfigError(
                    f"{where}: the file is of version {number}; this gateway ({__version__}) knows up to {CURRENT}",
                    "run the gateway that it was written for, or put back the file of before: "
                    "`model-gateway config history`, a backup, or gateway.yaml.v" + str(CURRENT) + " beside it",
                )
            return number
    return 0 if _from_0(root, text).said else CURRENT


# --- from version 0 to 1 ---------------------------------------------------------------------------------------------


def _from_0(root: yaml.MappingNode, text: str) -> Migrated:
    lost: list[str] = []
    edits = sorted({each.start: each for each in _edits_of_0(root, text, lost)}.values(), reverse=True)
    for each in edits:
        text = text[: each.start] + each.text + text[each.end :]
    return Migrated(0, text, tuple(each.said for each in reversed(edits)), tuple(lost))


STEPS: Final[Mapping[int, Callable[[yaml.MappingNode, str], Migrated]]] = {0: _from_0}
"""By the version that a file is of: the way to the next one."""


def _edits_of_0(root: yaml.MappingNode, text: str, lost: list[str]) -> Iterator[Edit]:
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        start, end = key.start_mark.index, key.end_mark.index
        if key.value in _ENVIRONMENT_NAMES:
            yield Edit(start, end, _as(text[start:end], "environment"), f"{key.value} is environment")
        elif key.value == "version" and isinstance(value, yaml.ScalarNode):
            start, end = value.start_mark.index, value.end_mark.index
            yield Edit(start, end, "1", "version: 1")
    for keys, info, node in _leaves(GatewayConfig, root, ()):
        if not isinstance(node, yaml.ScalarNode):
            if isinstance(node, yaml.MappingNode) and not node.value and keys[0] == "security":
                lost.append(f"{dotted(keys)}: JSON cannot hold a pattern; write it as '/exec\\s*\\(/i'")
            continue
        told = _translated(str(node.value), keys, info)
        if told is None and "process.env" in str(node.value):
            lost.append(f"{dotted(keys)}: {node.value} is JavaScript; write the value itself, or leave the option out")
        if told is not None and told != str(node.value):
            quoted = _as(text[node.start_mark.index : node.end_mark.index], told)
            yield Edit(node.start_mark.index, node.end_mark.index, quoted, f"{dotted(keys)}: {node.value} is {told}")


def _translated(written: str, keys: tuple[str | int, ...], info: FieldInfo | None) -> str | None:
    """None: it is no JavaScript, or nothing that we know what to do with."""
    match = _VARIABLE.fullmatch(written)
    if match:
        variable, otherwise = match[1] or match[2], _unquoted(match[3] or "")
        if variable in VARIABLES and VARIABLES[variable] == keys:
            # The gateway looks at the variable anyway; what is in the file is what counts without it.
            return otherwise or (f"env:{variable}" if info is not None and is_secret(info) else _default(info))
        if info is not None and is_secret(info):
            return f"env:{variable}"
        return otherwise or None
    if info is not None and _PRODUCT.fullmatch(written) and _takes_number(info):
        product: float = math.prod([float(factor) for factor in written.split("*")], start=1.0)
        return f"{product:.0f}" if product.is_integer() else repr(product)
    return None


def _default(info: FieldInfo | None) -> str | None:
    return None if info is None or info.default is None else str(info.default)


def _leaves(
    model: Model, node: yaml.Node, keys: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], FieldInfo | None, yaml.Node]]:
    """Every value with its option, where it is one of ours."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        written = str(key.value)
        name = names(model).get(written) or ("environment" if written in _ENVIRONMENT_NAMES and not keys else None)
        if name is None:
            continue
        info, here = model.model_fields[name], (*keys, name)
        shape, inner = shape_of(info)
        if shape == "section" and inner is not None:
            yield from _leaves(inner, value, here)
        elif isinstance(value, yaml.MappingNode) and (inner is not None or shape == "mapping"):
            for at, item in value.value:
                there = (*here, str(at.value))
                yield from _leaves(inner, item, there) if inner is not None else ((there, info, item),)
        elif isinstance(value, yaml.SequenceNode):
            for at, item in enumerate(value.value):
                yield from _leaves(inner, item, (*here, at)) if inner is not None else (((*here, at), info, item),)
        else:
            yield here, info, value


def _as(written: str, value: str) -> str:
    """The value in the quotes that were there; a number needs none."""
    quote = written[:1]
    if quote not in ("'", '"') or re.fullmatch(r"-?\d+(\.\d+)?", value):
        return value
    return f"{quote}{value}{quote}"


def _unquoted(written: str) -> str:
    written = written.strip()
    return written[1:-1] if len(written) > 1 and written[0] == written[-1] and written[0] in "'\"`" else written


def _takes_number(info: FieldInfo) -> bool:
    kinds = (info.annotation, *get_args(info.annotation))
    return int in kinds or float in kinds
