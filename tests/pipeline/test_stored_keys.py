"""Keys that commands make, rotate and revoke while a gateway runs; what is kept of them is worth nothing to a thief."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from gateway import QUESTION, config_for, fixture_provider
from model_gateway import serving
from model_gateway.admission.gate import Gate
from model_gateway.admission.keys import KeyRing
from model_gateway.app import App
from model_gateway.cli.app import app as commands
from model_gateway.config.schema import CallerKey, ServerConfig
from model_gateway.domain.errors import RateLimited, Unauthenticated
from model_gateway.domain.record import Record
from model_gateway.storage.keys import StoredKey, digest_of, secret_of, secret_path
from upstream import FixtureUpstream, until


@pytest.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    monkeypatch.setattr(serving, "KEYS_S", 0.02)
    (tmp_path / "gateway.yaml").write_text(json.dumps({"ledger": {"path": str(tmp_path / "ledger.db")}}))
    server = ServerConfig(port=0, http_port=0, control_port=0, require_keys=True)
    async with FixtureUpstream() as upstream:
        providers = {"fixture": fixture_provider(upstream.url)}
        async with App(config_for(tmp_path, providers, server=server)) as running:
            yield running


def run(folder: Path, *arguments: str) -> str:
    done = CliRunner().invoke(commands, ["keys", *arguments, "--config", str(folder / "gateway.yaml")])
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


async def status(app: App, key: str) -> int:
    body: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}
    async with httpx.AsyncClient() as client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
        return (await client.post(url, json=body, headers=headers)).status_code


def known(app: App, key: str) -> bool:
    try:
        app.keys.check(key)
    except Unauthenticated:
        return False
    return True


async def test_a_key_lives_from_its_making_to_its_end(app: App, tmp_path: Path) -> None:
    assert await status(app, "") == 401, "a key is required although there is none"
    ada = run(tmp_path, "create", "ada", "--team", "search")
    await until(lambda: known(app, ada))
    assert await status(app, ada) == 200
    assert app.keys.check(ada).tenant == "search"
    second = run(tmp_path, "rotate", "ada", "--overlap", "1h")
    await until(lambda: known(app, second))
    assert await status(app, ada) == await status(app, second) == 200
    third = run(tmp_path, "rotate", "ada", "--overlap", "0s")
    await until(lambda: known(app, third) and not known(app, ada) and not known(app, second))
    run(tmp_path, "revoke", "ada")
    await until(lambda: not known(app, third))
    assert await status(app, third) == 401
    assert [row["state"] for row in json.loads(run(tmp_path, "list", "--json"))] == ["revoked"] * 3


async def test_two_keys_of_one_name_have_one_limit(app: App, tmp_path: Path) -> None:
    first = run(tmp_path, "create", "ada", "--rpm", "3")
    second = run(tmp_path, "rotate", "ada", "--overlap", "1h")
    await until(lambda: known(app, first) and known(app, second))
    assert [await status(app, key) for key in (first, second, first, second)] == [200, 200, 200, 429]


async def test_what_is_stored_opens_nothing(app: App, tmp_path: Path) -> None:
    ada = run(tmp_path, "create", "ada")
    await until(lambda: known(app, ada))
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
        [(digest, shown)] = database.execute("SELECT digest, shown FROM keys").fetchall()
    for thing in (
        digest,
        shown,
        f"sha256:{digest}",
        ada[:-1],
        ada[:12],
        ada.upper(),
        (tmp_path / "keys.secret").read_text(),
    ):
        assert not known(app, thing.strip())
    assert not holding(tmp_path, ada.encode()), "a file holds the key"
    assert (tmp_path / "keys.secret").stat().st_mode & 0o077 == 0


def holding(folder: Path, what: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and what in path.read_bytes()]


def stored(**options: Any) -> StoredKey:
    digest = digest_of(b"s" * 32, "mgw_key")
    return StoredKey("1", "ada", "t", digest, "mgw_…", options, 10.0, expires_at=100.0)


def test_an_end_is_an_end_at_its_second() -> None:
    now = [99.9]
    ring = KeyRing([], secret=b"s" * 32, wall_clock=lambda: now[0])
    ring.replace([stored()])
    assert ring.check("mgw_key").key_name == "ada"
    now[0] = 100.0
    with pytest.raises(Unauthenticated, match=r"mgw_… is expired"):
        ring.check("mgw_key")
    ring.replace([])
    assert not ring.required


def test_configured_and_stored_keys_stand_side_by_side() -> None:
    ring = KeyRing([CallerKey(name="bob", key=SecretStr("bobs"))], secret=b"s" * 32, wall_clock=lambda: 0.0)
    ring.replace([stored(max_concurrent=1)])
    for _ in range(2):  # a key that was seen before takes a shorter way
        assert (ring.check("bobs").key_name, ring.check("mgw_key").key_name) == ("bob", "ada")
    ring.replace([])
    assert ring.check("bobs").key_name == "bob"
    with pytest.raises(Unauthenticated):
        ring.check("mgw_key")


def test_what_a_stored_key_has_used_is_not_forgotten_when_the_keys_are_read_again() -> None:
    ring = KeyRing([], secret=b"s" * 32, wall_clock=lambda: 0.0)
    gate = Gate(ring, lambda: 0.0, lambda: 0.0)
    for at_once in (1, 2):
        ring.replace([stored(max_concurrent=at_once)])
        gate.admit("mgw_key", Record("r", "http", 0.0))
        with pytest.raises(RateLimited):
            gate.admit("mgw_key", Record("r", "http", 0.0))


def test_a_secret_is_made_once_and_a_given_one_is_taken(tmp_path: Path) -> None:
    path = secret_path(str(tmp_path / "x" / "ledger.db"))
    first = secret_of(path, None)
    assert secret_of(path, None) == first and len(first) == 32
    assert secret_of(path, "given") != first
