"""Conversations as OpenAI's chat-completion requests. Used only between different schemas.

What this schema cannot say is refused by name. Thoughts of earlier turns are left out: they are proof for the provider
that wrote them, and this schema has no place for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from model_gateway.domain.conversation import (
    Conversation,
    Media,
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
from model_gateway.wire.media import url_of

FEATURES = frozenset((needs.native("openai"), needs.SEED, needs.PENALTIES))
# Models that think refuse `max_tokens`; most vendors that copied the schema know nothing else.
_THINKING_MODELS = re.compile(r"(?:.*/)?(?:o\d|gpt-[5-9])")
# What this schema calls a sound whose MIME type has other names.
_AUDIO = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav"}


def request(conversation: Conversation, model: str, stream: bool) -> dict[str, Any]:
    if conversation.top_k is not None:
        raise InvalidRequest("`top_k` cannot be said in OpenAI's schema", param="top_k")
    body: dict[str, Any] = {"model": model, "messages": list(_messages(conversation))}
    thinks = bool(_THINKING_MODELS.match(model))
    optional: dict[str, Any] = {
        limit_field(model): conversation.max_tokens,
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
        "tool_choice": _choice_field(conversation.tool_choice) if conversation.tools else None,
        "response_format": _format_field(conversation.response_format),
    }
    body.update((name, value) for name, value in optional.items() if value is not None)
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body


def limit_field(model: str) -> str:
    """Models that think refuse the field that all others know."""
    return "max_completion_tokens" if _THINKING_MODELS.match(model) else "max_tokens"


def _effort(conversation: Conversation, *, thinks: bool) -> str | None:
    """`none` is said only to models that would think otherwise: the others refuse the field."""
    effort = effort_of(conversation)
    return None if effort == "none" and not thinks else effort or None


def _messages(conversation: Conversation) -> Iterable[dict[str, Any]]:
    for turn in conversation.turns:
        if turn.role != "user" and any(isinstance(part, Media) for part in turn.parts):
            raise InvalidRequest(f"a message of {turn.role} may hold text only in OpenAI's schema", param="messages")
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
        subtype = part.mime.partition(";")[0].rpartition("/")[2]
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": _AUDIO.get(subtype, subtype)}}
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
