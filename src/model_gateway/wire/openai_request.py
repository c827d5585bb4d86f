"""OpenAI's chat-completion requests as conversations, and back. Used only between different schemas.

What this schema cannot say is refused by name (`request`); what only this schema can say never comes here: such a
request needs the capability `protocol:openai`. Thoughts of earlier turns are left out: they are proof for the provider
that wrote them, and this schema has no place for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

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
    effort_of,
)
from model_gateway.domain.errors import InvalidRequest
from model_gateway.wire import needs
from model_gateway.wire.media import media_from_url, url_of
from model_gateway.wire.openai import read_body

FEATURES = frozenset((needs.native("openai"), needs.SEED, needs.PENALTIES))
_NO_SCHEMA = msgspec.Raw(b"{}")
_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')
# Models that think refuse `max_tokens`; most vendors that copied the schema know nothing else.
_THINKING_MODELS = re.compile(r"(?:.*/)?(?:o\d|gpt-5)")
T = TypeVar("T")


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
    type: str = "function"


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str = ""
    name: str | None = None


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
    type: str = "function"


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
            parts = _media_parts(message.content, where)
            results.append(ToolResult(message.tool_call_id, tuple(parts), message.name or ""))
            continue
        if results:
            yield Turn("user", tuple(results))
            results = []
        if message.role in ("system", "developer"):
            yield Turn("system", tuple(_media_parts(message.content, where)))
        elif message.role == "user":
            yield Turn("user", tuple(_media_parts(message.content, where)))
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
        media = media_from_url("file", part.file.file_data, name=part.file.filename)
    elif part.type == "file":
        raise InvalidRequest(f"`{where}`: the model that answers has no files of its own; send file_data", param=where)
    if media is None:
        raise InvalidRequest(f"`{where}` is not a text, image_url, input_audio or file part", param=where)
    return media


def _assistant_parts(message: _Message, where: str) -> Iterable[Part]:
    if message.reasoning_content:
        yield Reasoning(message.reasoning_content)
    if isinstance(message.content, str):
        if message.content:
            yield Text(message.content)
    else:
        for part in message.content or ():
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
    return Tool(function.name, function.description or "", function.parameters, function.strict)


def _choice(choice: str | _NamedTool | None) -> ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice == "auto" or choice == "none" or choice == "required":
            return ToolChoice(choice)
    elif choice.function is not None:
        return ToolChoice("named", choice.function.name)
    raise InvalidRequest("`tool_choice` must be auto, none, required or one function", param="tool_choice")


def _format(read: _ResponseFormat | None) -> ResponseFormat | None:
    if read is None or read.type == "text":
        return None
    if read.type == "json_object":
        return ResponseFormat("json")
    if read.type == "json_schema" and read.json_schema is not None:
        schema = read.json_schema
        return ResponseFormat("schema", schema.name, schema.schema, schema.description or "", schema.strict)
    raise InvalidRequest("`response_format.type` must be text, json_object or json_schema", param="response_format")


# --- to a provider of this schema -------------------------------------------------------------------------------------


def request(conversation: Conversation, model: str, stream: bool) -> dict[str, Any]:
    if conversation.top_k is not None:
        raise InvalidRequest("`top_k` cannot be said in OpenAI's schema", param="top_k")
    body: dict[str, Any] = {"model": model, "messages": list(_messages(conversation))}
    thinks = bool(_THINKING_MODELS.match(model))
    limit = "max_completion_tokens" if thinks else "max_tokens"
    optional: dict[str, Any] = {
        limit: conversation.max_tokens,
        "temperature": conversation.temperature,
        "top_p": conversation.top_p,
        "stop": list(conversation.stop) or None,
        "seed": conversation.seed,
        "frequency_penalty": conversation.frequency_penalty,
        "presence_penalty": conversation.presence_penalty,
        "reasoning_effort": _effort(conversation, thinks=thinks),
        "user": conversation.user or None,
        "tools": [_function(tool) for tool in conversation.tools] or None,
        "parallel_tool_calls": conversation.parallel_tool_calls if conversation.tools else None,
        "tool_choice": _choice_field(conversation.tool_choice),
        "response_format": _format_field(conversation.response_format),
    }
    body.update((name, value) for name, value in optional.items() if value is not None)
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body


def _effort(conversation: Conversation, *, thinks: bool) -> str | None:
    """`none` is said only to models that would think otherwise: the others refuse the field."""
    effort = effort_of(conversation)
    return None if effort == "none" and not thinks else effort or None


def _messages(conversation: Conversation) -> Iterable[dict[str, Any]]:
    for turn in conversation.turns:
        if turn.role == "system":
            yield {"role": "system", "content": turn.text()}
        elif turn.role == "assistant":
            yield _assistant(turn)
        else:
            yield from _user(turn)


def _assistant(turn: Turn) -> dict[str, Any]:
    text = "".join(part.text for part in turn.parts if isinstance(part, Text))
    refusal = "".join(part.text for part in turn.parts if isinstance(part, Refusal))
    calls = [part for part in turn.parts if isinstance(part, ToolUse)]
    message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if refusal:
        message["refusal"] = refusal
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return message


def _user(turn: Turn) -> Iterable[dict[str, Any]]:
    """Results first, each its own message; a medium in a result, which this schema forbids, goes to the user's turn."""
    content: list[dict[str, Any]] = []
    for part in turn.parts:
        if isinstance(part, ToolResult):
            text = "\n".join(piece.text for piece in part.parts if isinstance(piece, Text))
            content += [_content(piece) for piece in part.parts if isinstance(piece, Media)]
            yield {"role": "tool", "tool_call_id": part.id, "content": f"Error: {text}" if part.is_error else text}
        elif isinstance(part, Text | Media):
            content.append(_content(part))
    if all(piece["type"] == "text" for piece in content):
        if content:
            yield {"role": "user", "content": "\n".join(piece["text"] for piece in content)}
    else:
        yield {"role": "user", "content": content}


def _content(part: Text | Media) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if part.kind == "image":
        image = {"url": url_of(part)}
        return {"type": "image_url", "image_url": {**image, "detail": part.detail} if part.detail else image}
    if not part.data:
        raise InvalidRequest(f"OpenAI's schema takes {part.kind} content as data only, not as a URL", param="messages")
    if part.kind == "audio":
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.mime.rpartition("/")[2]}}
    return {"type": "file", "file": {"filename": part.name or "file", "file_data": url_of(part)}}


def _function(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters}
    if tool.description:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice_field(choice: ToolChoice | None) -> object:
    if choice is None:
        return None
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _format_field(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.kind == "text":
        return None
    if wanted.kind == "json":
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": wanted.name or "answer", "schema": wanted.schema}
    if wanted.description:
        schema["description"] = wanted.description
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    return {"type": "json_schema", "json_schema": schema}
