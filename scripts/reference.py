"""Writes the reference pages from what they describe. Run by `make docs`; a test keeps the committed pages fresh.

docs/configuration.md and docs/zh/configuration.md from the schema of gateway.yaml, docs/api/grpc.md from proto/.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from model_gateway.config.environment import VARIABLES
from model_gateway.config.options import dotted, options

ROOT = Path(__file__).resolve().parents[1]
NOTICE = "<!-- Written by `make docs`: change the source, not this page. -->"

ENGLISH = {
    "title": "Configuration",
    "head": """Every option of `gateway.yaml`, its type, default and meaning. All are optional. Options may be written
in snake_case, as here, or in camelCase (`httpPort`), one spelling per option. `*` stands for a name of yours, `[]` for
an entry of a list.

| | |
|---|---|
| where | `./gateway.yaml`, or `--config FILE` |
| order | environment, then `.env`, then `gateway.yaml`, then defaults |
| secrets | the text, `env:NAME` (a variable) or `file:PATH` (a file's content, relative to `gateway.yaml`) |
| times | milliseconds where nothing else is said |
| check | `model-gateway config check`: what is wrong, in one line each, with the option that was probably meant |
| show | `model-gateway config show`: what is in force and where it came from |
| example | [examples/gateway.yaml](../examples/gateway.yaml), or `model-gateway config example` |
| changes | count at once, or at the next start for ports, ledger and a few others: [operations.md](operations.md) |""",
    "columns": "| option | type | default | meaning |",
    "variables": "Variables",
    "variable_columns": "| variable | option |",
    "top": "Top level",
    "none": "none",
}
CHINESE = {
    "title": "配置参考",
    "head": """`gateway.yaml` 的全部选项：类型、默认值与含义。所有选项都可省略。
选项名可以写成 snake_case（如下），也可以写成 camelCase（如 `httpPort`），同一选项只能用一种写法。
`*` 代表自定义的名字，`[]` 代表列表中的一项。

| | |
|---|---|
| 位置 | `./gateway.yaml`，或用 `--config FILE` 指定 |
| 优先级 | 环境变量 > `.env` > `gateway.yaml` > 默认值 |
| 密钥 | 直接写，或 `env:NAME`（环境变量），或 `file:PATH`（文件内容，相对于 `gateway.yaml`） |
| 时间 | 未注明单位的都是毫秒 |
| 检查 | `model-gateway config check`：逐行指出错误，以及可能想写的选项 |
| 查看 | `model-gateway config show`：当前生效的值及其来源 |
| 示例 | [examples/gateway.yaml](../../examples/gateway.yaml)，或 `model-gateway config example` |
| 修改 | 立即生效；端口、账本等少数选项下次启动才生效：[运维手册](../operations.md) |""",
    "columns": "| 选项 | 类型 | 默认值 | 含义 |",
    "variables": "环境变量",
    "variable_columns": "| 变量 | 选项 |",
    "top": "顶层选项",
    "none": "无",
}


TYPES = {
    "list of ": "列表：",
    "true / false": "true / false",
    "text": "文本",
    "integer": "整数",
    "number": "数字",
    "secret": "密钥",
    "date and time": "日期时间",
    " or ": " 或 ",
}
"""What a type is called in Chinese."""


def chinese() -> Mapping[str, str]:
    """English description → Chinese."""
    entries = yaml.safe_load((ROOT / "docs/zh/options.yaml").read_text(encoding="utf-8"))
    return {entry["en"]: entry["zh"] for entry in entries}


def configuration(words: Mapping[str, str], meanings: Mapping[str, str] | None = None) -> str:
    """The page; `meanings` translates descriptions. Raises KeyError for one that it lacks."""
    lines = [f"# {words['title']}", "", NOTICE, "", words["head"]]
    section = None
    for option in options():
        path = dotted(option.keys).replace("[0]", "[]")
        above, _, name = path.rpartition(".")
        if above != section:
            section = above
            lines += ["", f"## {f'`{above}`' if above else words['top']}", "", words["columns"], "|---|---|---|---|"]
        meaning = option.info.description or ""
        meaning = meanings[meaning] if meanings is not None else meaning
        cells = (
            f"`{name}`",
            _kind(option.info, TYPES if meanings is not None else {}),
            _default(option.info, words["none"]),
            meaning,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", f"## {words['variables']}", "", words["variable_columns"], "|---|---|"]
    lines += [f"| `{variable}` | `{dotted(keys)}` |" for variable, keys in VARIABLES.items()]
    return "\n".join(lines) + "\n"


def _kind(info: FieldInfo, translated: Mapping[str, str]) -> str:
    bounds = [_bound(item) for item in info.metadata]
    written = ", ".join([_type(info.annotation), *(bound for bound in bounds if bound)])
    for word, other in translated.items():
        written = re.sub(rf"(?<![`\w]){word}(?![`\w])" if word.strip() == word else word, other, written)
    return written


def _bound(item: object) -> str:
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    found = [f"{sign} {getattr(item, name):,}" for name, sign in signs.items() if getattr(item, name, None) is not None]
    return ", ".join(found)


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(f"`{word}`" for word in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(_type(item) for item in arguments if item is not type(None)))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"{_type(arguments[0])}: {_type(arguments[1])}"
    known = {str: "text", int: "integer", float: "number", bool: "true / false", SecretStr: "secret"}
    return known.get(
        annotation, getattr(annotation, "__name__", "AwareDatetime").replace("AwareDatetime", "date and time")
    )


def _default(info: FieldInfo, none: str) -> str:
    default: Any = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default is PydanticUndefined or default is None or default == "":
        return none if default is not PydanticUndefined else "—"
    if isinstance(default, tuple):
        default = list(typing.cast("tuple[object, ...]", default))
    return f"`{default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)}`"


# --- gRPC ----------------------------------------------------------------------------------------------------------

_BLOCK = re.compile(r"^(service|message|enum) (\w+) \{(.*?)\}$", re.MULTILINE | re.DOTALL)
_RPC = re.compile(r"rpc (\w+)\((\w+)\) returns \((stream )?(\w+)\)")
_FIELD = re.compile(r"((?:repeated )?[\w<>, ]+?) (\w+) = (\d+);")
_VALUE = re.compile(r"(\w+) = (\d+);")
GRPC_HEAD = """The contract of gRPC clients, from the comments of its file. Fields and methods are only ever added.
Reflection and `grpc.health.v1` are on. A caller's key travels as metadata `authorization: Bearer KEY` or
`x-api-key`; errors carry `google.rpc.ErrorInfo` and `ErrorResponse` in their status details."""


def grpc() -> str:
    """The page of proto/*.proto."""
    lines = ["# gRPC", "", NOTICE, "", GRPC_HEAD]
    for file in sorted((ROOT / "proto").glob("*.proto")):
        text = file.read_text(encoding="utf-8")
        package = re.search(r"^package ([\w.]+);", text, re.MULTILINE)
        lines += ["", f"[`{file.name}`](../../proto/{file.name}), package `{package[1] if package else ''}`"]
        for found in _BLOCK.finditer(text):
            kind, name, body = found.groups()
            lines += ["", f"## {kind} `{name}`", ""]
            about = _comment_above(text, found.start())
            lines += [about, ""] if about else []
            lines += list(_rows(kind, body))
    return "\n".join(lines).rstrip() + "\n"


def _comment_above(text: str, at: int) -> str:
    found: list[str] = []
    for line in reversed(text[:at].rstrip("\n").split("\n")):
        if not line.startswith("//"):
            break
        found.insert(0, line.removeprefix("//").strip())
    return " ".join(found)


def _rows(kind: str, body: str) -> Iterator[str]:
    if not body.strip():
        yield "No fields."
        return
    heads = {
        "service": "| method | request | reply | |",
        "message": "| no. | field | type | |",
        "enum": "| no. | value | |",
    }
    yield heads[kind]
    yield "|---" * (heads[kind].count("|") - 1) + "|"
    said: list[str] = []
    for line in map(str.strip, body.strip().splitlines()):
        if line.startswith("//"):
            said.append(line.removeprefix("//").strip())
            continue
        about = " ".join(said)
        if kind == "service" and (found := _RPC.match(line)):
            name, request, stream, reply = found.groups()
            yield f"| `{name}` | `{request}` | {'stream of ' if stream else ''}`{reply}` | {about} |"
        elif kind == "message" and (found := _FIELD.match(line)):
            yield f"| {found[3]} | `{found[2]}` | {found[1]} | {about} |"
        elif kind == "enum" and (found := _VALUE.match(line)):
            yield f"| {found[2]} | `{found[1]}` | {about} |"
        said = []


def pages() -> dict[Path, str]:
    """Every page by its path below the project's folder."""
    return {
        Path("docs/configuration.md"): configuration(ENGLISH),
        Path("docs/zh/configuration.md"): configuration(CHINESE, chinese()),
        Path("docs/api/grpc.md"): grpc(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)
