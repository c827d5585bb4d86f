"""Reloads, as callers and operators meet them: under load, wrong ones among them, and nobody notices."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
import yaml

from gateway import QUESTION
from model_gateway.app import App
from model_gateway.config.errors import StartupError
from model_gateway.config.history import history_beside
from model_gateway.config.load import load
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from model_gateway.workers.reload import Reloader
from upstream import FixtureUpstream, chat, events, fixture, until

RELOADS = 100


class Running(NamedTuple):
    app: App
    reloader: Reloader
    file: Path
    client: httpx.AsyncClient

    async def ask(self, key: str = "", **more: Any) -> httpx.Response:
        body = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}], **more}
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return await self.client.post("/v1/chat/completions", json=body, headers=headers)

    async def health(self) -> dict[str, Any]:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{self.app.control_port}/health")).json()


def document(upstream: FixtureUpstream, **more: Any) -> dict[str, Any]:
    provider: dict[str, Any] = {
        "baseUrl": upstream.url, "defaultModel": "fixture-model", "supportedModelTypes": ["local", "hybrid", "remote"],
        "pricePerMillionInput": 1, "pricePerMillionOutput": 2, "maxConcurrentQueries": 50,
    }  # fmt: skip
    base: dict[str, Any] = {
        "server": {"port": 0, "httpPort": 0, "controlPort": 0, "shutdownGrace": 2_000},
        "providers": {"embedded": {"status": "offline"}, "fixture": provider},
        "cache": {"enabled": False},
        "ledger": {"flushInterval": 20},
        "logging": {"destination": "file"},
    }
    return base | more


@pytest.fixture
async def upstream() -> AsyncIterator[FixtureUpstream]:
    async with FixtureUpstream(chat) as server:
        yield server


@asynccontextmanager
async def running(folder: Path, written: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Running]:
    monkeypatch.chdir(folder)  # the ledger and the log are in it
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(written))
    loaded = load(None, {}, folder)
    async with App(loaded.config) as app:
        reloader = Reloader(app.operations, loaded, None, {}, folder)
        app.operations.reload = reloader.reload
        base = f"http://127.0.0.1:{app.http_port}"
        async with httpx.AsyncClient(base_url=base, timeout=30) as client:
            yield Running(app, reloader, file, client)


async def test_a_hundred_reloads_under_load_fail_nobody(
    tmp_path: Path, upstream: FixtureUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, document(upstream), monkeypatch) as gateway:
        done = asyncio.Event()
        seen: Counter[str] = Counter()

        async def whole() -> None:
            while not done.is_set():
                seen[str((await gateway.ask()).status_code)] += 1

        async def streamed() -> None:
            while not done.is_set():
                text = (await gateway.ask(stream=True)).text
                seen["ended" if text.rstrip().endswith("[DONE]") else text] += 1

        async def called() -> None:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.app.grpc_port}") as channel:
                stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
                while not done.is_set():
                    reply = await stub.ProcessQuery(pb.ModelRequest(query=QUESTION))
                    seen["called" if reply.response else "empty"] += 1

        load_ = [asyncio.create_task(work()) for work in (whole, whole, streamed, streamed, called)]
        refused = 0
        for number in range(RELOADS):
            written = document(upstream, routing={"aliases": {f"a{number}": "fixture-model"}})
            written["providers"]["fixture"]["timeout"] = 10_000 + number // 8  # now and then it is another provider
            written["providers"]["fixture"]["maxConcurrentQueries"] = 20 + number % 3
            if number % 2:
                written["providers"]["fixture"]["timeout"] = -1 if number % 4 == 1 else None
                written["servr"] = {}
            gateway.file.write_text(yaml.safe_dump(written))
            try:
                await gateway.reloader.reload("test")
            except StartupError:
                refused += 1
        done.set()
        await asyncio.gather(*load_)
        assert refused == RELOADS // 2
        assert gateway.app.operations.configuration.generation == 1 + RELOADS // 2
        assert gateway.app.operations.configuration.refused == RELOADS // 2
        assert set(seen) == {"200", "ended", "called"} and sum(seen.values()) > RELOADS
        health = await gateway.health()
        assert "unknown option" in health["checks"]["configuration"]["detail"] and health["status"] == "degraded"
        await until(lambda: all(state.load.in_flight == 0 for state in gateway.app.gateway.states))


async def test_an_unchanged_provider_keeps_its_connections_and_a_key_what_it_has_used(
    tmp_path: Path, upstream: FixtureUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = document(upstream, keys=[{"name": "ada", "key": "one-key", "requestsPerMinute": 2}])
    async with running(tmp_path, written, monkeypatch) as gateway:
        assert (await gateway.ask("one-key")).status_code == 200
        written["routing"] = {"fallback": False}
        written["keys"].append({"name": "bob", "key": "two-key"})
        gateway.file.write_text(yaml.safe_dump(written))
        done = await gateway.reloader.reload("test")
        assert done.changed == ("routing.fallback", "keys") and not done.after_restart
        assert (await gateway.ask("one-key")).status_code == 200
        assert (await gateway.ask("one-key")).status_code == 429, "two a minute, before and after together"
        assert (await gateway.ask("two-key")).status_code == 200
        assert upstream.connections == 1

        written["keys"].pop(0)
        gateway.file.write_text(yaml.safe_dump(written))
        await gateway.reloader.reload("test")
        assert (await gateway.ask("one-key")).status_code == 401, "a key that is gone opens nothing"
        same = await gateway.reloader.reload("test")
        assert same.changed == () and same.generation == 3


async def test_a_provider_with_another_key_goes_on_with_its_connections(
    tmp_path: Path, upstream: FixtureUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = document(upstream)
    async with running(tmp_path, written, monkeypatch) as gateway:
        assert (await gateway.ask()).status_code == 200
        for key in ("changed", "again"):
            written["providers"]["fixture"]["apiKey"] = key
            gateway.file.write_text(yaml.safe_dump(written))
            await gateway.reloader.reload("test")
            await until(lambda: not gateway.app._retiring)
            assert (await gateway.ask()).status_code == 200
            assert upstream.seen[-1].headers["authorization"] == f"Bearer {key}"
        assert upstream.connections == 1


async def test_who_is_under_way_ends_where_he_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = fixture("stream.sse")
    async with (
        FixtureUpstream(events(stream, pace_s=0.05)) as old,
        FixtureUpstream(chat) as new,
        running(tmp_path, document(old), monkeypatch) as gateway,
    ):
        before = gateway.app.generation
        begun = asyncio.create_task(gateway.ask(stream=True))
        await until(lambda: bool(old.busy))
        gateway.file.write_text(yaml.safe_dump(document(new)))
        assert (await gateway.reloader.reload("test")).changed == ("providers.fixture.base_url",)
        assert (await gateway.ask()).status_code == 200 and len(new.seen) == 1
        assert not begun.done()
        assert (await begun).text.rstrip().endswith("[DONE]")
        assert len(old.seen) == 1
        await until(lambda: not before.gateway.in_flight)
        await until(lambda: not gateway.app._retiring)  # its connections are closed
        assert old.hung_up <= 1


async def test_files_that_change_are_taken_up_and_a_wrong_one_is_told(
    tmp_path: Path, upstream: FixtureUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "key.txt"
    secret.write_text("first-secret")
    written = document(upstream)
    written["providers"]["fixture"]["apiKey"] = "file:key.txt"
    async with running(tmp_path, written, monkeypatch) as gateway:
        watching = asyncio.create_task(gateway.reloader.watch())
        state = gateway.app.operations
        await gateway.ask()
        secret.write_text("second-secret")
        await until(lambda: state.configuration.generation == 2, 2.0)
        await gateway.ask()
        sent = [seen.headers["authorization"] for seen in upstream.seen]
        assert sent == ["Bearer first-secret", "Bearer second-secret"]

        gateway.file.write_text("providers: [")
        await until(lambda: bool(state.configuration.error), 2.0)
        assert (await gateway.ask()).status_code == 200
        gateway.file.write_text(yaml.safe_dump(written))
        await until(lambda: not state.configuration.error, 2.0)
        assert state.configuration.generation == 2 and state.configuration.refused == 1

        written["server"]["httpPort"] = 1
        gateway.file.write_text(yaml.safe_dump(written))
        await until(lambda: state.configuration.waiting == ("server.http_port",), 2.0)
        watching.cancel()
    log = (tmp_path / "logs" / "gateway.log").read_text()
    assert "second-secret" not in log and "first-secret" not in log
    told = [json.loads(line) for line in log.splitlines() if "configuration" in line]
    assert [line["event"] for line in told][:2] == ["configuration reloaded", "configuration refused"]
    assert told[0]["changed"] == ["providers.fixture.api_key"]


async def test_the_admin_api_reloads_and_says_what_is_wrong(
    tmp_path: Path, upstream: FixtureUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = document(upstream, server={"port": 0, "httpPort": 0, "controlPort": 0, "adminToken": "the-admin-token"})
    async with running(tmp_path, written, monkeypatch) as gateway, httpx.AsyncClient() as admin:
        base = f"http://127.0.0.1:{gateway.app.control_port}/admin/v1"
        admin.headers["Authorization"] = "Bearer the-admin-token"
        gateway.file.write_text(yaml.safe_dump(written | {"routing": {"fallback": "perhaps"}}))
        refused = await admin.post(f"{base}/reload")
        assert refused.status_code == 422 and "routing.fallback" in refused.json()["error"]["message"]
        assert (await admin.get(f"{base}/configuration")).json()["refused"] == 1
        gateway.file.write_text(yaml.safe_dump(written | {"routing": {"fallback": False}}))
        done = await admin.post(f"{base}/reload")
        assert done.json() == {
            "generation": 2,
            "changed": ["routing.fallback"],
            "after_restart": [],
            "certificates": [],
        }
        kept = history_beside(gateway.app.config.ledger.path).versions()
        assert [yaml.safe_load(version.text).get("routing") for version in kept] == [None, {"fallback": False}]
        assert (await admin.post(f"{base}/reload", headers={"Authorization": "Bearer no"})).status_code == 401
