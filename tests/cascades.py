"""Two providers and a cascade over them: what the tests of cascades share."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import httpx

from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.cascades import CascadeCheck, CascadeConfig
from model_gateway.config.schema import CacheConfig, RoutingConfig
from model_gateway.domain.record import Record
from upstream import Answer, FixtureUpstream, Seen, events, whole

ASK = {"messages": [{"role": "user", "content": "Say hello."}]}
WEAK = 20 * 1_000 + 10 * 2_000  # nano-USD of one answer of `says`
STRONG = 10 * WEAK


def says(text: str, logprob: float | None = None, finish: str = "stop", **more: Any) -> Answer:
    """A reply of two tokens, in the spacing of a server that is not ours."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text, **more}}
        if logprob is not None and seen.json.get("logprobs"):
            tokens = [{"token": "a", "logprob": value, "top_logprobs": []} for value in (logprob, logprob)]
            choice["logprobs"] = {"content": tokens}
        choice["finish_reason"] = finish
        usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
        reply = {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
        if not seen.json.get("stream"):
            await whole(json.dumps(reply, indent=1).encode())(seen, writer)
            return
        delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        head = {"id": "x", "object": "chat.completion.chunk", "model": "m"}
        parts = [
            {**head, "choices": [delta]},
            {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
            {**head, "choices": [], "usage": usage},
        ]
        await events(b"".join(b"data: %s\n\n" % json.dumps(part).encode() for part in parts) + b"data: [DONE]\n\n")(
            seen, writer
        )

    return answer


def providers(first: FixtureUpstream, second: FixtureUpstream, **options: Any) -> dict[str, Any]:
    weak = fixture_provider(first.url, default_model="weak", supported_model_types=("local",), **options)
    strong = fixture_provider(
        second.url,
        default_model="strong",
        supported_model_types=("remote",),
        price_per_million_input=10.0,
        price_per_million_output=20.0,
    )
    return {"weak": weak, "strong": strong}


async def start(
    stack: AsyncExitStack,
    tmp_path: Path,
    first: FixtureUpstream,
    second: FixtureUpstream,
    name: str = "smart",
    check: CascadeCheck | None = None,
    cascade: dict[str, Any] | None = None,
    weak: dict[str, Any] | None = None,
    **sections: Any,
) -> App:
    given: dict[str, Any] = {
        "first": "local",
        "then": "remote",
        "check": check or CascadeCheck(logprob=-0.5),
        **(cascade or {}),
    }
    routing = RoutingConfig(cascades={name: CascadeConfig(**given)})
    sections = {"cache": CacheConfig(enabled=False), **sections}
    config = config_for(tmp_path, providers(first, second, **(weak or {})), routing=routing, **sections)
    return await stack.enter_async_context(App(config))


def closed_of(app: App) -> list[Record]:
    found: list[Record] = []
    app.gateway.observers.append(found.append)
    return found


async def post(app: App, model: str = "smart", timeout_s: float = 20, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    async with httpx.AsyncClient(timeout=timeout_s) as client:
        url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
        return await client.post(url, json={"model": model, **ASK, **more}, headers=headers)


def text_of(reply: httpx.Response) -> str:
    return reply.json()["choices"][0]["message"]["content"]


def rows(folder: Path) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        ledger.row_factory = sqlite3.Row
        return ledger.execute("SELECT * FROM requests ORDER BY id").fetchall()


def account(folder: Path, name: str = "gateway") -> tuple[int, int]:
    with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        return ledger.execute("SELECT spent_nano, held_nano FROM accounts WHERE account = ?", (name,)).fetchone()
