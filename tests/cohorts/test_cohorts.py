"""Requests that come in the same moment take each step together, and some of their callers leave between two steps."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from gateway import QUESTION, config_for, fixture_provider
from model_gateway.app import App
from model_gateway.budget.ledger import Ledger
from model_gateway.config.schema import BudgetConfig, BudgetsConfig, CacheConfig
from model_gateway.dispatch.dispatcher import Dispatcher
from model_gateway.guard.guard import Guard
from model_gateway.judging import Judge
from model_gateway.routing.router import Router
from model_gateway.settling import Settler
from upstream import FixtureUpstream, until

TOGETHER = 8
STEPS = (
    *((Guard, "check_prompt"), (Judge, "stand"), (Router, "route"), (Dispatcher, "complete")),
    *((Settler, "settle"), (Ledger, "append")),
)


Taken = list[str]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    """The steps in the order in which they are taken."""
    taken = Taken()

    def watch(kind: type, name: str) -> None:
        whole = getattr(kind, name)

        def step(*given: Any, **named: Any) -> Any:
            taken.append(name)
            return whole(*given, **named)

        monkeypatch.setattr(kind, name, step)

    for kind, name in STEPS:
        watch(kind, name)
    return taken


async def callers(app: App, many: int) -> list[socket.socket]:
    """Connections that the gateway has accepted and whose first request it has answered."""
    found = [socket.create_connection(("127.0.0.1", app.http_port)) for _ in range(many)]
    for each in found:
        each.setblocking(False)
        each.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    for each in found:
        assert (await heard(each)).startswith(b"HTTP/1.1 ")
    return found


async def heard(caller: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(caller, 65_536), 5)


def say(caller: socket.socket, number: int) -> None:
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": f"{QUESTION} {number}"}]}).encode()
    caller.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def app_with(folder: Path, upstream: FixtureUpstream, budgets: BudgetsConfig | None = None) -> App:
    budget = BudgetConfig(name="all", usd=1, per="total")
    return App(
        config_for(
            folder,
            {"fixture": fixture_provider(upstream.url)},
            cache=CacheConfig(enabled=False),
            budgets=budgets or BudgetsConfig(limits=(budget,)),
        )
    )


def booked(folder: Path) -> tuple[dict[str, int], tuple[int, int], int]:
    """Rows by status, what is spent and held, what the rows cost."""
    with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        statuses = dict(ledger.execute("SELECT status, count(*) FROM requests GROUP BY status").fetchall())
        money = ledger.execute("SELECT spent_nano, held_nano FROM accounts WHERE account = 'gateway'").fetchone()
        return statuses, money, ledger.execute("SELECT sum(cost_nano) FROM requests").fetchone()[0]


async def test_those_that_come_together_take_each_step_together(tmp_path: Path, taken: Taken) -> None:
    async with FixtureUpstream() as upstream, app_with(tmp_path, upstream, budgets=BudgetsConfig()) as app:
        them = await callers(app, TOGETHER)
        for number, each in enumerate(them):  # the loop does not run meanwhile
            say(each, number)
        for each in them:
            assert b"200 OK" in await heard(each)
            each.close()
        await until(lambda: not app.gateway.in_flight)
    groups = [(name, len(list(some))) for name, some in groupby(taken)]
    assert groups[:4] == [(name, TOGETHER) for name in ("check_prompt", "stand", "route", "complete")]
    # Answers come when their provider gives them: in one moment or in two.
    assert max(many for name, many in groups[4:] if name == "settle") > 1
    assert Counter(taken) == {name: TOGETHER for _, name in STEPS}


async def test_one_alone_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[None] = []

    async def counted() -> None:
        turns.append(None)

    async with FixtureUpstream() as upstream, app_with(tmp_path, upstream) as app:
        [one] = await callers(app, 1)
        monkeypatch.setattr("model_gateway.pipeline.turn", counted)
        for number in range(3):
            say(one, number)
            assert b"200 OK" in await heard(one)
        one.close()
    assert not turns


def leave_at(monkeypatch: pytest.MonkeyPatch, name: str, leave: Callable[[], None]) -> None:
    """At the first call of that step, before it is taken."""
    kind = next(kind for kind, known in STEPS if known == name)
    whole, left = getattr(kind, name), list[None]()

    def first(*given: Any, **named: Any) -> Any:
        if not left:
            left.append(None)
            leave()
        return whole(*given, **named)

    monkeypatch.setattr(kind, name, first)


@pytest.mark.parametrize("leaving", [(0,), (1, 5), (2, 3, 4, 6, 7)])
@pytest.mark.parametrize("step", ["check_prompt", "stand", "route", "complete", "settle"])
async def test_whoever_leaves_between_two_steps_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Taken, step: str, leaving: tuple[int, ...]
) -> None:
    async with FixtureUpstream() as upstream, app_with(tmp_path, upstream) as app:
        them = await callers(app, TOGETHER)

        def leave() -> None:
            for number in leaving:
                them[number].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                them[number].close()

        leave_at(monkeypatch, step, leave)
        for number, each in enumerate(them):
            say(each, number)
        for number, each in enumerate(them):
            if number not in leaving:
                assert b"200 OK" in await heard(each)
                each.close()
        await until(lambda: not app.gateway.in_flight)
        asked = len(upstream.seen)
    statuses, (spent, held), cost = booked(tmp_path)
    assert taken.count("check_prompt") == taken.count("append") == sum(statuses.values()) == TOGETHER
    assert statuses["ok"] >= TOGETHER - len(leaving) and asked >= statuses["ok"]
    if step in ("check_prompt", "stand"):
        assert statuses["cancelled"] == len(leaving) and asked == statuses["ok"], "nobody was asked for them"
    assert spent == cost > 0 and held == 0
