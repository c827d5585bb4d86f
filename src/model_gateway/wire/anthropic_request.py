"""Anthropic's Messages requests as conversations, and back. Used only between different schemas.

What this schema cannot say is refused by name (`request`). What only this schema can say needs the capability
`protocol:anthropic` (`native_fields`), and a body that holds it is never read here.

Left out on purpose: thoughts without a signature, which no provider of this schema takes back, and empty texts, which
it refuses.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from model_gateway.domain.conversation import (
    Conversation,
    Media,
    Part,
    Reasoning,
    Tool,
    ToolResult,
    ToolUse,
    budget_of,
    effort_of,
)
from model_gateway.domain.errors import InvalidRequest
from model_gateway.wire import needs
from model_gateway.wire.anthropic_models import is_adaptive, without_thinking
from model_gateway.wire.openai import ABSENT, arguments_object, present

FEATURES = frozenset((needs.native("anthropic"), needs.TOP_K))
DEFAULT_MAX_TOKENS = 4096
MIN_BUDGET = 1024
_EFFORTS: Mapping[str, str] = {"minimal": "low"}
_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")
_UNSIGNED = re.compile(rb'"signature"\s*:\s*""')


def request(conversation: Conversation, model: str, stream: bool) -> dict[str, Any]:
    _refuse(conversation)
    thinking, effort = _thinking(conversation, model)
    messages = list(_messages(conversation))
    if not messages:
        raise InvalidRequest(
            "`messages` must hold a user or assistant message that says something: Anthropic's schema takes no"
            " conversation of system messages only",
            param="messages",
        )
    output: dict[str, Any] = {}
    if effort:
        output["effort"] = effort
    if conversation.response_format is not None and conversation.response_format.kind == "schema":
        output["format"] = {"type": "json_schema", "schema": conversation.response_format.schema}
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": _max_tokens(conversation),
        "messages": messages,
    }
    optional: dict[str, Any] = {
        "system": _system(conversation),
        "temperature": conversation.temperature,
        "top_p": conversation.top_p,
        "top_k": conversation.top_k,
        "stop_sequences": list(conversation.stop) or None,
        "thinking": thinking,
        "output_config": output or None,
        "tools": [_tool(tool) for tool in conversation.tools] or None,
        "tool_choice": _choice(conversation),
        "metadata": {"user_id": conversation.user} if conversation.user else None,
    }
    body.update((name, value) for name, value in optional.items() if value is not None)
    if stream:
        body["stream"] = True
    return body


def _refuse(conversation: Conversation) -> None:
    """What would be lost on the way."""
    if conversation.seed is not None:
        raise InvalidRequest("`seed` cannot be said in Anthropic's schema: leave it out", param="seed")
    for name in ("frequency_penalty", "presence_penalty"):
        if getattr(conversation, name):
            raise InvalidRequest(f"`{name}` cannot be said in Anthropic's schema: leave it out", param=name)
    temperature = conversation.temperature
    if temperature is not None and not 0 <= temperature <= 1:
        raise InvalidRequest(
            f"`temperature` must be between 0 and 1 for a model behind Anthropic's schema, not {temperature}",
            param="temperature",
        )
    if any(not stop.strip() for stop in conversation.stop):
        raise InvalidRequest("`stop` must hold more than white space in Anthropic's schema", param="stop")
    if conversation.response_format is not None and conversation.response_format.kind == "json":
        raise InvalidRequest(
            "`response_format`: Anthropic's schema cannot promise JSON without a schema; send a json_schema",
            param="response_format",
        )


def _system(conversation: Conversation) -> str | None:
    for turn in conversation.turns:
        if turn.role == "system" and any(isinstance(part, Media) for part in turn.parts):
            raise InvalidRequest("a system message may hold text only in Anthropic's schema", param="messages")
    return conversation.system_text() or None


def without_unsigned(messages: msgspec.Raw) -> msgspec.Raw:
    """A body's messages without the thoughts that no model of this schema signed: its providers refuse them.

    A door has checked their shape. Such thoughts are ours: a model of another schema thought aloud earlier in the same
    conversation.
    """
    if not _UNSIGNED.search(messages):
        return messages
    kept: list[dict[str, msgspec.Raw]] = []
    for message in _raw_messages(messages):
        content = message.get("content", ABSENT)
        if bytes(content).startswith(b"["):
            blocks = [block for block in _raw_blocks(content) if not _is_unsigned(_thought(block))]
            message["content"] = msgspec.Raw(msgspec.json.encode(blocks))
        if bytes(message.get("content", ABSENT)) != b"[]":
            kept.append(message)
    return msgspec.Raw(msgspec.json.encode(kept))


class _Thought(msgspec.Struct):
    type: str
    signature: msgspec.Raw = ABSENT


_raw_messages = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_raw_blocks = msgspec.json.Decoder(list[msgspec.Raw]).decode
_thought = msgspec.json.Decoder(_Thought).decode


def _is_unsigned(block: _Thought) -> bool:
    return block.type == "thinking" and not present(block.signature)


# --- thinking ---------------------------------------------------------------------------------------------------------


def _budget(conversation: Conversation) -> int:
    """Tokens to think with; 0: none, or not said. Derived from an effort, it leaves at least half to the answer."""
    budget = budget_of(conversation) or 0
    limit = conversation.max_tokens
    if budget <= 0:
        return 0
    if conversation.reasoning_budget is None and limit is not None:
        budget = max(MIN_BUDGET, min(budget, limit // 2))
    if budget < MIN_BUDGET:
        raise InvalidRequest(
            f"the thinking budget must be 0 or at least {MIN_BUDGET} tokens in Anthropic's schema, not {budget}",
            param="reasoning_budget",
        )
    if limit is not None and budget >= limit:
        raise InvalidRequest(
            f"`max_tokens` counts thoughts too and must be above the thinking budget of {budget}: raise it, or think"
            " less",
            param="max_tokens",
        )
    return budget


def _max_tokens(conversation: Conversation) -> int:
    if conversation.max_tokens is not None:
        return conversation.max_tokens
    return DEFAULT_MAX_TOKENS + max(budget_of(conversation) or 0, 0)


def _thinking(conversation: Conversation, model: str) -> tuple[dict[str, Any] | None, str]:
    """The fields `thinking` and `output_config.effort`."""
    effort = effort_of(conversation)
    if not effort:
        return None, ""
    if effort == "none":
        how = without_thinking(model)
        if how == "always":
            raise InvalidRequest(
                f"{model} cannot answer without thinking: ask for a low reasoning_effort", param="reasoning_effort"
            )
        return (None if how == "omit" else {"type": how}), ""
    if is_adaptive(model):
        return {"type": "adaptive"}, _EFFORTS.get(effort, effort)
    budget = _budget(conversation)
    return ({"type": "enabled", "budget_tokens": budget} if budget else None), ""


# --- tools ------------------------------------------------------------------------------------------------------------


def _tool(tool: Tool) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": tool.name, "input_schema": tool.parameters}
    if tool.description:
        fields["description"] = tool.description
    if tool.strict is not None:
        fields["strict"] = tool.strict
    return fields


def _choice(conversation: Conversation) -> dict[str, Any] | None:
    """Whether calls may be parallel is said inside the choice; without tools neither can be said."""
    if not conversation.tools:
        return None
    choice, parallel = conversation.tool_choice, conversation.parallel_tool_calls
    if choice is None and parallel is None:
        return None
    mode = choice.mode if choice is not None else "auto"
    if mode == "none":
        return {"type": "none"}
    field: dict[str, Any] = {"type": {"required": "any", "named": "tool"}.get(mode, mode)}
    if choice is not None and mode == "named":
        field["name"] = choice.name
    if parallel is not None:
        field["disable_parallel_tool_use"] = not parallel
    return field


# --- turns ------------------------------------------------------------------------------------------------------------


def _messages(conversation: Conversation) -> Iterable[dict[str, Any]]:
    """Turns of one role that follow each other become one; what a system turn stood between does too."""
    role, blocks = "", list[dict[str, Any]]()
    for turn in conversation.turns:
        if turn.role == "system":
            continue
        if turn.role != role and blocks:
            yield _message(role, blocks)
            blocks = []
        role = turn.role
        blocks += _blocks(turn.parts)
    if blocks:
        yield _message(role, blocks)


def _message(role: str, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    if role == "user":
        # A call's result must come before anything else in the turn that follows the call.
        blocks = sorted(blocks, key=lambda block: block["type"] != "tool_result")
    return {"role": role, "content": blocks}


def _blocks(parts: Iterable[Part]) -> Iterable[dict[str, Any]]:
    for part in parts:
        if isinstance(part, Media):
            yield _media(part)
        elif isinstance(part, ToolUse):
            arguments = arguments_object(part.arguments)
            if arguments is None:
                raise InvalidRequest(f"the arguments of call `{part.id}` must be a JSON object", param="messages")
            yield {"type": "tool_use", "id": _id(part.id), "name": part.name, "input": arguments}
        elif isinstance(part, ToolResult):
            block: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(part.id)}
            content = list(_blocks(part.parts))
            if content:
                block["content"] = content
            yield {**block, "is_error": True} if part.is_error else block
        elif isinstance(part, Reasoning):
            if part.redacted:
                yield {"type": "redacted_thinking", "data": part.redacted}
            elif part.signature:
                yield {"type": "thinking", "thinking": part.text, "signature": part.signature}
        elif part.text.strip():
            yield {"type": "text", "text": part.text}


def _id(call_id: str) -> str:
    """Ids of other vendors hold signs that this schema refuses; a call's and its result's change alike."""
    return _NOT_IN_IDS.sub("_", call_id) or "_"


def _media(media: Media) -> dict[str, Any]:
    if media.kind == "audio":
        raise InvalidRequest("Anthropic's schema takes no audio: send text, images or documents", param="messages")
    if media.url:
        source: dict[str, Any] = {"type": "url", "url": media.url}
    elif media.kind == "file" and media.mime.partition(";")[0] == "text/plain":
        source = {"type": "text", "media_type": "text/plain", "data": _plain(media.data)}
    elif media.kind == "file" and media.mime != "application/pdf":
        raise InvalidRequest(
            f"Anthropic's schema takes files of application/pdf or text/plain, not {media.mime or 'an unknown type'}",
            param="messages",
        )
    else:
        source = {"type": "base64", "media_type": media.mime, "data": media.data}
    if media.kind == "image":
        return {"type": "image", "source": source}
    block: dict[str, Any] = {"type": "document", "source": source}
    return {**block, "title": media.name} if media.name else block


def _plain(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError:
        raise InvalidRequest("a text/plain file must be UTF-8 in base64", param="messages") from None
