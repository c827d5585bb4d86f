"""Conversations as OpenAI's Responses requests. Used only between different schemas.

What this schema cannot say (stop, seed, penalties, top_k) is refused by name. Thoughts travel as reasoning items, their
proof as `encrypted_content`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from model_gateway.domain.conversation import (
    Conversation,
    Media,
    Reasoning,
    Refusal,
    ResponseFormat,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    effort_of,
)
from model_gateway.domain.errors import InvalidRequest
from model_gateway.wire import needs
from model_gateway.wire.media import url_of
from model_gateway.wire.responses_conversation import PROTOCOL

FEATURES = frozenset((needs.native(PROTOCOL),))
_PENALTIES = ("frequency_penalty", "presence_penalty")
_UNSAYABLE = ("stop", "seed", "top_k", *_PENALTIES)


def request(conversation: Conversation, model: str, stream: bool) -> dict[str, Any]:
    for name in _UNSAYABLE:
        said = getattr(conversation, name)
        if said not in (None, ()) and not (name in _PENALTIES and not said):
            raise InvalidRequest(f"`{name}` cannot be said in the schema of OpenAI's responses", param=name)
    body: dict[str, Any] = {"model": model, "input": list(_items(conversation)), "store": False}
    effort = effort_of(conversation)
    optional: dict[str, Any] = {
        "max_output_tokens": conversation.max_tokens,
        "temperature": conversation.temperature,
        "top_p": conversation.top_p,
        "tools": [_function(tool) for tool in conversation.tools] or None,
        "tool_choice": _choice_field(conversation.tool_choice) if conversation.tools else None,
        "parallel_tool_calls": conversation.parallel_tool_calls if conversation.tools else None,
        "text": _text_field(conversation.response_format),
        "reasoning": {"effort": effort, "summary": "auto"} if effort else None,
        "include": ["reasoning.encrypted_content"] if effort and effort != "none" else None,
        "safety_identifier": conversation.user or None,
        "stream": True if stream else None,
    }
    body.update((name, value) for name, value in optional.items() if value is not None)
    return body


def _items(conversation: Conversation) -> Iterable[dict[str, Any]]:
    for at, turn in enumerate(conversation.turns):
        content: list[dict[str, Any]] = []
        rest: list[dict[str, Any]] = []
        for part in turn.parts:
            if isinstance(part, Text | Media | Refusal):
                content.append(_content(part, spoken=turn.role == "assistant"))
            elif isinstance(part, ToolUse):
                rest.append(
                    {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments}
                )
            elif isinstance(part, ToolResult):
                yield {"type": "function_call_output", "call_id": part.id, "output": _output(part)}
            elif part.signature or part.redacted:
                yield _thought(part, f"rs_{at}")
        if content and all(piece["type"] == "output_text" for piece in content):
            # Content in parts is for messages with an id of the provider's own.
            yield {"type": "message", "role": turn.role, "content": "".join(piece["text"] for piece in content)}
        elif content:
            yield {"type": "message", "role": turn.role, "content": content}
        yield from rest


def _content(part: Text | Media | Refusal, *, spoken: bool) -> dict[str, Any]:
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    if isinstance(part, Text):
        return {"type": "output_text" if spoken else "input_text", "text": part.text}
    if part.kind == "image":
        return {"type": "input_image", "image_url": url_of(part), "detail": part.detail or "auto"}
    if part.kind == "audio":
        raise InvalidRequest("the schema of OpenAI's responses takes no audio", param="messages")
    if part.url:
        return {"type": "input_file", "file_url": part.url}
    return {"type": "input_file", "filename": part.name or "file", "file_data": url_of(part)}


def _output(result: ToolResult) -> str | list[dict[str, Any]]:
    parts = (Text("Error:"), *result.parts) if result.is_error else result.parts
    if any(isinstance(part, Media) for part in parts):
        return [_content(part, spoken=False) for part in parts]
    return "\n".join(part.text for part in parts if isinstance(part, Text))


def _thought(part: Reasoning, item_id: str) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    return {
        "type": "reasoning",
        "id": item_id,
        "summary": summary,
        "encrypted_content": part.signature or part.redacted,
    }


def _function(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": bool(tool.strict),
    }


def _choice_field(choice: ToolChoice | None) -> object:
    if choice is None:
        return None
    return {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode


def _text_field(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.kind == "text":
        return None
    if wanted.kind == "json":
        return {"format": {"type": "json_object"}}
    found: dict[str, Any] = {"type": "json_schema", "name": wanted.name or "answer", "schema": wanted.schema}
    if wanted.description:
        found["description"] = wanted.description
    if wanted.strict is not None:
        found["strict"] = wanted.strict
    return {"format": found}
