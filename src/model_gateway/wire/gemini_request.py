"""Conversations as Gemini's generateContent requests. Used only where the caller's schema is another.

What this schema cannot say is refused by name. Left out on purpose: thoughts of earlier turns, which no provider of
this schema takes back as such, empty texts, and `user`, which only identifies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from model_gateway.domain.conversation import (
    Conversation,
    Media,
    Part,
    Reasoning,
    Text,
    Tool,
    ToolResult,
    ToolUse,
    budget_of,
    effort_of,
)
from model_gateway.domain.errors import InvalidRequest
from model_gateway.wire import needs
from model_gateway.wire.gemini import EMPTY_OBJECT, NAME
from model_gateway.wire.openai import arguments_object

FEATURES = frozenset((needs.native(NAME), needs.SEED, needs.PENALTIES, needs.TOP_K))
_MAX_STOPS = 5
# What Google documents for calls that another model made: they have no signature of Gemini's.
UNSIGNED = "skip_thought_signature_validator"
_VERSION = re.compile(r"gemini-(?P<major>\d{1,2})(?:\.(?P<minor>\d{1,2}))?(?![\d])")
_MIMES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "gif": "image/gif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "wav": "audio/wav",
    "mp3": "audio/mp3",
}


def request(conversation: Conversation, model: str, stream: bool) -> dict[str, Any]:  # noqa: ARG001 (the path says it)
    _refuse(conversation)
    contents = list(_contents(conversation, signed=_major(model) >= 3))
    if not contents:
        raise InvalidRequest(
            "`messages` must hold a user or assistant message that says something: Gemini's schema takes no"
            " conversation of system messages only",
            param="messages",
        )
    body: dict[str, Any] = {"contents": contents}
    system = _system(conversation)
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    if conversation.tools:
        body["tools"] = [{"functionDeclarations": [_tool(tool) for tool in conversation.tools]}]
        choice = _choice(conversation)
        if choice:
            body["toolConfig"] = {"functionCallingConfig": choice}
    config = _config(conversation, model)
    if config:
        body["generationConfig"] = config
    return body


def _refuse(conversation: Conversation) -> None:
    """What would be lost on the way."""
    if conversation.parallel_tool_calls is False and conversation.tools:
        raise InvalidRequest(
            "`parallel_tool_calls`: Gemini's schema cannot forbid parallel calls: leave it out",
            param="parallel_tool_calls",
        )
    if len(conversation.stop) > _MAX_STOPS:
        raise InvalidRequest(
            f"`stop` may hold {_MAX_STOPS} sequences in Gemini's schema, not {len(conversation.stop)}", param="stop"
        )


def _system(conversation: Conversation) -> str:
    for turn in conversation.turns:
        if turn.role == "system" and any(isinstance(part, Media) for part in turn.parts):
            raise InvalidRequest("a system message may hold text only in Gemini's schema", param="messages")
    return conversation.system_text()


def _config(conversation: Conversation, model: str) -> dict[str, Any]:
    wanted = conversation.response_format
    fields: dict[str, Any] = {
        "temperature": conversation.temperature,
        "topP": conversation.top_p,
        "topK": conversation.top_k,
        "maxOutputTokens": conversation.max_tokens,
        "stopSequences": list(conversation.stop) or None,
        "seed": conversation.seed,
        "frequencyPenalty": conversation.frequency_penalty,
        "presencePenalty": conversation.presence_penalty,
        "responseMimeType": "application/json" if wanted and wanted.kind != "text" else None,
        "responseJsonSchema": wanted.schema if wanted and wanted.kind == "schema" else None,
        "thinkingConfig": _thinking(conversation, model),
    }
    return {name: value for name, value in fields.items() if value is not None}


# --- thinking ---------------------------------------------------------------------------------------------------------


def _major(model: str) -> int:
    """0: a name without a version (an alias such as gemini-flash-latest, or no Gemini)."""
    found = _VERSION.search(model)
    return int(found["major"]) if found else 0


def _thinking(conversation: Conversation, model: str) -> dict[str, Any] | None:
    """Models have a level since 3, a budget of tokens before; a name that does not tell is asked in the newer way."""
    effort = effort_of(conversation)
    if not effort:
        return None
    if 0 < _major(model) < 3:
        budget = budget_of(conversation) or 0
        return {"thinkingBudget": budget, "includeThoughts": budget > 0}
    if effort == "none":
        raise InvalidRequest(
            f"{model} cannot answer without thinking: ask for a minimal or low reasoning_effort",
            param="reasoning_effort",
        )
    return {"thinkingLevel": effort.upper(), "includeThoughts": True}


# --- tools ------------------------------------------------------------------------------------------------------------


def _tool(tool: Tool) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": tool.name, "parametersJsonSchema": tool.parameters}
    if tool.description:
        fields["description"] = tool.description
    return fields


def _choice(conversation: Conversation) -> dict[str, Any] | None:
    choice = conversation.tool_choice
    mode = choice.mode if choice else "auto"
    if mode == "auto":
        # Calls that must fit their schema, in this schema's words.
        return {"mode": "VALIDATED"} if any(tool.strict for tool in conversation.tools) else None
    if mode == "none":
        return {"mode": "NONE"}
    named = {"allowedFunctionNames": [choice.name]} if choice and mode == "named" else {}
    return {"mode": "ANY", **named}


# --- turns ------------------------------------------------------------------------------------------------------------


def _contents(conversation: Conversation, *, signed: bool) -> Iterator[dict[str, Any]]:
    """Turns of one role that follow each other become one; what a system turn stood between does too."""
    role, parts = "", list[dict[str, Any]]()
    for turn in conversation.turns:
        if turn.role == "system":
            continue
        turned = "model" if turn.role == "assistant" else "user"
        if turned != role and parts:
            yield {"role": role, "parts": parts}
            parts = []
        role = turned
        parts += _parts(conversation, turn.parts, signed=signed)
    if parts:
        yield {"role": role, "parts": parts}


def _parts(conversation: Conversation, parts: tuple[Part, ...], *, signed: bool) -> Iterator[dict[str, Any]]:
    """`signed`: the first call of a turn must bear a signature."""
    for part in parts:
        if isinstance(part, Media):
            yield _media(part)
        elif isinstance(part, ToolUse):
            yield _call(part, UNSIGNED if signed else "")
            signed = False
        elif isinstance(part, ToolResult):
            yield {"functionResponse": _result(conversation, part)}
        elif not isinstance(part, Reasoning) and part.text:
            yield {"text": part.text}


def _call(call: ToolUse, unsigned: str) -> dict[str, Any]:
    arguments = arguments_object(call.arguments)
    if arguments is None:
        raise InvalidRequest(f"the arguments of call `{call.id}` must be a JSON object", param="messages")
    part: dict[str, Any] = {"functionCall": {"id": call.id, "name": call.name, "args": arguments}}
    signature = call.signature or unsigned
    return {**part, "thoughtSignature": signature} if signature else part


def _result(conversation: Conversation, result: ToolResult) -> dict[str, Any]:
    name = result.name or conversation.tool_name(result.id)
    if not name:
        raise InvalidRequest(
            f"no earlier message calls a tool with the id `{result.id}`, and Gemini's schema needs the tool's name",
            param="messages",
        )
    text = "\n".join(part.text for part in result.parts if isinstance(part, Text))
    response: dict[str, Any] = {"id": result.id, "name": name, "response": _response(text, is_error=result.is_error)}
    media = [_media(part) for part in result.parts if isinstance(part, Media)]
    return {**response, "parts": media} if media else response


def _response(text: str, *, is_error: bool) -> Any:
    """A result is an object here: one as it is, any other text under a name that Google's documents give it."""
    if is_error:
        return {"error": text}
    if text.lstrip().startswith("{"):
        return arguments_object(text) or {"result": text}
    return {"result": text} if text else EMPTY_OBJECT


def _media(media: Media) -> dict[str, Any]:
    if media.url:
        mime = media.mime or _mime_of(media.url)
        file: dict[str, Any] = {"fileUri": media.url}
        return {"fileData": {"mimeType": mime, **file} if mime else file}
    if not media.mime:
        raise InvalidRequest("a medium needs its type (such as image/png) in Gemini's schema", param="messages")
    return {"inlineData": {"mimeType": media.mime, "data": media.data}}


def _mime_of(url: str) -> str:
    """By the ending of its path; empty: the provider finds out by itself."""
    ending = url.partition("?")[0].rpartition(".")[2].lower()
    return _MIMES.get(ending, "")
