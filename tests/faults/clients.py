"""Callers at every door, as plain as can be: what a client sees of one request, in one word.

`answer`: a whole answer that says it is whole. `error`: one clear error, and nothing that says the answer is whole.
Anything else is a lie, and said as such: `half` (says it is whole and is not), `broken` (ends without a word), `both`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import httpx

from model_gateway.app import App
from model_gateway.pb import gateway_pb2, gateway_pb2_grpc

EMBEDDING_MODEL = "fixture-embeddings"
QUESTION = "Explain what a black hole is in one sentence"
ENDS = ("can escape.", "even light.", "-0.0028842222")  # of the recorded answers, and of a vector


@dataclass(frozen=True)
class Sight:
    """What a client saw. `status`: HTTP's, or gRPC's by name."""

    outcome: str
    status: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class Door:
    """`ask(app, stream)` asks once. `streams`: it can be asked for a stream."""

    name: str
    ask: Callable[[App, bool], Awaitable[Sight]]
    streams: bool = True

    @property
    def forms(self) -> tuple[bool, ...]:
        return (False, True) if self.streams else (False,)


@dataclass(frozen=True)
class HttpDoor:
    path: str
    body: dict[str, Any]
    done: str
    """What only a complete stream holds."""
    error: str
    """What only a stream with an error holds."""
    stream_path: str = ""
    """Where it is not the body that says so."""

    async def ask(self, app: App, stream: bool) -> Sight:
        begun = time.monotonic()
        body = {**self.body, "stream": True} if stream and not self.stream_path else self.body
        path = self.stream_path or self.path if stream else self.path
        async with httpx.AsyncClient(timeout=15) as client:
            url = f"http://127.0.0.1:{app.http_port}{path}"
            text = ""
            clean = True
            async with client.stream("POST", url, json=body, headers={"cache-control": "no-store"}) as reply:
                try:
                    async for piece in reply.aiter_text():
                        text += piece
                except httpx.HTTPError:
                    clean = False
        seconds = time.monotonic() - begun
        status = str(reply.status_code)
        if reply.status_code != 200:
            return Sight("error" if clean and _is_error(text) else "broken", status, seconds, text[:300])
        if not stream:
            whole = clean and any(end in text for end in ENDS)
            return Sight("answer" if whole else "half", status, seconds, text[:300])
        done, failed = self.done in text, self.error in text
        outcome = {(True, False): "answer", (False, True): "error", (True, True): "both"}.get((done, failed), "broken")
        if outcome == "answer" and not _ends(text):
            outcome = "half"
        if not clean or text.count(self.error) > 1:
            outcome = "broken"
        return Sight(outcome, status, seconds, text[-300:])


def _is_error(text: str) -> bool:
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(error.get("message"))


def _ends(text: str) -> bool:
    """True where the last words of a recorded answer are in a stream, which tells them in pieces."""
    pieces = "".join(_texts(text))
    return any(end in pieces for end in ENDS)


def _texts(stream: str) -> list[str]:
    found: list[str] = []
    for line in stream.splitlines():
        if not line.startswith("data: {"):
            continue
        event = json.loads(line[6:])
        found += [(choice.get("delta") or {}).get("content") or "" for choice in event.get("choices") or ()]
        delta = event.get("delta")
        if isinstance(delta, str) and event.get("type") == "response.output_text.delta":
            found.append(delta)
        elif isinstance(delta, dict):
            found.append(str(delta.get("text") or ""))
        for candidate in event.get("candidates") or ():
            found += [part.get("text", "") for part in candidate.get("content", {}).get("parts", ())]
    return found


async def ask_grpc(app: App, stream: bool) -> Sight:
    begun = time.monotonic()
    request = gateway_pb2.ModelRequest(query=QUESTION, metadata={"cache": "no-store"})
    text, whole, status = "", False, "OK"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        try:
            if stream:
                async for piece in stub.ProcessQueryStream(request, timeout=15):
                    text += piece.delta
                    whole = whole or piece.HasField("result")
            else:
                text = (await stub.ProcessQuery(request, timeout=15)).response
                whole = True
        except grpc.aio.AioRpcError as error:
            status = error.code().name
            text = error.details() or ""
    seconds = time.monotonic() - begun
    if status != "OK":
        return Sight("both" if whole else "error" if text else "broken", status, seconds, text)
    ended = any(end in text for end in ENDS)
    return Sight("answer" if whole and ended else "half", status, seconds, text[-200:])


_MESSAGES = [{"role": "user", "content": QUESTION}]
_HTTP = {
    "/v1/chat/completions": HttpDoor(
        "/v1/chat/completions", {"model": "auto", "messages": _MESSAGES}, "data: [DONE]", '{"error":'
    ),
    "/v1/responses": HttpDoor(
        "/v1/responses", {"model": "auto", "input": QUESTION}, "event: response.completed", "event: error"
    ),
    "/v1/messages": HttpDoor(
        "/v1/messages",
        {"model": "auto", "max_tokens": 100, "messages": _MESSAGES},
        "event: message_stop",
        "event: error",
    ),
    "generateContent": HttpDoor(
        "/v1beta/models/auto:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": QUESTION}]}]},
        '"finishReason"',
        '{"error":',
        "/v1beta/models/auto:streamGenerateContent?alt=sse",
    ),
}
_EMBEDDINGS = HttpDoor("/v1/embeddings", {"model": EMBEDDING_MODEL, "input": QUESTION}, "", "")
DOORS = (
    *(Door(name, door.ask) for name, door in _HTTP.items()),
    Door("gRPC", ask_grpc),
    Door("/v1/embeddings", _EMBEDDINGS.ask, streams=False),
)
