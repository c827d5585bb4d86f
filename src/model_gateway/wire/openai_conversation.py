"""OpenAI's chat-completion requests, read as conversations. Used only between different schemas.

What only this schema can say never comes here: such a request needs the capability `protocol:openai`. Content that no
conversation can hold is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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
from model_gateway.wire.openai import ABSENT, present, read_body, schema_or

_NO_SCHEMA = msgspec.Raw(b"{}")
_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')


class _ImageUrl(msgspec.Struct):
    url: str
    detail: str = ""


class _InputAudio(msgspec.Struct):
    data: str
    format: str


class _File(msgspec.Struct):
    file_data: str = ""
    filename: str = ""
    file_id: str = ""


class _Part(msgspec.Struct):
    type: str
    text: str = ""
    refusal: str = ""
    image_url: _ImageUrl | None = None
    input_audio: _InputAudio | None = None
    file: _File | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str = ""


class _ToolCall(msgspec.Struct):
    id: str
    function: _Function | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    function_call: msgspec.Raw = ABSENT
    audio: msgspec.Raw = ABSENT


class _ToolFunction(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = _NO_PARAMETERS
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: str
    function: _ToolFunction | None = None


class _NamedFunction(msgspec.Struct):
    name: str


class _NamedTool(msgspec.Struct):
    function: _NamedFunction | None = None


class _JsonSchema(msgspec.Struct):
    name: str = ""
    schema: msgspec.Raw = _NO_SCHEMA
    description: str | None = None
    strict: bool | None = None


class _ResponseFormat(msgspec.Struct):
    type: str
    json_schema: _JsonSchema | None = None


class _Body(msgspec.Struct):
    messages: list[_Message]
    tools: list[_Tool] | None = None
    tool_choice: str | _NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: _ResponseFormat | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    safety_identifier: str | None = None


# What a Conversation holds, and hints that change no answer; any other field needs a provider of this schema.
_SAID = frozenset(_Body.__struct_fields__) | {"model", "stream", "stream_options"}
_HINTS = frozenset(("metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention"))
PORTABLE = _SAID | _HINTS

_body = msgspec.json.Decoder(_Body).decode
_response_format = msgspec.json.Decoder(_ResponseFormat | None).decode


def conversation(body: Mapping[str, msgspec.Raw]) -> Conversation:
    read = read_body(_body, msgspec.json.encode(body))
    return Conversation(
        turns=tuple(_turns(read.messages)),
        tools=tuple(_tool(tool, at) for at, tool in enumerate(read.tools or ())),
        tool_choice=_choice(read.tool_choice),
        parallel_tool_calls=read.parallel_tool_calls,
        response_format=_format(read.response_format),
        max_tokens=read.max_completion_tokens if read.max_completion_tokens is not None else read.max_tokens,
        temperature=read.temperature,
        top_p=read.top_p,
        stop=(read.stop,) if isinstance(read.stop, str) else tuple(read.stop or ()),
        seed=read.seed,
        frequency_penalty=read.frequency_penalty,
        presence_penalty=read.presence_penalty,
        reasoning_effort=read.reasoning_effort or "",
        user=read.safety_identifier or read.user or "",
    )


def _turns(messages: list[_Message]) -> Iterable[Turn]:
    """Results of parallel calls, one message each here, become the parts of one user's turn."""
    results: list[Part] = []
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        if message.role == "tool":
            if not message.tool_call_id:
                path = f"{where}.tool_call_id"
                raise InvalidRequest(f"`{path}` must name the call that this answers", param=path)
            parts = _media_parts(message.content, where)
            results.append(ToolResult(message.tool_call_id, tuple(parts), message.name or ""))
            continue
        if results:
            yield Turn("user", tuple(results))
            results = []
        if message.role in ("system", "developer", "user"):
            if message.content is None:
                path = f"{where}.content"
                raise InvalidRequest(f"`{path}` must be a text or a list of parts", param=path)
            yield Turn("user" if message.role == "user" else "system", tuple(_media_parts(message.content, where)))
        elif message.role == "assistant":
            yield Turn("assistant", tuple(_assistant_parts(message, where)))
        else:
            raise InvalidRequest(
                f"`{where}.role` must be system, developer, user, assistant or tool", param=f"{where}.role"
            )
    if results:
        yield Turn("user", tuple(results))


def _media_parts(content: str | list[_Part] | None, where: str) -> Iterable[Text | Media]:
    if isinstance(content, str):
        yield Text(content)
        return
    for at, part in enumerate(content or ()):
        yield _text_or_media(part, f"{where}.content[{at}]")


def _text_or_media(part: _Part, where: str) -> Text | Media:
    media: Media | None = None
    if part.type == "text":
        return Text(part.text)
    if part.type == "image_url" and part.image_url is not None:
        media = media_from_url("image", part.image_url.url, detail=part.image_url.detail)
    elif part.type == "input_audio" and part.input_audio is not None:
        media = Media("audio", mime=f"audio/{part.input_audio.format}", data=part.input_audio.data)
    elif part.type == "file" and part.file is not None and part.file.file_data:
        media = media_from_file(part.file.file_data, part.file.filename)
        if media is None:
            path = f"{where}.file.file_data"
            raise InvalidRequest(f"`{path}` must be a data URL, such as data:application/pdf;base64,…", param=path)
    elif part.type == "file":
        raise InvalidRequest(f"`{where}`: the model that answers has no files of its own; send file_data", param=where)
    if media is None:
        raise InvalidRequest(f"`{where}` is not a text, image_url, input_audio or file part", param=where)
    return media


def _assistant_parts(message: _Message, where: str) -> Iterable[Part]:
    for name, raw in (("function_call", message.function_call), ("audio", message.audio)):
        if present(raw):
            path = f"{where}.{name}"
            raise InvalidRequest(f"`{path}` cannot be told to a model of another schema", param=path)
    if message.reasoning_content:
        yield Reasoning(message.reasoning_content)
    if isinstance(message.content, str):
        if message.content:
            yield Text(message.content)
    else:
        for at, part in enumerate(message.content or ()):
            if part.type not in ("text", "refusal"):
                path = f"{where}.content[{at}]"
                raise InvalidRequest(f"`{path}` of an assistant must be a text or refusal part", param=path)
            yield Refusal(part.refusal) if part.type == "refusal" else Text(part.text)
    if message.refusal:
        yield Refusal(message.refusal)
    for at, call in enumerate(message.tool_calls or ()):
        if call.function is None:
            path = f"{where}.tool_calls[{at}]"
            raise InvalidRequest(f"`{path}` must be a call of a function", param=path)
        yield ToolUse(call.id, call.function.name, call.function.arguments or "{}")


def _tool(tool: _Tool, at: int) -> Tool:
    if tool.function is None:
        raise InvalidRequest(f"`tools[{at}]` must be a function: no other tool can be translated", param="tools")
    function = tool.function
    parameters = schema_or(_NO_PARAMETERS, function.parameters, f"tools[{at}].function.parameters")
    return Tool(function.name, function.description or "", parameters, function.strict)


def _choice(choice: str | _NamedTool | None) -> ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice == "auto" or choice == "none" or choice == "required":
            return ToolChoice(choice)
    elif choice.function is not None:
        return ToolChoice("named", choice.function.name)
    raise InvalidRequest("`tool_choice` must be auto, none, required or one function", param="tool_choice")


def format_of(body: Mapping[str, msgspec.Raw]) -> ResponseFormat | None:
    """What a body asks of its answer's form, by itself; None: nothing, or nothing that can be read."""
    raw = body.get("response_format")
    if raw is None:
        return None
    try:
        return _format(_response_format(raw))
    except (msgspec.MsgspecError, InvalidRequest):
        return None


def _format(read: _ResponseFormat | None) -> ResponseFormat | None:
    if read is None or read.type == "text":
        return None
    if read.type == "json_object":
        return ResponseFormat("json")
    if read.type == "json_schema" and read.json_schema is not None:
        found = read.json_schema
        schema = schema_or(_NO_SCHEMA, found.schema, "response_format.json_schema.schema")
        return ResponseFormat("schema", found.name, schema, found.description or "", found.strict)
    raise InvalidRequest(
        "`response_format.type` must be text, json_object, or json_schema with a json_schema", param="response_format"
    )
