"""The guide's upgrade and its way back, with real processes: back up, migrate, start, ask, go back, start, ask."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from kill.test_kill import database, free_ports, start
from model_gateway.admission import issuing
from model_gateway.cli.app import app
from model_gateway.config.load import load
from model_gateway.storage import keys
from model_gateway.storage.audit import GATEWAY
from model_gateway.storage.database import HEAD, engine_of, migrate, open_database, version_of
from upstream import FixtureUpstream, fixture, whole

__all__ = ["database"]

CONFIG = """# from the Node.js gateway
nodeEnv: process.env.NODE_ENV || 'production'
server: {{port: process.env.PORT || {grpc}, http_port: {http}, control_port: {control}}}
providers:
  embedded: {{status: offline}}
  fixture:
    apiKey: process.env.FIXTURE_KEY   # never in the file
    baseUrl: {upstream}
    defaultModel: fixture-model
    supportedModelTypes: [local, hybrid, remote]
    timeout: 15 * 1000
cache: {{enabled: false}}
ledger: {{path: {folder}/data/ledger.db, flush_interval: 20{url}}}
logging: {{destination: file, file: {{path: {folder}/gateway.log}}}}
"""


def yesterday(folder: Path) -> str:
    """A ledger as the version before left it, with rows and a caller's key, which is returned."""
    config = load(folder / "gateway.yaml", {"FIXTURE_KEY": "k"}, folder).config.ledger
    engine = open_database(config)
    secret = keys.secret_of(keys.secret_path(config.path), None)
    with engine.begin() as connection:
        key, _ = issuing.issue(connection, secret, "ada", "search", {}, time.time(), None, GATEWAY)
        migrate(connection, "0003")
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP TABLE audit"))
            connection.execute(text("DROP FUNCTION audit_is_append_only"))
        else:
            connection.execute(text("DROP TABLE audit"))
    engine.dispose()
    return key


async def run(*arguments: str) -> str:
    """A command, in this folder."""
    done = await asyncio.to_thread(CliRunner().invoke, app, [*arguments])
    assert done.exit_code == 0, done.output
    return done.output


def layout(folder: Path) -> str | None:
    engine = engine_of(load(folder / "gateway.yaml", {"FIXTURE_KEY": "k"}, folder).config.ledger)
    with engine.connect() as connection:
        version = version_of(connection)
    engine.dispose()
    return version


async def ask(http: int, key: str) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
    async with httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{http}/v1/chat/completions"
        reply = await client.post(url, json=body, headers={"Authorization": f"Bearer {key}"})
    assert reply.status_code == 200, reply.text


async def stopped(process: Process) -> None:
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


def requests(address: str) -> int:
    engine = create_engine(address)
    with engine.connect() as connection:
        count = connection.execute(text("SELECT count(*) FROM requests")).scalar_one()
    engine.dispose()
    return count


@pytest.mark.timeout(180)
async def test_up_and_back(tmp_path: Path, database: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    url, address = database
    address = address.replace("/ledger.db", "/data/ledger.db")
    monkeypatch.setenv("FIXTURE_KEY", "k")
    monkeypatch.chdir(tmp_path)
    grpc, http, control = free_ports(3)
    file = tmp_path / "gateway.yaml"
    async with FixtureUpstream(whole(fixture("reply.json"))) as upstream:
        file.write_text(
            CONFIG.format(
                grpc=grpc, http=http, control=control, folder=tmp_path, upstream=upstream.url,
                url=f", url: '{url}'" if url else "",
            )
        )  # fmt: skip
        key = await asyncio.to_thread(yesterday, tmp_path)
        written = file.read_text()

        # --- up: back up, migrate, look, start, ask ---
        await run("backup", "--to", "before.tar.gz", "--with-secrets")
        assert layout(tmp_path) == "0003", "a backup changes nothing"
        await run("config", "migrate", "--write")
        assert "apiKey: env:FIXTURE_KEY   # never in the file" in file.read_text()
        assert "brought to" in await run("doctor")
        process = await start(tmp_path, control)
        assert layout(tmp_path) == HEAD
        await ask(http, key)
        file.write_text(file.read_text().replace("15000", "16000"))
        process.send_signal(signal.SIGHUP)
        while "config.reloaded" not in await run("audit"):  # a look takes longer than a wait would
            assert process.returncode is None
        await stopped(process)
        assert requests(address) == 1

        # --- back: the layout first, by this version; then the old file ---
        assert f"layout {HEAD} is 0003 now" in await run("ledger", "downgrade", "0003")
        assert layout(tmp_path) == "0003" and requests(address) == 1, "nothing that 0003 can hold is lost"
        (tmp_path / "gateway.yaml.v0").replace(file)
        assert file.read_text() == written
        process = await start(tmp_path, control)
        await ask(http, key)
        await stopped(process)
        assert requests(address) == 2

        # --- or: all as it was at the backup ---
        await run("restore", "before.tar.gz", "--force")
        assert requests(address) == 0 and file.read_text() == written
        process = await start(tmp_path, control)
        await ask(http, key)
        await stopped(process)

    told: list[dict[str, Any]] = json.loads(await run("audit", "--json"))
    assert [each["action"] for each in told] == ["ledger.upgraded", "backup.restored", "gateway.started"]
    assert "none changed" in await run("audit", "--verify")
