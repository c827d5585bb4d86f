"""Gemini's generateContent requests, read as conversations, and what of them no conversation can hold.

A body that `native_fields` finds anything in goes only to providers of this schema. `conversation` refuses by name
content that it would otherwise drop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

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
from model_gateway.wire.gemini import EMPTY_OBJECT
from model_gateway.wire.gemini_schema import json_schema
from model_gateway.wire.openai import ABSENT, invalid_field, present

_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')


class _Blob(msgspec.Struct, rename="camel"):
    mime_type: str = ""
    data: str = ""
    display_name: str | None = None


class _File(msgspec.Struct, rename="camel"):
    mime_type: str = ""
    file_uri: str = ""
    display_name: str | None = None


class _Call(msgspec.Struct):
    name: str
    id: str | None = None
    args: msgspec.Raw = EMPTY_OBJECT


class _ResultPart(msgspec.Struct, rename="camel"):
    inline_data: _Blob | None = None
    file_data: _File | None = None


class _Result(msgspec.Struct):
    name: str
    id: str | None = None
    response: msgspec.Raw = EMPTY_OBJECT
    parts: list[_ResultPart] | None = None


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: _Blob | None = None
    file_data: _File | None = None
    function_call: _Call | None = None
    function_response: _Result | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] = msgspec.field(default_factory=list[_Part])
    role: str | None = None


class _Declaration(msgspec.Struct, rename="camel"):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = ABSENT
    parameters_json_schema: msgspec.Raw = ABSENT


class _Tools(msgspec.Struct, rename="camel"):
    function_declarations: list[_Declaration] | None = None


class _Calling(msgspec.Struct, rename="camel"):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class _ToolConfig(msgspec.Struct, rename="camel"):
    function_calling_config: _Calling | None = None


class _Thinking(msgspec.Struct, rename="camel"):
    thinking_budget: int | None = None
    thinking_level: str | None = None
    include_thoughts: bool | None = None


class _Config(msgspec.Struct, rename="camel"):
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    response_mime_type: str | None = None
    response_schema: msgspec.Raw = ABSENT
    response_json_schema: msgspec.Raw = ABSENT
    thinking_config: _Thinking | None = None
    candidate_count: int | None = None
    response_modalities: list[str] | None = None


class _Body(msgspec.Struct, rename="camel"):
    contents: list[_Content]
    system_instruction: _Content | None = None
    tools: list[_Tools] | None = None
    tool_config: _ToolConfig | None = None
    generation_config: _Config | None = None


_body = msgspec.json.Decoder(_Body).decode
_response_fields: Callable[[msgspec.Raw], dict[str, Any] | None] = msgspec.json.Decoder(dict[str, Any] | None).decode


def conversation(body: Mapping[str, msgspec.Raw]) -> Conversation:
    try:
        read = _body(msgspec.json.encode(body))
    except msgspec.ValidationError as error:
        raise invalid_field(str(error)) from None
    except (UnicodeDecodeError, RecursionError):
        raise InvalidRequest("the request body is nested too deeply, or is not UTF-8") from None
    turns = list(_Turns().read(read.contents))
    if read.system_instruction is not None:
        parts = tuple(Text(part.text) for part in read.system_instruction.parts if part.text)
        turns.insert(0, Turn("system", parts))
    config = read.generation_config or _Config()
    calling = read.tool_config.function_calling_config if read.tool_config else None
    strict = True if calling is not None and calling.mode == "VALIDATED" else None
    thinking = config.thinking_config or _Thinking()
    return Conversation(
        turns=tuple(turns),
        tools=tuple(_tools(read.tools or (), strict)),
        tool_choice=_choice(calling),
        response_format=_format(config),
        max_tokens=config.max_output_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=None if config.top_k is None else int(config.top_k),
        stop=tuple(config.stop_sequences or ()),
        seed=config.seed,
        frequency_penalty=config.frequency_penalty,
        presence_penalty=config.presence_penalty,
        reasoning_effort=_effort(thinking.thinking_level),
        # −1 leaves it to the model, as saying nothing does.
        reasoning_budget=None if (thinking.thinking_budget or 0) < 0 else thinking.thinking_budget,
    )


class _Turns:
    """Calls may have no id here, and results are matched by name and order: they get ids on the way."""

    def __init__(self) -> None:
        self._calls = 0
        self._waiting: dict[str, list[str]] = {}  # name → ids of calls without a result yet

    def read(self, contents: Iterable[_Content]) -> Iterator[Turn]:
        for at, content in enumerate(contents):
            if content.role not in (None, "user", "model", "function"):
                path = f"contents[{at}].role"
                raise InvalidRequest(f"`{path}` must be user or model", param=path)
            role: Literal["assistant", "user"] = "assistant" if content.role == "model" else "user"
            parts = tuple(self._part(part, f"contents[{at}].parts[{i}]") for i, part in enumerate(content.parts))
            yield Turn(role, parts)

    def _part(self, part: _Part, where: str) -> Part:
        if part.function_call is not None:
            return self._call(part.function_call, part.thought_signature or "", f"{where}.functionCall")
        if part.function_response is not None:
            return self._result(part.function_response, f"{where}.functionResponse")
        if part.inline_data is not None:
            blob = part.inline_data
            return _blob(blob)
        if part.file_data is not None:
            return _file(part.file_data)
        if part.text is None:
            raise InvalidRequest(f"`{where}` cannot be told to a model of another schema", param=where)
        return Reasoning(part.text) if part.thought else Text(part.text)

    def _call(self, call: _Call, signature: str, where: str) -> ToolUse:
        arguments = bytes(call.args)
        if arguments == b"null":
            arguments = b"{}"
        if not arguments.startswith(b"{"):
            raise InvalidRequest(f"`{where}.args` must be an object", param=f"{where}.args")
        call_id = call.id or f"call_{self._calls}"
        self._calls += 1
        self._waiting.setdefault(call.name, []).append(call_id)
        return ToolUse(call_id, call.name, arguments.decode(), signature)

    def _result(self, result: _Result, where: str) -> ToolResult:
        waiting = self._waiting.get(result.name, [])
        call_id = result.id or (waiting[0] if waiting else "")
        if not call_id:
            raise InvalidRequest(f"`{where}` answers no earlier functionCall of that name", param=where)
        if call_id in waiting:
            waiting.remove(call_id)
        text, is_error = _response(result.response, where)
        parts: list[Text | Media] = [Text(text)] if text else []
        for at, part in enumerate(result.parts or ()):
            if part.inline_data is not None:
                parts.append(_blob(part.inline_data))
            elif part.file_data is not None:
                parts.append(_file(part.file_data))
            else:
                path = f"{where}.parts[{at}]"
                raise InvalidRequest(f"`{path}` must be inlineData or fileData", param=path)
        return ToolResult(call_id, tuple(parts), result.name, is_error)


def _blob(blob: _Blob) -> Media:
    return Media(_kind(blob.mime_type), mime=blob.mime_type, data=blob.data, name=blob.display_name or "")


def _file(file: _File) -> Media:
    return Media(_kind(file.mime_type), mime=file.mime_type, url=file.file_uri, name=file.display_name or "")


def _kind(mime: str) -> Literal["image", "audio", "file"]:
    if mime.startswith("image/"):
        return "image"
    return "audio" if mime.startswith("audio/") else "file"


def _response(raw: msgspec.Raw, where: str) -> tuple[str, bool]:
    """The text of a result and whether it is an error: `result`, `output` and `error` are Google's documented names."""
    try:
        fields: dict[str, Any] = _response_fields(raw) or {}
    except msgspec.MsgspecError:
        raise InvalidRequest(f"`{where}.response` must be an object", param=f"{where}.response") from None
    if len(fields) == 1:
        ((name, value),) = fields.items()
        if name in ("result", "output", "error") and isinstance(value, str):
            return value, name == "error"
        if name == "error":
            return msgspec.json.encode(value).decode(), True
    return (bytes(raw).decode(), False) if fields else ("", False)


def _tools(tools: Iterable[_Tools], strict: bool | None) -> Iterator[Tool]:
    declared = [declaration for tool in tools for declaration in tool.function_declarations or ()]
    for at, tool in enumerate(declared):
        parameters = _NO_PARAMETERS
        if present(tool.parameters_json_schema):
            parameters = tool.parameters_json_schema
        elif present(tool.parameters):
            parameters = json_schema(tool.parameters, f"tools.functionDeclarations[{at}].parameters")
        yield Tool(tool.name, tool.description or "", parameters, strict)


def _choice(calling: _Calling | None) -> ToolChoice | None:
    if calling is None:
        return None
    names = calling.allowed_function_names or []
    if calling.mode == "NONE":
        return ToolChoice("none")
    if calling.mode == "ANY":
        return ToolChoice("named", names[0]) if len(names) == 1 else ToolChoice("required")
    if calling.mode in (None, "AUTO", "VALIDATED", "MODE_UNSPECIFIED"):
        return ToolChoice("auto") if calling.mode == "AUTO" else None
    path = "toolConfig.functionCallingConfig.mode"
    raise InvalidRequest(f"`{path}` must be AUTO, ANY, NONE or VALIDATED", param=path)


def _format(config: _Config) -> ResponseFormat | None:
    if config.response_mime_type in (None, "", "text/plain"):
        return None
    if present(config.response_json_schema):
        return ResponseFormat("schema", schema=config.response_json_schema, strict=True)
    if present(config.response_schema):
        schema = json_schema(config.response_schema, "generationConfig.responseSchema")
        return ResponseFormat("schema", schema=schema, strict=True)
    return ResponseFormat("json")


def _effort(level: str | None) -> str:
    if level in (None, "", "THINKING_LEVEL_UNSPECIFIED"):
        return ""
    if level.lower() in ("minimal", "low", "medium", "high", "xhigh"):
        return level.lower()
    path = "generationConfig.thinkingConfig.thinkingLevel"
    raise InvalidRequest(f"`{path}` must be MINIMAL, LOW, MEDIUM, HIGH or XHIGH", param=path)


# --- what only this schema can say ------------------------------------------------------------------------------------


def _camel_fields(*structs: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(name for struct in structs for name in struct.__struct_encode_fields__)


_CONTENT_FIELDS = _camel_fields(_Content)
_PART_FIELDS = _camel_fields(_Part)
_CONFIG_FIELDS = _camel_fields(_Config)
_NESTED: Mapping[str, frozenset[str]] = {
    "inlineData": _camel_fields(_Blob),
    "fileData": _camel_fields(_File),
    "functionCall": _camel_fields(_Call),
    "functionResponse": _camel_fields(_Result),
}
# What a URL leads to that only this schema's provider can open.
_OWN_FILES = ("generativelanguage.googleapis.com/", "youtube.com/", "youtu.be/", "gs://")


def native_fields(body: Mapping[str, msgspec.Raw]) -> list[str]:
    """Names of what no Conversation can hold, by path and each once; empty for most requests."""
    try:
        found = set(_native({name: msgspec.json.decode(value) for name, value in body.items()}))
    except (RecursionError, msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest("the request body is nested too deeply, or is not UTF-8") from None
    return sorted(found)


def _native(body: Mapping[str, Any]) -> Iterator[str]:
    # SDKs repeat the path's model in the body.
    yield from _beyond(body, _camel_fields(_Body) | {"model"}, "")
    for content in _objects([*_list(body.get("contents")), body.get("systemInstruction")]):
        yield from _beyond(content, _CONTENT_FIELDS, "contents.")
        for part in _objects(content.get("parts")):
            yield from _in_part(part)
    for part in _objects(_object(body.get("systemInstruction")).get("parts")):
        if "text" not in part:
            yield "systemInstruction.parts"
    for tool in _objects(body.get("tools")):
        # A tool of the provider's own is there by its name alone: {"googleSearch": {}}
        yield from (f"tools.{name}" for name in tool.keys() - _camel_fields(_Tools) if tool[name] is not None)
        for declaration in _objects(tool.get("functionDeclarations")):
            yield from _beyond(declaration, _camel_fields(_Declaration), "tools.functionDeclarations.")
    tool_config = _object(body.get("toolConfig"))
    yield from _beyond(tool_config, _camel_fields(_ToolConfig), "toolConfig.")
    calling = _object(tool_config.get("functionCallingConfig"))
    yield from _beyond(calling, _camel_fields(_Calling), "toolConfig.functionCallingConfig.")
    names = _list(calling.get("allowedFunctionNames"))
    if len(names) > 1 or (names and calling.get("mode") != "ANY"):
        yield "toolConfig.functionCallingConfig.allowedFunctionNames"
    yield from _in_config(_object(body.get("generationConfig")))


def _in_part(part: Mapping[str, Any]) -> Iterator[str]:
    yield from _beyond(part, _PART_FIELDS, "contents.parts.")
    for name, fields in _NESTED.items():
        inner = _object(part.get(name))
        yield from _beyond(inner, fields, f"contents.parts.{name}.")
        if str(inner.get("mimeType", "")).startswith("video/"):
            yield f"contents.parts.{name}.mimeType"
    file = _object(part.get("fileData"))
    if any(own in str(file.get("fileUri", "")) for own in _OWN_FILES):
        yield "contents.parts.fileData.fileUri"
    for piece in _objects(_object(part.get("functionResponse")).get("parts")):
        yield from _in_part(piece)


def _in_config(config: Mapping[str, Any]) -> Iterator[str]:
    where = "generationConfig."
    yield from _beyond(config, _CONFIG_FIELDS, where)
    yield from _beyond(_object(config.get("thinkingConfig")), _camel_fields(_Thinking), f"{where}thinkingConfig.")
    if config.get("responseMimeType") not in (None, "", "text/plain", "application/json"):
        yield f"{where}responseMimeType"
    if config.get("candidateCount") not in (None, 1):
        yield f"{where}candidateCount"
    if any(str(modality).upper() != "TEXT" for modality in _list(config.get("responseModalities"))):
        yield f"{where}responseModalities"


def _beyond(fields: Mapping[str, Any], known: frozenset[str], where: str) -> Iterator[str]:
    return (f"{where}{name}" for name, value in fields.items() if name not in known and value)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _objects(values: Any) -> list[dict[str, Any]]:
    """The objects of a list; what is of another shape is refused elsewhere, by name."""
    return [value for value in _list(values) if isinstance(value, dict)]
