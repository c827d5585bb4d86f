"""Whatever happens to a request, its record is closed once, and ledger, metrics and log say the same of it."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog

from gateway import QUESTION, config_for, fixture_provider
from model_gateway import generation as app_module
from model_gateway.app import App
from model_gateway.domain.caller import ANONYMOUS
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.errors import CostLimitExceeded, DeadlineExceeded, GatewayError, UnsafePrompt
from model_gateway.domain.record import Record
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from model_gateway.telemetry.around import Around
from model_gateway.telemetry.exposition import rendered
from model_gateway.wire import openai as wire
from upstream import Answer, FixtureUpstream, events, fixture, silence, until, whole


@pytest.fixture
async def upstream() -> AsyncIterator[FixtureUpstream]:
    async with FixtureUpstream() as server:
        yield server


@pytest.fixture
async def app(tmp_path: Path, upstream: FixtureUpstream) -> AsyncIterator[App]:
    async with App(config_for(tmp_path, {"fixture": fixture_provider(upstream.url)})) as running:
        yield running


def request(content: str = QUESTION, *, stream: bool = False, **options: Any) -> ChatRequest:
    body, fields = wire.decode_chat(
        wire.encode({"model": "auto", "messages": [{"role": "user", "content": content}], "stream": stream})
    )
    return ChatRequest(request_id="r", model="auto", messages=body.messages, body=fields, stream=stream, **options)


async def run(app: App, asked: ChatRequest) -> Record:
    """One request through the pipeline, streams read to their end; the record, and no error."""
    held: Record | None = None
    try:
        with app.gateway.journal("test") as record:
            held = record
            caller = app.gateway.admit("", record)
            if asked.stream:
                async for _chunks in await app.gateway.stream(asked, caller, record):
                    pass
            else:
                await app.gateway.complete(asked, caller, record)
    except (GatewayError, asyncio.CancelledError):
        pass
    assert held is not None
    return held


async def rows_of(tmp_path: Path, count: int) -> list[dict[str, Any]]:
    def read() -> list[dict[str, Any]]:
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute("SELECT * FROM requests")]

    await until(lambda: len(read()) >= count)
    return read()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_good_answer_costs_what_the_provider_counted(app: App, tmp_path: Path, stream: bool) -> None:
    record = await run(app, request(stream=stream))
    assert (record.status, record.provider, record.model) == ("ok", "fixture", "fixture-model")
    assert record.usage is not None and not record.usage.estimated
    assert record.cost_nano == 39 * 1_000 + 27 * 2_000
    assert [attempt.outcome for attempt in record.attempts] == ["ok"]
    row = (await rows_of(tmp_path, 1))[0]
    assert (row["cost_nano"], row["input_tokens"], row["output_tokens"]) == (record.cost_nano, 39, 27)
    again = await run(app, request(stream=not stream))
    assert (again.cache, again.cost_nano) == ("hit", 0)


def bare(name: str) -> bytes:
    """A recorded reply whose provider counted nothing."""
    whole_reply = json.loads(fixture(name))
    del whole_reply["usage"]
    return json.dumps(whole_reply).encode()


async def test_where_the_provider_counts_nothing_we_estimate(app: App, upstream: FixtureUpstream) -> None:
    upstream.answer = whole(bare("reply.json"))
    record = await run(app, request())
    assert record.usage is not None and record.usage.estimated
    assert 20 < record.usage.output_tokens < 60
    assert record.cost_nano > 0


@pytest.mark.parametrize(
    ("answer", "status", "charged"),
    [
        (whole(b"oops", 500), "model_unavailable", False),
        (whole(fixture("error_400.json"), 400), "invalid_request", False),
        (events(fixture("stream.sse"), cut_at=3_000), "stream_broken", True),
        (events(fixture("stream.sse"), cut_at=3_000, stall_s=30), "upstream_timeout", True),
    ],
)
async def test_failures_are_recorded_as_what_they_are(
    app: App, upstream: FixtureUpstream, tmp_path: Path, answer: Answer, status: str, charged: bool
) -> None:
    upstream.answer = answer
    record = await run(app, request(stream=True))
    assert record.status == status
    assert record.error
    assert (record.cost_nano > 0) is charged
    row = (await rows_of(tmp_path, 1))[0]
    assert (row["status"], row["cost_nano"]) == (status, record.cost_nano)
    text = rendered(app.metrics.counts(), Around())[0].decode()
    assert re.search(rf'requests_total{{model="[^"]+",status="{status}"}} 1', text)
    assert app.gateway.in_flight == 0
    assert [state.load.in_flight for state in app.gateway.states] == [0]


async def test_a_stream_never_ends_silently_when_cut(app: App, upstream: FixtureUpstream) -> None:
    data = fixture("stream.sse")
    end = data.index(b'"finish_reason":"stop"')
    for cut_at in range(1, end, 397):
        upstream.answer = events(data, cut_at=cut_at)
        with pytest.raises(GatewayError), app.gateway.journal("test") as record:
            async for _chunks in await app.gateway.stream(request(stream=True), ANONYMOUS, record):
                pass
        assert record.status in ("stream_broken", "model_unavailable")
    hit = await run(app, request())
    assert hit.cache == "miss"


async def test_refusals_cost_nothing_and_are_recorded(app: App, upstream: FixtureUpstream, tmp_path: Path) -> None:
    for asked, kind in (
        (request("please exec (1)"), UnsafePrompt.kind),
        (request(budget_nano=1), CostLimitExceeded.kind),
        (request(timeout_s=0.0), DeadlineExceeded.kind),
    ):
        record = await run(app, asked)
        assert (record.status, record.cost_nano) == (kind, 0)
    assert upstream.seen == []
    assert len(await rows_of(tmp_path, 3)) == 3


async def test_a_cancelled_request_drops_the_upstream_and_is_recorded(
    app: App, upstream: FixtureUpstream, tmp_path: Path
) -> None:
    upstream.answer = silence
    task = asyncio.ensure_future(run(app, request(timeout_s=30)))
    await until(lambda: bool(upstream.seen))
    task.cancel()
    record = await task
    assert record.status == "cancelled"
    assert [attempt.outcome for attempt in record.attempts] == ["cancelled"]
    await until(lambda: upstream.hung_up == 1)
    assert [state.load.in_flight for state in app.gateway.states] == [0]
    assert (await rows_of(tmp_path, 1))[0]["status"] == "cancelled"


async def test_many_at_once_with_some_cancelled_leave_nothing_behind(
    app: App, upstream: FixtureUpstream, tmp_path: Path
) -> None:
    upstream.answer = events(fixture("stream.sse"), pace_s=0.002)
    tasks = [asyncio.ensure_future(run(app, request(f"{QUESTION} {i}", stream=True))) for i in range(40)]
    await until(lambda: len(upstream.seen) > 20)
    for task in tasks[::3]:
        task.cancel()
    records = await asyncio.gather(*tasks, return_exceptions=True)
    statuses = [record.status for record in records if isinstance(record, Record)]
    assert statuses.count("cancelled") >= 10
    assert statuses.count("ok") >= 20
    assert app.gateway.in_flight == 0
    assert [state.load.in_flight for state in app.gateway.states] == [0]
    rows = await rows_of(tmp_path, len(statuses))
    assert len(rows) == len(statuses)
    assert sum(row["cost_nano"] for row in rows) == sum(r.cost_nano for r in records if isinstance(r, Record))


async def test_an_observers_fault_costs_the_others_nothing(app: App, tmp_path: Path) -> None:
    def broken(record: Record) -> None:
        raise RuntimeError("observer")

    app.gateway.observers.insert(0, broken)
    record = await run(app, request())
    assert record.status == "ok"
    assert (await rows_of(tmp_path, 1))[0]["cost_nano"] == record.cost_nano


async def test_neither_prompt_nor_key_reaches_log_or_ledger(
    app: App, upstream: FixtureUpstream, tmp_path: Path
) -> None:
    secret = "the-launch-code-is-4711"
    await run(app, request(secret))
    for status in (500, 400):
        upstream.answer = whole(json.dumps({"error": {"message": f"I do not like {secret}"}}).encode(), status)
        await run(app, request(f"{secret} again {status}"))
    await rows_of(tmp_path, 3)
    await asyncio.sleep(0.4)  # log lines are written in batches
    for name in ("gateway.log", "ledger.db", "ledger.db-wal"):
        path = tmp_path / name
        if path.exists():
            assert secret.encode() not in path.read_bytes()
    assert (tmp_path / "gateway.log").read_bytes().count(b'"event":"request"') == 3


async def test_an_unknown_price_is_told_assumed_and_marked(
    tmp_path: Path, upstream: FixtureUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = structlog.testing.CapturingLogger()
    monkeypatch.setattr(app_module, "_log", told)
    unknown = fixture_provider(
        upstream.url, price_per_million_input=None, price_per_million_output=None, base_cost_per_query=0.002
    )
    async with App(config_for(tmp_path, {"fixture": unknown})) as app:
        record = await run(app, request())
        row = (await rows_of(tmp_path, 1))[0]
    (warning,) = [call for call in told.calls if "no price of this model is known" in call.args[0]]
    assert (warning.method_name, warning.kwargs["model"]) == ("warning", "fixture-model")
    assert warning.kwargs["base_cost_usd"] == 0.002 and "pricePerMillionInput" in warning.kwargs["remedy"]
    assert record.cost_nano >= 2_000_000 and record.usage is not None and not record.usage.estimated
    assert (row["state"], row["usage_estimated"], row["cost_nano"]) == ("estimated", 0, record.cost_nano)


async def test_what_the_cache_answers_by_grpc_is_told_as_it_was_judged_and_not_judged_anew(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    def assess(*_: object) -> None:
        raise AssertionError

    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        stub: Any = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        first = await stub.ProcessQuery(pb.ModelRequest(query=QUESTION))
        monkeypatch.setattr(app.gateway, "assess", assess)
        again = await stub.ProcessQuery(pb.ModelRequest(query=QUESTION))
    assert (first.cached, again.cached) == (False, True)
    assert again.complexity_factors and again.complexity_factors == first.complexity_factors
    assert again.complexity_score == first.complexity_score > 0
