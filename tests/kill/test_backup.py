"""Backups of a gateway under load, and of one that was killed: what was answered is in them, and they restore."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from kill.test_kill import CALLERS, CONFIG, Load, answer, database, free_ports, start
from upstream import FixtureUpstream

__all__ = ["database"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")

ROUNDS = int(os.environ.get("BACKUPS", "3"))


async def run(folder: Path, *arguments: str) -> str:
    """A command, as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "model_gateway.cli", *arguments),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    return told.decode()


def rows(address: str) -> dict[str, dict[str, Any]]:
    """By uid. `id` is the database's own."""
    engine = create_engine(address)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT * FROM requests")).mappings().all()
        assert connection.execute(text("SELECT count(*) FROM holds")).scalar() == 0
        spent, held = connection.execute(text("SELECT spent_nano, held_nano FROM accounts")).one()
    engine.dispose()
    told = {row["uid"]: {name: _plain(value) for name, value in row.items() if name != "id"} for row in found}
    assert len(told) == len(found)
    assert (spent, held) == (sum(row["cost_nano"] for row in told.values()), 0), "the accounts say what the rows say"
    return told


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


@pytest.mark.timeout(0)
async def test_backups_under_load_and_after_a_kill(tmp_path: Path, database: tuple[str, str]) -> None:
    url, address = database
    grpc, http, control = free_ports(3)
    async with FixtureUpstream(answer) as upstream:
        (tmp_path / "gateway.yaml").write_text(
            CONFIG.format(
                grpc=grpc, http=http, control=control, folder=tmp_path, upstream=upstream.url,
                url=f", url: '{url}'" if url else "",
            )
        )  # fmt: skip
        load = Load(f"http://127.0.0.1:{http}/v1/chat/completions")
        answered: list[set[str]] = []
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits) as client:
            process = await start(tmp_path, control)
            callers = [asyncio.ensure_future(load.run(client, Random(seed))) for seed in range(CALLERS)]
            for number in range(ROUNDS):
                await asyncio.sleep(0.3)
                answered.append(set(load.answered))
                await run(tmp_path, "backup", "--to", f"live-{number}.tar.gz")
            process.send_signal(signal.SIGKILL)
            await process.wait()
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
            await run(tmp_path, "backup", "--to", "killed.tar.gz")
        last = await start(tmp_path, control)
        last.send_signal(signal.SIGTERM)
        assert await last.wait() == 0
    final = rows(address)
    await run(tmp_path, "restore", "killed.tar.gz", "--into", "killed.db")
    assert rows(f"sqlite:///{tmp_path}/killed.db") == final, "what the next start made of it"
    for number, names in enumerate(answered):
        await run(tmp_path, "restore", f"live-{number}.tar.gz", "--into", f"live-{number}.db")
        found = rows(f"sqlite:///{tmp_path}/live-{number}.db")
        ended = {uid: row for uid, row in found.items() if row["status"] != "interrupted"}
        assert names <= {row["request_id"] for row in ended.values()}, "answered before the backup began"
        assert found.keys() <= final.keys()
        assert {uid: final[uid] for uid in ended} == ended
    print(f"\n{ROUNDS} backups under load: answered {[len(names) for names in answered]}, {len(final)} rows in the end")
