"""A `ModelRequest` as a `ChatRequest`: what each metadata key means. Pure; never opens anything or reads a clock.

Keys with a meaning: budget (USD), maxTokens, temperature, systemMessage, preferredProvider, timeout (ms). Every other
key is a label, kept with the request; of them `session_id` names the conversation, the others are never interpreted.
"""

from __future__ import annotations

import re
from decimal import Decimal

import msgspec

from model_gateway.domain.chat import AUTO_MODEL, ChatRequest, Message
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.usage import NANO_PER_USD
from model_gateway.pb import gateway_pb2 as pb

MAX_ID_CHARACTERS = 128
MAX_LABELS = 64
MAX_LABEL_CHARACTERS = 1024
MAX_BUDGET_USD = 1_000_000
MAX_TIMEOUT_MS = 86_400_000
MAX_TOKENS = 2**31 - 1

_KEYS = frozenset(("budget", "maxTokens", "temperature", "systemMessage", "preferredProvider", "timeout"))
# Stricter than Decimal and int, which also take underscores, other alphabets' digits, NaN and Infinity. The exponent
# is short so that no few characters make a number that takes long to compute with.
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,2})?")
_WHOLE = re.compile(r"[0-9]{1,12}")


def given_id(request_id: str) -> str:
    """The caller's id, "" where none was given. Raises InvalidRequest where it is too long or not printable."""
    if len(request_id) > MAX_ID_CHARACTERS or not request_id.isprintable():
        raise InvalidRequest(
            f"request_id must be at most {MAX_ID_CHARACTERS} printable characters; leave it empty to get a new one",
            param="request_id",
        )
    return request_id


def checked_query(query: str) -> str:
    if not query or query.isspace():
        raise InvalidRequest("query is empty: it must hold the text to answer", param="query")
    return query


def decode_request(
    wire: pb.ModelRequest,
    request_id: str,
    *,
    stream: bool = False,
    deadline_s: float | None = None,
    idempotency_key: str = "",
) -> ChatRequest:
    """`deadline_s`: seconds until the call's own deadline; the nearer of it and `timeout` counts.

    Raises InvalidRequest whose `param` is `query` or `metadata.<key>`.
    """
    messages = [Message(role="user", content=checked_query(wire.query))]
    request = ChatRequest(
        request_id=request_id,
        model=AUTO_MODEL,
        messages=messages,
        body={"messages": msgspec.Raw(msgspec.json.encode(messages))},
        stream=stream,
        timeout_s=None if deadline_s is None else max(0.0, deadline_s),
        explain=True,
        idempotency_key=idempotency_key,
    )
    return _with_metadata(request, dict(wire.metadata)) if wire.metadata else request


def _with_metadata(request: ChatRequest, metadata: dict[str, str]) -> ChatRequest:
    messages, body, timeout_s = request.messages, dict(request.body), request.timeout_s
    system = metadata.get("systemMessage")
    if system:
        messages = [Message(role="system", content=system), *messages]
        body["messages"] = msgspec.Raw(msgspec.json.encode(messages))
    max_tokens = _whole(metadata, "maxTokens", MAX_TOKENS, "a whole number of tokens, such as 256")
    if max_tokens is not None:
        body["max_tokens"] = msgspec.Raw(b"%d" % max_tokens)
    temperature = _decimal(metadata, "temperature", 2, "a number from 0 to 2, such as 0.7")
    if temperature is not None:
        body["temperature"] = msgspec.Raw(msgspec.json.encode(float(temperature)))
    budget = _decimal(metadata, "budget", MAX_BUDGET_USD, f"an amount in USD from 0 to {MAX_BUDGET_USD}, such as 0.05")
    timeout_ms = _whole(
        metadata, "timeout", MAX_TIMEOUT_MS, f"whole milliseconds from 1 to {MAX_TIMEOUT_MS}, such as 30000"
    )
    if timeout_ms is not None:
        timeout_s = timeout_ms / 1000 if timeout_s is None else min(timeout_s, timeout_ms / 1000)
    return msgspec.structs.replace(
        request,
        messages=messages,
        body=body,
        max_tokens=max_tokens,
        budget_nano=None if budget is None else int(budget * NANO_PER_USD),
        timeout_s=timeout_s,
        preferred_provider=metadata.get("preferredProvider", ""),
        labels=_labels(metadata),
        session=metadata.get("session_id", ""),
    )


def in_callers_words(error: InvalidRequest, wire: pb.ModelRequest) -> InvalidRequest:
    """Errors about `messages[i]` speak of the chat that was made here; the caller only knows `query` and a key."""
    if error.param is None or not error.param.startswith("messages["):
        return error
    fields = ["metadata.systemMessage", "query"] if wire.metadata.get("systemMessage") else ["query"]
    for index, field in enumerate(fields):
        ours = f"messages[{index}].content"
        error.message = error.message.replace(ours, field)
        error.param = error.param.replace(ours, field)
    return error


def _decimal(metadata: dict[str, str], key: str, highest: int, what: str) -> Decimal | None:
    text = metadata.get(key)
    if text is None:
        return None
    if _DECIMAL.fullmatch(text) is not None:
        value = Decimal(text)
        if value <= highest:
            return value
    raise InvalidRequest(f"metadata.{key} must be {what}", param=f"metadata.{key}")


def _whole(metadata: dict[str, str], key: str, highest: int, what: str) -> int | None:
    text = metadata.get(key)
    if text is None:
        return None
    if _WHOLE.fullmatch(text) is not None:
        value = int(text)
        if 1 <= value <= highest:
            return value
    raise InvalidRequest(f"metadata.{key} must be {what}", param=f"metadata.{key}")


def _labels(metadata: dict[str, str]) -> dict[str, str]:
    labels = {key: value for key, value in metadata.items() if key not in _KEYS}
    if len(labels) > MAX_LABELS:
        raise InvalidRequest(f"metadata holds {len(labels)} labels; at most {MAX_LABELS} are kept", param="metadata")
    for key, value in labels.items():
        if len(key) + len(value) > MAX_LABEL_CHARACTERS:
            shown = key[:40]
            raise InvalidRequest(
                f"metadata.{shown} is a label and may have at most {MAX_LABEL_CHARACTERS} characters, key included",
                param=f"metadata.{shown}",
            )
    return labels
