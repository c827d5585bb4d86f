"""The doctor finds what is wrong with a real port, file, database, provider, Redis; and nothing where all is well."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from certificates import Authority
from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import LedgerConfig
from model_gateway.doctor.examination import examine
from model_gateway.doctor.finding import Finding
from model_gateway.storage.database import open_database
from upstream import FixtureUpstream, whole

FREE: dict[str, Any] = {"port": 0, "httpPort": 0, "controlPort": 0}


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as held:
        yield held


async def examined(folder: Path, **sections: Any) -> list[Finding]:
    written = {"server": FREE, "providers": {"embedded": {"status": "offline"}}} | sections
    written["ledger"] = {"path": str(folder / "ledger.db")} | written.get("ledger", {})
    (folder / "gateway.yaml").write_text(yaml.safe_dump(written))
    return await asyncio.to_thread(lambda: list(examine(None, {}, folder)))


def bad(found: list[Finding]) -> list[tuple[str, str, str]]:
    assert all(finding.remedy for finding in found if finding.state != "ok"), "each says what to do"
    return [(finding.what, finding.state, finding.detail) for finding in found if finding.state != "ok"]


def provider(url: str, **options: Any) -> dict[str, Any]:
    options = {"baseUrl": url, "defaultModel": "m", "supportedModelTypes": ["local"]} | options
    return {"providers": {"embedded": {"status": "offline"}, "fixture": options}}


async def test_all_is_well(tmp_path: Path, stack: AsyncExitStack) -> None:
    upstream = await stack.enter_async_context(FixtureUpstream(whole(b'{"data":[]}')))
    found = await examined(tmp_path, **provider(upstream.url, apiKey="k"))
    assert bad(found) == []
    (seen,) = upstream.seen
    assert (seen.method, seen.path) == ("GET", "/v1/models") and seen.headers["authorization"] == "Bearer k"
    assert not (tmp_path / "ledger.db").exists(), "it looks, and makes nothing"
    parts = {finding.what for finding in found}
    assert {"config", "versions", "disk (ledger)", "permissions", "database", "keys", "clock"} <= parts


async def test_a_wrong_configuration_is_all_there_is_to_say(tmp_path: Path) -> None:
    ((what, state, detail),) = bad(await examined(tmp_path, servr={}))
    assert (what, state) == ("config", "error") and "unknown option" in detail


async def test_ports_of_others_and_ones_own(tmp_path: Path, stack: AsyncExitStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        found = bad(await examined(tmp_path, server=FREE | {"httpPort": taken}))
        assert [(what, state) for what, state, _ in found] == [(f"port {taken} (HTTP)", "error")]
    app = await stack.enter_async_context(
        App(config_for(tmp_path, {"fixture": fixture_provider("http://127.0.0.1:9")}))
    )
    ours = {"port": app.grpc_port, "httpPort": app.http_port, "controlPort": app.control_port}
    found_ = await examined(tmp_path, server=ours)
    assert bad(found_) == []
    assert sum("a gateway serves there" in finding.detail for finding in found_) == 3


@pytest.mark.parametrize(
    ("status", "state", "detail"),
    [(401, "error", "refuses the key"), (500, "warning", "status 500"), (404, "ok", "")],
)
async def test_providers(tmp_path: Path, stack: AsyncExitStack, status: int, state: str, detail: str) -> None:
    upstream = await stack.enter_async_context(FixtureUpstream(whole(b"{}", status)))
    found = bad(await examined(tmp_path, **provider(upstream.url)))
    assert [each[1] for each in found] == ([] if state == "ok" else [state])
    assert all(detail in each[2] for each in found)


async def test_nobody_at_home(tmp_path: Path) -> None:
    found = bad(
        await examined(
            tmp_path,
            **provider("http://127.0.0.1:9/v1"),
            cache={"redis": {"url": "redis://127.0.0.1:9/0"}},
            ledger={"url": "postgresql://nobody@127.0.0.1:9/none"},
        )
    )
    assert {what for what, state, _ in found if state == "error"} == {"provider fixture", "redis", "database"}


async def test_a_clock_that_is_wrong(tmp_path: Path, stack: AsyncExitStack) -> None:
    answer = whole(b"{}", 200, "application/json", Date="Mon, 01 Jan 2024 00:00:00 GMT")
    upstream = await stack.enter_async_context(FixtureUpstream(answer))
    ((what, state, _),) = bad(await examined(tmp_path, **provider(upstream.url)))
    assert (what, state) == ("clock", "warning")


async def test_databases(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    open_database(LedgerConfig(path=str(path))).dispose()
    assert bad(await examined(tmp_path)) == []
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    ((what, state, detail),) = bad(await examined(tmp_path))
    assert (what, state) == ("database", "error") and "a newer gateway has written it" in detail
    command = [sys.executable, "-m", "model_gateway.cli", "serve", "--config", str(tmp_path / "gateway.yaml")]
    served = await asyncio.to_thread(subprocess.run, command, cwd=tmp_path, capture_output=True, check=False)
    assert served.returncode == 1 and b"has layout 0999" in served.stderr and b"ledger downgrade" in served.stderr
    assert b"Traceback" not in served.stderr
    path.write_bytes(b"not a database at all" * 1000)
    ((what, state, _),) = bad(await examined(tmp_path))
    assert (what, state) == ("database", "error")


async def test_certificates_and_open_files(tmp_path: Path) -> None:
    cert, key = Authority().issue(until_s=86_400).write(tmp_path, "soon")
    seal = tmp_path / "keys.secret"
    seal.write_text("00" * 32)
    await asyncio.to_thread(Path(key).chmod, 0o644)
    await asyncio.to_thread(seal.chmod, 0o640)
    ledger = tmp_path / "ledger.db"
    open_database(LedgerConfig(path=str(ledger))).dispose()
    await asyncio.to_thread(ledger.chmod, 0o644)  # as a gateway before 0.1.0 made it
    found = bad(await examined(tmp_path, server=FREE | {"tls": {"cert": cert, "key": key}}))
    assert sorted({(what, state) for what, state, _ in found}) == [
        ("certificates", "warning"),
        ("permissions", "warning"),
    ]
    assert sum("others may read" in detail for _, _, detail in found) == 3


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can give a file away")
async def test_a_secret_that_its_group_alone_lets_us_read_is_not_open(tmp_path: Path) -> None:
    """As Kubernetes mounts one: root's, and readable for the group of the pod's user."""
    seal = tmp_path / "keys.secret"
    seal.write_text("00" * 32)
    await asyncio.to_thread(seal.chmod, 0o440)
    await asyncio.to_thread(os.chown, seal, 12345, -1)
    assert not bad(await examined(tmp_path, server=FREE))
    await asyncio.to_thread(seal.chmod, 0o444)
    assert [what for what, _, _ in bad(await examined(tmp_path, server=FREE))] == ["permissions"]


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(
        yaml.safe_dump({"server": FREE, "providers": {"embedded": {"status": "offline"}}})
    )
    command = [sys.executable, "-m", "model_gateway.cli", "doctor"]
    done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, check=False)
    told = json.loads(done.stdout)
    assert (
        done.returncode == 0 and told["healthy"] and {"what", "state", "detail", "remedy"} == set(told["findings"][0])
    )
    (tmp_path / "gateway.yaml").write_text("servr: {}")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 1 and b"unknown option" in done.stdout and b"1 errors" in done.stdout
