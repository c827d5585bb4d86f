"""Anthropic's Messages requests, read as conversations, and what of them no conversation can hold.

A body that `native_fields` finds anything in goes only to providers of this schema. `conversation` refuses by name
content that it would otherwise drop.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from model_gateway.domain.conversation import (
    Conversation,
    Media,
    Part,
    Reasoning,
    ResponseFormat,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from model_gateway.domain.errors import InvalidRequest
from model_gateway.wire.anthropic import BETA, EMPTY_OBJECT
from model_gateway.wire.openai import invalid_field, present

_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')


class _Source(msgspec.Struct):
    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    source: _Source | None = None
    title: str | None = None
    id: str = ""
    name: str = ""
    input: msgspec.Raw = EMPTY_OBJECT
    tool_use_id: str = ""
    content: str | list[_Block] | None = None
    is_error: bool | None = None
    thinking: str = ""
    signature: str = ""
    data: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block]


class _Tool(msgspec.Struct):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = _NO_PARAMETERS
    strict: bool | None = None


class _Choice(msgspec.Struct):
    type: str
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct):
    type: str
    budget_tokens: int | None = None


class _Format(msgspec.Struct):
    type: str
    schema: msgspec.Raw = EMPTY_OBJECT


class _OutputConfig(msgspec.Struct):
    format: _Format | None = None
    effort: str | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Body(msgspec.Struct):
    messages: list[_Message]
    system: str | list[_Block] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    metadata: _Metadata | None = None


# What a Conversation holds, and hints that change no answer; any other field needs a provider of this schema.
_SAID = frozenset(_Body.__struct_fields__) | {"model", "stream"}
# `cache_control`, which may stand on anything, only makes a repeated prompt cheaper where a provider knows it.
_CACHE = "cache_control"
_HINTS = frozenset(("service_tier", BETA, _CACHE))
PORTABLE = _SAID | _HINTS

_body = msgspec.json.Decoder(_Body).decode


def conversation(body: Mapping[str, msgspec.Raw]) -> Conversation:
    try:
        read = _body(msgspec.json.encode(body))
    except msgspec.ValidationError as error:
        raise invalid_field(str(error)) from None
    except (UnicodeDecodeError, RecursionError):
        raise InvalidRequest("the request body is nested too deeply, or is not UTF-8") from None
    turns = list(_turns(read.messages))
    if read.system:
        turns.insert(0, Turn("system", tuple(_text_or_media(read.system, "system"))))
    choice, parallel = _choice(read.tool_choice)
    output = read.output_config or _OutputConfig()
    effort, budget = _reasoning(read.thinking, output.effort or "")
    return Conversation(
        turns=tuple(turns),
        tools=tuple(_tool(tool, at) for at, tool in enumerate(read.tools or ())),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        response_format=_format(output.format),
        max_tokens=read.max_tokens,
        temperature=read.temperature,
        top_p=read.top_p,
        top_k=read.top_k,
        stop=tuple(read.stop_sequences or ()),
        reasoning_effort=effort,
        reasoning_budget=budget,
        user=(read.metadata.user_id or "") if read.metadata else "",
    )


def _turns(messages: list[_Message]) -> Iterator[Turn]:
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        if message.role == "system":
            yield Turn("system", tuple(_text_or_media(message.content, f"{where}.content")))
        elif message.role == "user" or message.role == "assistant":
            yield Turn(message.role, tuple(_parts(message.content, f"{where}.content")))
        else:
            raise InvalidRequest(f"`{where}.role` must be user, assistant or system", param=f"{where}.role")


def _parts(content: str | list[_Block], where: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield Text(content)
        return
    for at, block in enumerate(content):
        path = f"{where}[{at}]"
        if block.type == "tool_use":
            if not bytes(block.input).startswith(b"{"):
                raise InvalidRequest(f"`{path}.input` must be an object", param=f"{path}.input")
            yield ToolUse(block.id, block.name, bytes(block.input).decode())
        elif block.type == "tool_result":
            parts = _text_or_media(block.content or "", f"{path}.content")
            yield ToolResult(block.tool_use_id, tuple(parts), is_error=bool(block.is_error))
        elif block.type == "thinking":
            yield Reasoning(block.thinking, signature=block.signature)
        elif block.type == "redacted_thinking":
            yield Reasoning("", redacted=block.data)
        else:
            yield _piece(block, path)


def _text_or_media(content: str | list[_Block], where: str) -> Iterator[Text | Media]:
    if isinstance(content, str):
        if content:
            yield Text(content)
        return
    for at, block in enumerate(content):
        yield _piece(block, f"{where}[{at}]")


def _piece(block: _Block, where: str) -> Text | Media:
    if block.type == "text":
        return Text(block.text)
    source = block.source
    if block.type in ("image", "document") and source is not None:
        kind = "image" if block.type == "image" else "file"
        name = block.title or ""
        if source.type == "base64":
            return Media(kind, mime=source.media_type, data=source.data, name=name)
        if source.type == "url":
            return Media(kind, mime="" if kind == "image" else "application/pdf", url=source.url, name=name)
        if source.type == "text":
            data = base64.b64encode(source.data.encode()).decode()
            return Media(kind, mime="text/plain", data=data, name=name)
    raise InvalidRequest(f"`{where}` of type {block.type} cannot be told to a model of another schema", param=where)


def _tool(tool: _Tool, at: int) -> Tool:
    if tool.type not in (None, "custom"):
        raise InvalidRequest(f"`tools[{at}]` of type {tool.type} is one of Anthropic's own", param=f"tools[{at}].type")
    return Tool(tool.name, tool.description or "", tool.input_schema, tool.strict)


def _choice(choice: _Choice | None) -> tuple[ToolChoice | None, bool | None]:
    if choice is None:
        return None, None
    parallel = None if choice.disable_parallel_tool_use is None else not choice.disable_parallel_tool_use
    if choice.type == "auto" or choice.type == "none":
        return ToolChoice(choice.type), parallel
    if choice.type == "any":
        return ToolChoice("required"), parallel
    if choice.type == "tool" and choice.name:
        return ToolChoice("named", choice.name), parallel
    raise InvalidRequest("`tool_choice.type` must be auto, any, none, or tool with a name", param="tool_choice")


def _reasoning(thinking: _Thinking | None, effort: str) -> tuple[str, int | None]:
    """Effort and budget. `adaptive` leaves it to the model, as saying nothing does."""
    if thinking is None or thinking.type == "adaptive":
        return effort, None
    if thinking.type in ("disabled", "between_tools"):
        return "none", None
    if thinking.type == "enabled" and thinking.budget_tokens is not None:
        return effort, thinking.budget_tokens
    raise InvalidRequest(
        "`thinking` must be adaptive, disabled, between_tools, or enabled with budget_tokens", param="thinking"
    )


def _format(read: _Format | None) -> ResponseFormat | None:
    if read is None:
        return None
    if read.type != "json_schema":
        raise InvalidRequest("`output_config.format.type` must be json_schema", param="output_config.format.type")
    return ResponseFormat("schema", schema=read.schema, strict=True)


# --- what only this schema can say ------------------------------------------------------------------------------------

_BLOCK_FIELDS: Mapping[str, frozenset[str]] = {
    "text": frozenset(("text",)),
    "image": frozenset(("source",)),
    "document": frozenset(("source", "title")),
    "tool_use": frozenset(("id", "name", "input")),
    "tool_result": frozenset(("tool_use_id", "content", "is_error")),
    "thinking": frozenset(("thinking", "signature")),
    "redacted_thinking": frozenset(("data",)),
}
_TOOL_FIELDS = frozenset(_Tool.__struct_fields__)
_OUTPUT_FIELDS = frozenset(_OutputConfig.__struct_fields__)
# What a field says when it asks for nothing special.
_IDLE: Mapping[str, object] = {
    "caller": {"type": "direct"},
    "allowed_callers": ["direct"],
    "citations": {"enabled": False},
    "speed": "standard",
}


def native_fields(body: Mapping[str, msgspec.Raw]) -> list[str]:
    """Names of what no Conversation can hold, by path and each once, at the top and inside; empty for most requests."""
    try:
        found = set(_native(body))
    except (RecursionError, msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest("the request body is nested too deeply, or is not UTF-8") from None
    return sorted(found)


def _native(body: Mapping[str, msgspec.Raw]) -> Iterator[str]:
    for name in body.keys() - PORTABLE:
        if present(body[name]) and _says(name, msgspec.json.decode(body[name])):
            yield name
    read: dict[str, Any] = {
        name: msgspec.json.decode(body[name])
        for name in ("messages", "system", "tools", "output_config", "max_tokens")
        if name in body
    }
    for message in _objects(read.get("messages")):
        yield from _in_content(message.get("content"), "messages.content")
    yield from _in_content(read.get("system"), "system")
    for tool in _objects(read.get("tools")):
        if tool.get("type") not in (None, "custom"):
            yield f"tools.{tool['type']}"
        else:
            yield from _beyond(tool, _TOOL_FIELDS, "tools")
    for output in _objects([read.get("output_config")]):
        yield from _beyond(output, _OUTPUT_FIELDS, "output_config")
        if output.get("effort") == "max":
            yield "output_config.effort"
    if read.get("max_tokens") == 0:
        # Nothing is answered: the request only fills the provider's cache.
        yield "max_tokens"


def _in_content(content: Any, where: str) -> Iterator[str]:
    for block in _objects(content):
        kind = block.get("type")
        fields = _BLOCK_FIELDS.get(kind) if isinstance(kind, str) else None
        if fields is None:
            yield f"{where}.{kind}"
            continue
        yield from _beyond(block, fields | {"type"}, where)
        for source in _objects([block.get("source")]):
            if source.get("type") not in ("base64", "url", "text"):
                yield f"{where}.source.{source.get('type')}"
        if kind == "tool_result":
            yield from _in_content(block.get("content"), f"{where}.content")


def _beyond(fields: Mapping[str, Any], known: frozenset[str], where: str) -> Iterator[str]:
    for name, value in fields.items():
        if name not in known and name != _CACHE and _says(name, value):
            yield f"{where}.{name}"


def _says(name: str, value: object) -> bool:
    return bool(value) and value != _IDLE.get(name)


def _objects(values: Any) -> Iterable[dict[str, Any]]:
    """The objects of a list; what is of another shape is refused elsewhere, by name."""
    if not isinstance(values, list):
        return ()
    return [value for value in values if isinstance(value, dict)]  # pyright: ignore[reportUnknownVariableType]
