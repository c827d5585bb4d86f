"""OpenAI's Responses requests, read as conversations, and what of them no conversation can hold.

A body that `native_fields` finds anything in goes only to providers of this schema (stored responses, built-in tools).
`conversation` refuses by name content that it would otherwise drop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from model_gateway.domain.conversation import (
    Conversation,
    Media,
    Part,
    Reasoning,
    Refusal,
    ResponseFormat,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Turn,
)
from model_gateway.domain.errors import InvalidRequest
from model_gateway.wire.media import media_from_file, media_from_url
from model_gateway.wire.openai import ABSENT, DECODE_ERRORS, json_text, read_body, schema_or

PROTOCOL = "responses"
_NO_SCHEMA = msgspec.Raw(b"{}")
_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')


class ItemPart(msgspec.Struct):
    """A part of a message's content, of a tool's output, or of a reasoning item."""

    type: str
    text: str = ""
    refusal: str = ""
    image_url: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    detail: str | None = None


class Item(msgspec.Struct):
    """An item of `input` or `output`. `type` may be left out of a message.

    What a tool of the provider's own is called with, or puts out, has any shape: see `output_of`.
    """

    type: str = "message"
    id: str | None = None
    role: str = ""
    content: str | list[ItemPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | dict[str, msgspec.Raw] | None = None
    output: msgspec.Raw = ABSENT
    summary: list[ItemPart] | None = None
    encrypted_content: str | None = None


class _Tool(msgspec.Struct):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = _NO_PARAMETERS
    strict: bool | None = None


class _NamedTool(msgspec.Struct):
    type: str
    name: str | None = None


class _Format(msgspec.Struct):
    type: str
    name: str = ""
    schema: msgspec.Raw = _NO_SCHEMA
    description: str | None = None
    strict: bool | None = None


class _TextConfig(msgspec.Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _ReasoningConfig(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None


class Body(msgspec.Struct):
    """The fields of a request that a Conversation holds, and those that the gateway itself reads."""

    model: str = ""
    input: str | list[Item] = ""
    instructions: str | None = None
    stream: bool | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _NamedTool | None = None
    parallel_tool_calls: bool | None = None
    text: _TextConfig | None = None
    reasoning: _ReasoningConfig | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None
    safety_identifier: str | None = None
    background: bool | None = None
    truncation: str | None = None
    include: list[str] | None = None


_HINTS = frozenset(
    ("metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options")
) | {"stream_options"}
_PORTABLE = frozenset(Body.__struct_fields__) | _HINTS
_ITEMS = frozenset(("message", "function_call", "function_call_output", "reasoning"))
_INCLUDES = frozenset(("reasoning.encrypted_content",))
_NOTHING = frozenset((b"null", b"false", b"0", b"[]", b"{}", b'""'))

_decode = msgspec.json.Decoder(Body).decode
_output = msgspec.json.Decoder(str | list[ItemPart] | None).decode


def read(body: bytes) -> Body:
    """Raises InvalidRequest that names the field."""
    return read_body(_decode, body)


def conversation(body: Mapping[str, msgspec.Raw]) -> Conversation:
    return conversation_of_body(read(msgspec.json.encode(body)))


def native_fields(body: Body, fields: Mapping[str, msgspec.Raw]) -> list[str]:
    """Names of what no Conversation can hold."""
    found = [name for name, raw in fields.items() if name not in _PORTABLE and bytes(raw) not in _NOTHING]
    if body.background:
        found.append("background")
    if any(tool.type != "function" for tool in body.tools or ()):
        found.append("tools")
    if isinstance(body.tool_choice, _NamedTool) and body.tool_choice.type != "function":
        found.append("tool_choice")
    if isinstance(body.input, list):
        if any(item.type not in _ITEMS for item in body.input):
            found.append("input")
        elif any(part.file_id for item in body.input if isinstance(item.content, list) for part in item.content):
            found.append("input.content.file_id")
    if set(body.include or ()) - _INCLUDES:
        found.append("include")
    return found


def conversation_of_body(read: Body) -> Conversation:
    turns = [Turn("system", (Text(read.instructions),))] if read.instructions else []
    if isinstance(read.input, str):
        turns.append(Turn("user", (Text(read.input),)))
    else:
        turns += _turns(read.input)
    reasoning = read.reasoning or _ReasoningConfig()
    return Conversation(
        turns=tuple(turns),
        tools=tuple(_tool(tool, at) for at, tool in enumerate(read.tools or ())),
        tool_choice=_choice(read.tool_choice),
        parallel_tool_calls=read.parallel_tool_calls,
        response_format=_format(read.text.format if read.text else None),
        max_tokens=read.max_output_tokens,
        temperature=read.temperature,
        top_p=read.top_p,
        reasoning_effort=reasoning.effort or "",
        user=read.safety_identifier or read.user or "",
    )


def _turns(items: list[Item]) -> Iterable[Turn]:
    """Neighbouring items of one side are one turn: thoughts, words and calls; or the results of parallel calls."""
    role = ""
    parts: list[Part] = []
    for at, item in enumerate(items):
        side, said = _said(item, f"input[{at}]")
        if side != role or side == "system":
            if parts:
                yield Turn(_role(role), tuple(parts))
            role, parts = side, []
        parts += said
    if parts:
        yield Turn(_role(role), tuple(parts))


def _role(side: str) -> Any:
    return side


def texts_of(item: Item) -> Iterable[str]:
    """All text of an item of any kind: what a guard must see. What is of no known shape is seen as it is, as JSON."""
    if isinstance(item.content, str):
        yield item.content
    for part in item.content if isinstance(item.content, list) else ():
        yield part.text
    yield json_text(item.arguments)
    try:
        output = output_of(item)
    except DECODE_ERRORS:
        output = bytes(item.output).decode("utf-8", "replace")
    yield output if isinstance(output, str) else "\n".join(part.text for part in output)


def output_of(item: Item) -> str | list[ItemPart]:
    """What a tool put out. Raises one of DECODE_ERRORS where it is nothing that a function puts out."""
    return "" if item.output is ABSENT else _output(item.output) or ""


def call_of(item: Item) -> ToolUse:
    return ToolUse(item.call_id or item.id or "", item.name or "", json_text(item.arguments) or "{}")


def _result(item: Item, where: str) -> ToolResult:
    try:
        output = output_of(item)
    except DECODE_ERRORS as error:
        raise InvalidRequest(f"`{where}` must be a text or a list of parts: {error}", param=where) from None
    parts = [Text(output)] if isinstance(output, str) else [_part(part, where) for part in output]
    result = tuple(part for part in parts if isinstance(part, Text | Media))
    return ToolResult(item.call_id or "", result, item.name or "")


def _said(item: Item, where: str) -> tuple[str, Sequence[Part]]:
    if item.type == "function_call":
        return "assistant", [call_of(item)]
    if item.type == "function_call_output":
        return "user", [_result(item, f"{where}.output")]
    if item.type == "reasoning":
        return "assistant", [thought_of(item)]
    if item.type != "message":
        raise InvalidRequest(f"`{where}` is a {item.type}: only a provider of this schema knows it", param=where)
    content = item.content
    parts = [Text(content)] if isinstance(content, str) else [_part(p, f"{where}.content") for p in content or ()]
    sides = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
    if item.role not in sides:
        raise InvalidRequest(f"`{where}.role` must be user, assistant, system or developer", param=f"{where}.role")
    return sides[item.role], parts


def thought_of(item: Item) -> Reasoning:
    content = item.content if isinstance(item.content, list) else ()
    text = "\n".join(part.text for part in (*(item.summary or ()), *content) if part.text)
    proof = item.encrypted_content or ""
    return Reasoning(text, signature=proof) if text else Reasoning("", redacted=proof)


def _part(part: ItemPart, where: str) -> Text | Media | Refusal:
    media: Media | None = None
    if part.type in ("input_text", "output_text", "text", "summary_text"):
        return Text(part.text)
    if part.type == "refusal":
        return Refusal(part.refusal)
    if part.type == "input_image" and part.image_url:
        media = media_from_url("image", part.image_url, detail=part.detail or "")
    elif part.type == "input_file" and part.file_data:
        media = media_from_file(part.file_data, part.filename or "")
    elif part.type == "input_file" and part.file_url:
        media = Media("file", url=part.file_url, name=part.filename or "")
    if media is None:
        raise InvalidRequest(f"`{where}` holds a {part.type} part that cannot be read", param=where)
    return media


def _tool(tool: _Tool, at: int) -> Tool:
    if tool.type != "function" or not tool.name:
        raise InvalidRequest(f"`tools[{at}]` must be a function: no other tool can be translated", param="tools")
    parameters = schema_or(_NO_PARAMETERS, tool.parameters, f"tools[{at}].parameters")
    return Tool(tool.name, tool.description or "", parameters, tool.strict)


def _choice(choice: str | _NamedTool | None) -> ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice == "auto" or choice == "none" or choice == "required":
            return ToolChoice(choice)
    elif choice.type == "function" and choice.name:
        return ToolChoice("named", choice.name)
    raise InvalidRequest("`tool_choice` must be auto, none, required or one function", param="tool_choice")


def _format(read: _Format | None) -> ResponseFormat | None:
    if read is None or read.type == "text":
        return None
    if read.type == "json_object":
        return ResponseFormat("json")
    if read.type == "json_schema":
        schema = schema_or(_NO_SCHEMA, read.schema, "text.format.schema")
        return ResponseFormat("schema", read.name, schema, read.description or "", read.strict)
    raise InvalidRequest("`text.format.type` must be text, json_object or json_schema", param="text.format.type")
