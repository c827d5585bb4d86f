"""A local provider of chat completions that answers from the request itself, as a dutiful model would.

It calls the tool it must (or whose words the question shares) with arguments read from the question, fills the schema
it is given, keeps to stop sequences, counts usage, and refuses with 400 what OpenAI's API refuses: results without
their call, tools without a name, pictures that are none. Nothing in it knows which test is asking.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from typing import Any

from upstream import Seen, events, whole

_ROLES = frozenset(("system", "developer", "user", "assistant", "tool"))
_PARTS = frozenset(("text", "image_url", "input_audio", "file", "refusal"))
_ids = itertools.count(1)


class Refused(Exception):
    """What the real service answers with 400."""


async def scripted(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """An `Answer` of tests/upstream.py."""
    body = seen.json
    try:
        _check(body)
        message, reason = _message(body)
    except Refused as refusal:
        error = {"error": {"message": str(refusal), "type": "invalid_request_error", "param": None, "code": None}}
        await whole(json.dumps(error).encode(), 400)(seen, writer)
        return
    usage = _usage(seen.body, message)
    head = {"id": f"chatcmpl-{next(_ids)}", "created": 1_790_000_000, "model": body["model"]}
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        reply = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        await whole(json.dumps(reply, ensure_ascii=False).encode())(seen, writer)
        return
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [(delta, None) for delta in _deltas(message)]
    deltas.append(({}, reason))
    chunks = [{**head, "object": "chat.completion.chunk", "choices": [_choice(*delta)]} for delta in deltas]
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    data = b"".join(b"data: %s\n\n" % json.dumps(chunk, ensure_ascii=False).encode() for chunk in chunks)
    await events(data + b"data: [DONE]\n\n")(seen, writer)


def _choice(delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": reason}


def _deltas(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Text by the word; a call's arguments in two pieces."""
    found = [{"content": piece} for piece in re.findall(r"\S+\s*", message["content"] or "")]
    for at, call in enumerate(message.get("tool_calls", ())):
        arguments = call["function"]["arguments"]
        half = len(arguments) // 2
        begun = {**call, "index": at, "function": {**call["function"], "arguments": ""}}
        found.append({"tool_calls": [begun]})
        found += [
            {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}
            for piece in (arguments[:half], arguments[half:])
        ]
    return found


# --- what the service refuses -----------------------------------------------------------------------------------------


def _check(body: dict[str, Any]) -> None:
    calls: set[str] = set()
    for message in body["messages"]:
        if message.get("role") not in _ROLES:
            raise Refused(f"unknown role: {message.get('role')}")
        if message["role"] == "tool" and message.get("tool_call_id") not in calls:
            raise Refused("a tool's message must follow the call it answers")
        _check_content(message)
        for call in message.get("tool_calls") or ():
            json.loads(call["function"]["arguments"])
            calls.add(call["id"])
    for tool in body.get("tools") or ():
        if tool.get("type") != "function" or not tool["function"].get("name"):
            raise Refused(f"not a function: {tool}")


def _check_content(message: dict[str, Any]) -> None:
    content = message.get("content")
    if content is None:
        if not message.get("tool_calls"):
            raise Refused("content must not be null")
        return
    for part in content if isinstance(content, list) else ():
        if part.get("type") not in _PARTS:
            raise Refused(f"unknown part: {part.get('type')}")
        if part["type"] == "image_url" and not part["image_url"]["url"].startswith(("https://", "data:image/")):
            raise Refused("not a picture")
        if message["role"] == "tool" and part["type"] != "text":
            raise Refused("a tool's message may hold text only")


# --- what the model says ----------------------------------------------------------------------------------------------


def _message(body: dict[str, Any]) -> tuple[dict[str, Any], str]:
    last = body["messages"][-1]
    question = _text(last.get("content"))
    tool = None if last["role"] == "tool" else _tool_for(body, question)
    if tool is not None:
        arguments = json.dumps(_fill(tool.get("parameters") or {}, question), ensure_ascii=False)
        call = {"id": f"call_{next(_ids)}", "type": "function"}
        function = {"name": tool["name"], "arguments": arguments}
        return {"role": "assistant", "content": None, "tool_calls": [{**call, "function": function}]}, "tool_calls"
    text = _written(body, question)
    for stop in _stops(body):
        text = text.partition(stop)[0]
    return {"role": "assistant", "content": text, "refusal": None}, "stop"


def _stops(body: dict[str, Any]) -> list[str]:
    stop = body.get("stop") or []
    return [stop] if isinstance(stop, str) else stop


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content)
    return content or ""


def _tool_for(body: dict[str, Any], question: str) -> dict[str, Any] | None:
    """The tool that must be called, or whose name shares a word with the question."""
    tools = [tool["function"] for tool in body.get("tools") or ()]
    choice = body.get("tool_choice", "auto")
    if not tools or choice == "none":
        return None
    if isinstance(choice, dict):
        return next(tool for tool in tools if tool["name"] == choice["function"]["name"])
    words = set(re.findall(r"[a-z]+", question.lower()))
    fitting = [tool for tool in tools if words & set(tool["name"].lower().split("_"))]
    return fitting[0] if fitting else tools[0] if choice == "required" else None


def _written(body: dict[str, Any], question: str) -> str:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(_fill(wanted["json_schema"]["schema"], question), ensure_ascii=False)
    if wanted.get("type") == "json_object":
        return json.dumps(dict.fromkeys(re.findall(r"'(\w+)'", question), "because of the cat"))
    return f"You said {question[:60]!r}, and I agree with you."


def _fill(schema: dict[str, Any], question: str) -> Any:
    """A value that fits, with what the question offers: its numbers in turn, the words it quotes."""
    numbers = iter(re.findall(r"-?\d+", question))
    quoted = iter(re.findall(r"['\"](.+?)['\"]", question))
    definitions = schema.get("$defs", schema.get("definitions", {}))

    def value(of: dict[str, Any], name: str) -> Any:
        if "$ref" in of:
            return value(definitions[of["$ref"].rpartition("/")[2]], name)
        for choice in of.get("anyOf") or of.get("allOf") or ():
            if choice.get("type") != "null":
                return value(choice, name)
        if "enum" in of:
            return of["enum"][0]
        kind = of.get("type")
        if isinstance(kind, list):
            kind = next(each for each in kind if each != "null")
        if kind in ("integer", "number"):
            return int(next(numbers, "1"))
        if kind == "boolean":
            return True
        if kind == "array":
            return [value(of.get("items", {}), name)]
        if kind == "object" or "properties" in of:
            return {key: value(inner, key) for key, inner in of.get("properties", {}).items()}
        return next(quoted, f"some {name}")

    return value({"type": "object", **schema}, "value")


def _usage(asked: bytes, message: dict[str, Any]) -> dict[str, Any]:
    said = len(json.dumps(message)) // 4 + 1
    return {"prompt_tokens": len(asked) // 4, "completion_tokens": said, "total_tokens": len(asked) // 4 + said}
