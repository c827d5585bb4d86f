"""A full disk, a locked database, a corrupt file: /health says so, requests go on as declared, and no row is lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.budget import journal
from model_gateway.config.schema import CacheConfig, LedgerConfig
from upstream import FixtureUpstream, until

BODY = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}
Policy = Literal["fail_open", "fail_closed"]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as held:
        yield held


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a file system needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def start(stack: AsyncExitStack, folder: Path, policy: Policy = "fail_open") -> App:
    upstream = await stack.enter_async_context(FixtureUpstream())
    ledger = LedgerConfig(path=str(folder / "ledger.db"), flush_interval=20, when_unavailable=policy)
    providers = {"fixture": fixture_provider(upstream.url)}
    config = config_for(folder, providers, ledger=ledger, cache=CacheConfig(enabled=False))
    return await stack.enter_async_context(App(config))


async def ask(app: App, times: int = 1) -> list[int]:
    async with httpx.AsyncClient(timeout=20) as client:
        url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
        return [(await client.post(url, json=BODY)).status_code for _ in range(times)]


async def health(app: App) -> dict[str, Any]:
    async with httpx.AsyncClient() as client:
        reply = await client.get(f"http://127.0.0.1:{app.control_port}/health")
    assert reply.status_code == 200, "it still answers"
    return reply.json()


def answered(path: Path) -> int:
    with closing(sqlite3.connect(path)) as ledger:
        return ledger.execute("SELECT count(*) FROM requests WHERE status = 'ok'").fetchone()[0]


def fill(folder: Path) -> Path:
    """All that is left of the disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return ballast


@pytest.mark.parametrize("policy", ["fail_open", "fail_closed"])
async def test_a_full_disk(
    stack: AsyncExitStack, small_disk: Path, monkeypatch: pytest.MonkeyPatch, policy: Policy
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_SIZE", 128 * 1024)
    app = await start(stack, small_disk, policy)
    assert await ask(app, 3) == [200] * 3
    ledger = app.ledger
    assert ledger is not None
    await until(lambda: ledger.pending == 0)
    ballast = fill(small_disk)
    good = 3
    while ledger.healthy:
        assert await ask(app) == [200], "what can be journaled is answered under either policy"
        good += 1
        assert good < 3_000
    told = await health(app)
    assert told["status"] == "degraded" and not told["checks"]["ledger"]["ok"]
    assert "full" in told["checks"]["ledger"]["detail"] or "space" in told["checks"]["ledger"]["detail"]
    refused = 0
    for _ in range(600):  # more than a file of the journal holds
        (status,) = await ask(app)
        good += status == 200
        refused += status == 503
    assert refused == 0 if policy == "fail_open" else refused > 0
    ballast.unlink()
    await until(lambda: ledger.healthy and ledger.pending == 0, timeout_s=20)
    assert await ask(app) == [200] and (await health(app))["status"] == "healthy"
    await until(lambda: ledger.pending == 0)
    assert answered(small_disk / "ledger.db") == good + 1 and ledger.dropped == 0


async def test_a_locked_database(stack: AsyncExitStack, tmp_path: Path) -> None:
    app = await start(stack, tmp_path)
    ledger = app.ledger
    assert ledger is not None
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert await ask(app, 5) == [200] * 5
        await until(lambda: not ledger.healthy, timeout_s=10)
        told = await health(app)
        assert told["status"] == "degraded" and "locked" in told["checks"]["ledger"]["detail"]
        assert await ask(app, 5) == [200] * 5
        other.execute("ROLLBACK")
    await until(lambda: ledger.healthy and ledger.pending == 0, timeout_s=10)
    assert (await health(app))["status"] == "healthy" and answered(tmp_path / "ledger.db") == 10


async def test_a_corrupt_file(stack: AsyncExitStack, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    async with AsyncExitStack() as first:
        app = await start(first, tmp_path)
        ledger = app.ledger
        assert ledger is not None
        assert await ask(app, 50) == [200] * 50
        await until(lambda: ledger.pending == 0)
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with path.open("r+b") as file:  # everything but the header
            file.seek(100)
            file.write(os.urandom(path.stat().st_size - 100))
        good = 0
        while ledger.healthy:
            assert await ask(app) == [200]
            good += 1
            assert good < 500
        told = await health(app)
        assert told["status"] == "degraded" and "malformed" in told["checks"]["ledger"]["detail"]
        assert await ask(app, 20) == [200] * 20
        good += 20
    path.rename(tmp_path / "broken.db")
    for rest in ("ledger.db-wal", "ledger.db-shm"):
        (tmp_path / rest).unlink(missing_ok=True)
    again = await start(stack, tmp_path)
    # Those that were in the broken file as well: the journal's file had not been full.
    await until(lambda: answered(path) == 50 + good, timeout_s=10)
    assert await ask(again) == [200] and (await health(again))["status"] == "healthy"


async def test_a_start_on_a_corrupt_file_says_what_to_do(tmp_path: Path) -> None:
    from model_gateway.config.errors import StartupError

    (tmp_path / "ledger.db").write_bytes(b"SQLite format 3\0" + os.urandom(8_000))
    async with AsyncExitStack() as stack:
        with pytest.raises(StartupError, match=r"ledger\.path") as refused:
            await start(stack, tmp_path)
    assert "another place" in refused.value.remedy
