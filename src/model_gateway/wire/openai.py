"""OpenAI's chat-completions schema: what of it the gateway reads, and how replies, chunks and errors are written.

Reads only the fields that decide something; every other field of a request stays undecoded in `ChatRequest.body` and
reaches the provider as it came. Never opens a connection and never reads a clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from model_gateway.domain.chat import ChatChunk, ChatReply, Message
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.usage import Usage, with_tier

T = TypeVar("T")
DONE = b"[DONE]"
ABSENT = msgspec.Raw()
_EMPTY = frozenset((b"", b"null", b"[]", b"{}", b'""'))
# What decoding foreign JSON may raise: nesting deeper than the interpreter's stack included.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def only_text(choice: ChunkChoice) -> bool:
    """True where a choice adds nothing but text: then a stream can be put together again from its texts."""
    delta = choice.delta
    if present(choice.logprobs):
        return False
    return delta is None or not (
        delta.tool_calls
        or delta.refusal
        or delta.reasoning_content
        or delta.reasoning
        or isinstance(delta.content, list)
        or present(delta.function_call)
        or present(delta.audio)
        or present(delta.annotations)
    )


def present(raw: msgspec.Raw) -> bool:
    """True where an undecoded field says something: it is there, not null and not empty."""
    return raw is not ABSENT and bytes(raw) not in _EMPTY


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class ResponseFormat(msgspec.Struct):
    type: str


class ChatBody(msgspec.Struct):
    """The fields of a chat-completion request that the gateway itself reads."""

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    n: int | None = None
    response_format: ResponseFormat | None = None


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int | None = None


class CompletionTokensDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


def _count(tokens: int | None) -> int:
    """A provider's number, made one that can be added up: a negative count is none."""
    return tokens if tokens is not None and tokens > 0 else 0


class WireUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None

    def usage(self, service_tier: Any = None) -> Usage:
        """As counted by the provider; missing counts are 0. No part is larger than its whole."""
        prompt_details = self.prompt_tokens_details
        completion_details = self.completion_tokens_details
        read, written = _count(self.prompt_tokens), _count(self.completion_tokens)
        if prompt_details is None and completion_details is None and service_tier is None:
            return Usage(read, written)
        cached = _count(prompt_details.cached_tokens) if prompt_details else 0
        thought = _count(completion_details.reasoning_tokens) if completion_details else 0
        if thought and self.total_tokens == read + written + thought:
            # xAI counts thoughts beside the completion; its total gives it away.
            written += thought
        usage = Usage(read, written, min(cached, read), min(thought, written))
        return usage if service_tier is None else with_tier(usage, service_tier)


def json_text(arguments: str | dict[str, msgspec.Raw] | None) -> str:
    """A call's arguments as JSON text, whether they came as such or as an object; empty for none."""
    return encode(arguments).decode("utf-8", "replace") if isinstance(arguments, dict) else arguments or ""


def arguments_object(arguments: str) -> msgspec.Raw | None:
    """A call's arguments as schemas hold them that want an object. None: they are no JSON object."""
    try:
        decode_fields(arguments or "{}")
    except DECODE_ERRORS:
        return None
    return msgspec.Raw((arguments or "{}").encode())


class FunctionCall(msgspec.Struct):
    """`arguments`: JSON as text; some servers send the object itself."""

    name: str | None = None
    arguments: str | dict[str, msgspec.Raw] | None = None

    def arguments_text(self) -> str:
        return json_text(self.arguments)


class ToolCall(msgspec.Struct):
    """A call, or more of one. Calls of custom tools have no `function`."""

    index: int | None = None
    id: str | None = None
    function: FunctionCall | None = None


class ContentPart(msgspec.Struct):
    """A piece of content that is not told as one text: Mistral's models that think answer so."""

    text: str | None = None
    thinking: list[ContentPart] | None = None


class Said(msgspec.Struct):
    """A message, or what a chunk adds to one. Vendors call thoughts by either of two names."""

    content: str | list[ContentPart] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: msgspec.Raw = ABSENT
    audio: msgspec.Raw = ABSENT
    annotations: msgspec.Raw = ABSENT

    def text(self) -> str:
        content = self.content
        if isinstance(content, list):
            return "".join(part.text or "" for part in content)
        return content or ""

    def thought(self) -> str:
        told = self.reasoning_content or self.reasoning or ""
        if told or not isinstance(self.content, list):
            return told
        return "".join(piece.text or "" for part in self.content for piece in part.thinking or ())

    def silent(self) -> bool:
        """True where nothing at all was said."""
        return not (self.text() or self.thought() or self.refusal or self.tool_calls) and not (
            present(self.function_call) or present(self.audio)
        )


class ReplyChoice(msgspec.Struct):
    message: Said
    finish_reason: str | None = None


class Reply(msgspec.Struct):
    choices: list[ReplyChoice]
    model: str | None = None
    usage: WireUsage | None = None
    service_tier: Any = None


class EmbeddingsBody(msgspec.Struct):
    """A request for vectors. `input`: one text or several, or their tokens."""

    model: str
    input: str | list[str | int | list[int]]


class Embedding(msgspec.Struct):
    embedding: list[float] | str


class EmbeddingsReply(msgspec.Struct):
    data: list[Embedding]
    model: str | None = None
    usage: WireUsage | None = None


class ChunkChoice(msgspec.Struct):
    index: int = 0
    delta: Said | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = ABSENT


class Chunk(msgspec.Struct):
    choices: list[ChunkChoice] | None = None
    usage: WireUsage | None = None
    service_tier: Any = None
    error: msgspec.Raw = ABSENT


class PlainSaid(msgspec.Struct, forbid_unknown_fields=True):
    """What adds nothing but text."""

    content: str | None = None
    role: str | None = None
    refusal: None = None
    reasoning_content: None = None
    reasoning: None = None
    tool_calls: None = None
    function_call: None = None


class PlainChoice(msgspec.Struct):
    delta: PlainSaid
    index: Literal[0] = 0
    finish_reason: None = None
    logprobs: None = None


class PlainChunk(msgspec.Struct):
    """A chunk that adds text to the first choice and says nothing else that the gateway reads: most of a stream.

    Decoding it proves that.
    """

    choices: tuple[PlainChoice]
    usage: None = None
    error: None = None


class ErrorDetail(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    param: str | None = None


decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_chat = msgspec.json.Decoder(ChatBody).decode
_decode_embeddings_body = msgspec.json.Decoder(EmbeddingsBody).decode
_decode_input = msgspec.json.Decoder(str | list[str | int | list[int]]).decode
decode_embeddings = msgspec.json.Decoder(EmbeddingsReply).decode
decode_reply = msgspec.json.Decoder(Reply).decode
decode_chunk = msgspec.json.Decoder(Chunk).decode
decode_plain_chunk = msgspec.json.Decoder(PlainChunk).decode
encode = msgspec.json.encode

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`$")


def decode_chat(body: bytes) -> tuple[ChatBody, dict[str, msgspec.Raw]]:
    """The fields we read, and all fields as they came. Raises InvalidRequest that names the field."""
    return read_body(_decode_chat, body), read_body(decode_fields, body)


def decode_embeddings_body(body: bytes) -> tuple[EmbeddingsBody, dict[str, msgspec.Raw]]:
    return read_body(_decode_embeddings_body, body), read_body(decode_fields, body)


def texts_in(body: Mapping[str, msgspec.Raw]) -> int:
    """How many vectors a request for embeddings asks for; a list of numbers is one text, told as tokens."""
    texts = _decode_input(body["input"])
    return 1 if isinstance(texts, str) or isinstance(texts[0], int) else len(texts)


def read_body(decode: Callable[[bytes], T], body: bytes) -> T:
    """A caller's body in any schema. Raises InvalidRequest that names the field."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise invalid_field(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the request body is not valid JSON: {error}") from None


def schema_or(default: msgspec.Raw, raw: msgspec.Raw, where: str) -> msgspec.Raw:
    """A JSON schema, which must be an object; `default` for null. Raises InvalidRequest."""
    if bytes(raw) == b"null":
        return default
    if not bytes(raw).startswith(b"{"):
        raise InvalidRequest(f"`{where}` must be a JSON schema: an object", param=where)
    return raw


def invalid_field(text: str) -> InvalidRequest:
    """msgspec's words ("Expected `str`, got `int` - at `$.model`") as an error that names the field."""
    match = _AT.match(text)
    what, path = (match["what"], match["path"] or "") if match else (text, "")
    missing = _MISSING.match(what)
    if missing:
        path = f"{path}.{missing['field']}" if path else missing["field"]
        return InvalidRequest(f"missing required field `{path}`", param=path)
    if not path:
        return InvalidRequest(f"the request body must be a JSON object: {what}")
    return InvalidRequest(f"invalid value for `{path}`: {what}", param=path)


def error_body(message: str, kind: str, code: str, param: str | None) -> bytes:
    """The error object that OpenAI's SDKs turn into typed exceptions."""
    return encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def reply_body(reply_id: str, model: str, created: int, text: str, finish_reason: str, usage: Usage | None) -> bytes:
    """A whole `chat.completion` with one text choice."""
    return encode(
        {
            "id": reply_id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
            ],
            "usage": usage_fields(usage) if usage else None,
        }
    )


def usage_fields(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def chunks_of(reply: ChatReply, include_usage: bool) -> list[ChatChunk]:
    """A whole reply as the chunks a stream would have had: for each choice its content, then its finish."""
    whole: dict[str, Any] = msgspec.json.decode(reply.body)
    head = {
        "id": whole.get("id"),
        "object": "chat.completion.chunk",
        "created": whole.get("created"),
        "model": whole.get("model"),
    }
    chunks: list[ChatChunk] = []
    for choice in whole["choices"]:
        delta = dict(choice["message"])
        if delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(delta["tool_calls"])]
        index, reason = choice.get("index", 0), choice.get("finish_reason")
        data = encode({**head, "choices": [{"index": index, "delta": delta, "finish_reason": None}]})
        content = delta.get("content")
        chunks.append(ChatChunk(data=data, text=content if isinstance(content, str) else ""))
        data = encode({**head, "choices": [{"index": index, "delta": {}, "finish_reason": reason}]})
        chunks.append(ChatChunk(data=data, finish_reason=reason))
    if include_usage and whole.get("usage"):
        chunks.append(
            ChatChunk(data=encode({**head, "choices": [], "usage": whole["usage"]}), usage=reply.usage, usage_only=True)
        )
    return chunks


def details_chunk(chunk_id: str, created: int, model: str, details: dict[str, Any]) -> bytes:
    """A chunk without choices that carries the `gateway` object: clients that do not know it skip it."""
    head = {"id": chunk_id, "object": "chat.completion.chunk", "created": created, "model": model}
    return encode({**head, "choices": [], "gateway": details})


def models_body(models: Sequence[tuple[str, str]], created: int) -> bytes:
    """`GET /v1/models`: pairs of model and owner."""
    data = [{"id": name, "object": "model", "created": created, "owned_by": owner} for name, owner in models]
    return encode({"object": "list", "data": data})


def model_body(name: str, owner: str, created: int) -> bytes:
    return encode({"id": name, "object": "model", "created": created, "owned_by": owner})


def with_field(body: bytes, name: str, value: bytes) -> bytes:
    """A JSON object with one more field at its end, without decoding the object."""
    stripped = body.rstrip()
    separator = b"" if stripped[:-1].rstrip().endswith(b"{") else b","
    return stripped[:-1] + separator + encode(name) + b":" + value + b"}"
