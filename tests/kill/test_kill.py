"""A gateway that is killed under load, again and again: no row is lost or doubled, and no money stays held.

KILLS in the environment says how often, over both databases; `make kill` does it 1,000 times (about half an hour).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from postgres import emptied, server
from upstream import FixtureUpstream, Seen, events, fixture, whole

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")

KILLS = int(os.environ.get("KILLS", "30"))
CALLERS = 16
CONFIG = """
server: {{port: {grpc}, http_port: {http}, control_port: {control}}}
providers:
  embedded: {{status: offline}}
  fixture:
    base_url: {upstream}
    default_model: fixture-model
    supported_model_types: [local, hybrid, remote]
    price_per_million_input: 1
    price_per_million_output: 2
    retry_count: 0
    max_concurrent_queries: 1000
    breaker: {{enabled: false}}
  strong:
    base_url: {upstream}
    default_model: strong-model
    supported_model_types: []
    price_per_million_input: 1
    price_per_million_output: 2
    retry_count: 0
    max_concurrent_queries: 1000
    breaker: {{enabled: false}}
routing: {{cascades: {{checked: {{first: fixture-model, then: strong-model, check: {{min_words: 1000}}}}}}}}
cache: {{enabled: false}}
ledger: {{path: {folder}/ledger.db, flush_interval: 50{url}}}
logging: {{destination: file, file: {{path: {folder}/gateway.log}}}}
budgets: {{limits: [{{name: all, usd: 1000, per: total}}]}}
"""
STATUSES = {"ok", "cancelled", "interrupted", "model_unavailable", "stream_broken"}


async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """At once or after a while, so that some calls are on their way whenever the gateway dies."""
    await asyncio.sleep((len(seen.body) * 7919 + int(seen.at * 1e6)) % 30 / 1000)
    if seen.json.get("stream"):
        await events(fixture("stream.sse"), pace_s=0.002)(seen, writer)
    else:
        await whole(fixture("reply.json"))(seen, writer)


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


class Load:
    """Callers that ask one request after the other, each under a name of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.number = 0
        self.answered: set[str] = set()

    async def run(self, client: httpx.AsyncClient, chance: Random) -> None:
        while True:
            self.number += 1
            name = f"call-{self.number}"
            body = {
                "model": "checked" if chance.random() < 0.3 else "auto",
                "messages": [{"role": "user", "content": f"{name} Explain what a black hole is"}],
                "stream": chance.random() < 0.3,
            }
            timeout = 0.01 if chance.random() < 0.1 else 10  # some go away before they have their answer
            with contextlib.suppress(httpx.HTTPError):
                reply = await client.post(self.url, json=body, headers={"x-request-id": name}, timeout=timeout)
                whole = reply.status_code == 200 and (not body["stream"] or "[DONE]" in reply.text)
                if whole:
                    self.answered.add(name)


async def ready(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(30), httpx.AsyncClient() as client:
        while True:
            assert process.returncode is None, "the gateway did not start again"
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.02)


async def start(folder: Path, control: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "model_gateway.cli", "serve", "--config", str(folder / "gateway.yaml")),
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await ready(f"http://127.0.0.1:{control}/health/ready", process)
    return process


async def kill_under_load(folder: Path, upstream: FixtureUpstream, url: str, kills: int, seed: int) -> Load:
    grpc, http, control = free_ports(3)
    (folder / "gateway.yaml").write_text(
        CONFIG.format(
            grpc=grpc, http=http, control=control, folder=folder, upstream=upstream.url,
            url=f", url: '{url}'" if url else "",
        )
    )  # fmt: skip
    load = Load(f"http://127.0.0.1:{http}/v1/chat/completions")
    chance = Random(seed)
    for _ in range(kills):
        process = await start(folder, control)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits) as client:
            callers = [asyncio.ensure_future(load.run(client, chance)) for _ in range(CALLERS)]
            await asyncio.sleep(chance.uniform(0.02, 0.4))
            process.send_signal(signal.SIGKILL)
            await process.wait()
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
    last = await start(folder, control)
    last.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        assert await last.wait() == 0
    return load


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """What the gateway is told, and what SQLAlchemy is."""
    if request.param == "sqlite":
        yield "", f"sqlite:///{tmp_path}/ledger.db"
        return
    with server(tmp_path / "postgres") as url:
        yield emptied(url), url.replace("postgresql://", "postgresql+psycopg://")


@pytest.mark.timeout(0)
async def test_killed_under_load(tmp_path: Path, database: tuple[str, str], request: pytest.FixtureRequest) -> None:
    url, address = database
    async with FixtureUpstream(answer) as upstream:
        load = await kill_under_load(tmp_path, upstream, url, KILLS // 2, seed=KILLS)
    asked = [re.search(rb"call-\d+", seen.body) for seen in upstream.seen]
    calls = {found[0].decode() for found in asked if found is not None}
    engine = create_engine(address)
    with engine.connect() as connection:
        names = [row[0] for row in connection.execute(text("SELECT request_id FROM requests"))]
        statuses = Counter(connection.execute(text("SELECT status FROM requests")).scalars())
        answered = connection.execute(
            text("SELECT request_id, cost_nano, state FROM requests WHERE status = 'ok'")
        ).all()
        spent, held = connection.execute(text("SELECT spent_nano, held_nano FROM accounts")).one()
        two = connection.execute(text("SELECT tries FROM requests WHERE attempts = 2")).scalars().all()
        cost, least = connection.execute(text("SELECT sum(cost_nano), min(cost_nano) FROM requests")).one()
        assert connection.execute(text("SELECT count(*) FROM holds")).scalar() == 0
    engine.dispose()
    told: dict[str, Any] = {"rows": len(names), "calls": len(calls), **statuses}
    assert len(names) == len(set(names)), f"a row is doubled: {told}"
    assert calls <= set(names), f"{len(calls - set(names))} calls have no row: {told}"
    assert load.answered <= {row[0] for row in answered} | set(names), told
    assert (spent, held) == (int(cost), 0), "the accounts say what the rows say"
    assert least >= 0 and set(statuses) <= STATUSES, told
    usages = [json.loads(fixture("reply.json"))["usage"], {"prompt_tokens": 39, "completion_tokens": 27}]
    exact = {usage["prompt_tokens"] * 1000 + usage["completion_tokens"] * 2000 for usage in usages}
    exact |= {one + other for one in exact for other in exact}  # of a cascade
    assert all(row[1] in exact for row in answered if row[2] == "settled"), "charged as the provider counted"
    assert any(all(each["cost_nano"] for each in json.loads(tries)) for tries in two), "no cascade has paid both calls"
    assert statuses["ok"] > 0 and statuses["interrupted"] > 0, told
    assert list((tmp_path / "ledger.db.journals").iterdir()) == []
    print(f"\n{KILLS // 2} kills, {request.node.name}: {told}")
