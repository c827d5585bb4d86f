"""A weaker model first, its answer checked, a stronger one where that fails: both paid, held for and told, once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import grpc
import httpx
import msgspec
import openai
import pytest

from asking import fails, idle, request, run
from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.cascades import CascadeCheck, CascadeConfig
from model_gateway.config.schema import BudgetConfig, BudgetsConfig, CacheConfig, RoutingConfig
from model_gateway.domain.chat import Message
from model_gateway.domain.record import Record
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc as stubs
from upstream import Answer, FixtureUpstream, Seen, events, fixture, hang_up, silence, until, whole

ASK = {"messages": [{"role": "user", "content": "Say hello."}]}
WEAK = 20 * 1_000 + 10 * 2_000  # nano-USD of one answer of `says`
STRONG = 10 * WEAK
EASY = 0.0


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
    given = {"first": "local", "then": "remote", "check": check or CascadeCheck(logprob=-0.5), **(cascade or {})}
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


# --- kept and escalated -----------------------------------------------------------------------------------------------


async def test_a_sure_answer_is_kept_and_the_strong_model_never_asked(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    first.answer = says("Hello there.", -0.1)
    app = await start(stack, tmp_path, first, second)
    records = closed_of(app)
    reply = await post(app)
    assert reply.status_code == 200 and text_of(reply) == "Hello there."
    assert reply.headers["x-gateway-cascade"] == "kept; reason=passed"
    assert reply.headers["x-gateway-provider"] == "weak" and reply.headers["x-gateway-tier"] == "local"
    assert first.seen[0].json["logprobs"] is True and second.seen == []
    # Ours are taken out again; all other bytes are the provider's.
    asked = await says_bytes("Hello there.", -0.1)
    told = json.dumps(json.loads(asked)["choices"][0]["logprobs"])
    assert reply.json()["choices"][0]["logprobs"] is None and "logprob" not in reply.text.replace('"logprobs"', "")
    assert json.dumps(reply.json()) == json.dumps(json.loads(asked)).replace(told, "null")
    assert reply.text.startswith('{\n "id"'), "not written anew"
    record = records[0]
    assert record.cost_nano == WEAK and [a.provider for a in record.attempts] == ["weak"]
    assert record.cascade is not None and record.cascade.logprob == pytest.approx(-0.1)
    assert "mean logprob -0.100" in record.route_reason


async def says_bytes(text: str, logprob: float) -> bytes:
    """What the provider has sent."""
    async with FixtureUpstream(says(text, logprob)) as same, httpx.AsyncClient() as client:
        return (await client.post(f"{same.url}/x", json={"logprobs": True})).content


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unsure_answer_is_paid_and_the_strong_model_answers(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream, stream: bool
) -> None:
    first.answer, second.answer = says("Perhaps.", -0.9), says("Surely.")
    app = await start(stack, tmp_path, first, second)
    records = closed_of(app)
    reply = await post(app, stream=stream)
    assert reply.headers["x-gateway-cascade"] == "escalated; reason=logprob"
    assert reply.headers["x-gateway-provider"] == "strong" and reply.headers["x-gateway-tier"] == "remote"
    assert "Surely." in reply.text and "Perhaps." not in reply.text
    assert reply.text.endswith("data: [DONE]\n\n") is stream
    assert "logprobs" not in second.seen[0].json and bool(second.seen[0].json.get("stream")) is stream
    assert "stream" not in first.seen[0].json
    record = records[0]
    assert record.cost_nano == WEAK + STRONG == sum(a.cost_nano for a in record.attempts)
    assert [(a.provider, a.cost_nano) for a in record.attempts] == [("weak", WEAK), ("strong", STRONG)]
    await app.__aexit__(None, None, None)
    (row,) = rows(tmp_path)
    assert row["cost_nano"] == WEAK + STRONG and row["provider"] == "strong" and row["state"] == "settled"
    assert [t["cost_nano"] for t in json.loads(row["tries"])] == [WEAK, STRONG]
    line = json.loads((tmp_path / "gateway.log").read_text().splitlines()[-1])
    shown = [json.loads(text) for text in (tmp_path / "gateway.log").read_text().splitlines()]
    assert line and [entry["cascade"] for entry in shown if entry["event"] == "request"] == [
        "escalated; reason=logprob"
    ]


async def test_a_kept_answer_is_replayed_as_a_stream(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    first.answer = says("Hello there.", -0.1)
    app = await start(stack, tmp_path, first, second)
    records = closed_of(app)
    client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{app.http_port}/v1", api_key="x")
    stream = await client.chat.completions.create(
        model="smart",
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello there."
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 10
    assert not any(c.choices and c.choices[0].logprobs for c in chunks)
    await client.close()
    await until(lambda: bool(records))
    assert records[0].first_token_s > 0 and records[0].cost_nano == WEAK and second.seen == []


@pytest.mark.parametrize(
    ("answer", "check", "more", "reason"),
    [
        (says("I'm sorry, but I can't help with that."), {}, {}, "refusal"),
        (says("抱歉，我无法回答这个问题。"), {}, {}, "refusal"),
        (says("Hello", finish="length"), {}, {}, "length"),
        (says("the end of the end " * 20), {}, {}, "repetition"),
        (says("  "), {}, {}, "empty"),
        (says("no"), {"min_words": 3}, {}, "short"),
        (says("hello"), {"format": "json"}, {}, "json"),
        (says("maybe"), {"pattern": r"/\b(yes|no)\b/i"}, {}, "pattern"),
        (says("fine"), {"logprob": -1.0}, {}, "no_logprobs"),
        (says("no JSON"), {}, {"response_format": {"type": "json_object"}}, "json"),
        (
            says('{"age": "ten"}'),
            {},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"properties": {"age": {"type": "integer"}}}},
                }
            },
            "schema",
        ),
    ],
)
async def test_what_fails_is_told(
    stack: AsyncExitStack,
    tmp_path: Path,
    first: FixtureUpstream,
    second: FixtureUpstream,
    answer: Answer,
    check: dict[str, Any],
    more: dict[str, Any],
    reason: str,
) -> None:
    first.answer, second.answer = answer, says("Surely.")
    app = await start(stack, tmp_path, first, second, check=CascadeCheck(**check))
    records = closed_of(app)
    reply = await post(app, headers={"x-gateway-details": "1"}, **more)
    assert reply.headers["x-gateway-cascade"] == f"escalated; reason={reason}"
    told = reply.json()["gateway"]
    assert told["cascade"]["name"] == "smart" and told["cascade"]["reason"] == reason
    assert sum(a["cost_usd"] for a in told["attempts"]) == pytest.approx(told["cost_usd"])
    await until(lambda: bool(records))
    metrics = app.metrics.render()[0].decode()
    assert f'model_gateway_cascade_total{{outcome="escalated",reason="{reason}"}} 1.0' in metrics
    costs = [line for line in metrics.splitlines() if line.startswith('model_gateway_cost_usd_total{model="weak"}')]
    assert [float(line.split()[-1]) for line in costs] == [WEAK / 1e9]
    assert 'model_gateway_tokens_total{direction="input",model="weak"} 20.0' in metrics


# --- the first cannot, fails, or is slow ------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [fails(), hang_up, fails(400), silence])
async def test_where_the_first_fails_the_second_is_asked_at_once(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream, answer: Answer
) -> None:
    first.answer, second.answer = answer, says("Surely.")
    app = await start(stack, tmp_path, first, second, cascade={"timeout": 200})
    records = closed_of(app)
    reply = await post(app)
    reason = "timeout" if answer is silence else "failed"
    assert text_of(reply) == "Surely." and reply.headers["x-gateway-cascade"] == f"escalated; reason={reason}"
    assert records[0].cost_nano == STRONG and idle(app)


async def test_an_open_breaker_of_the_first_is_passed_over(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    first.answer, second.answer = fails(), says("Surely.")
    app = await start(stack, tmp_path, first, second)
    for _ in range(5):
        await post(app)
    reply = await post(app)
    assert reply.headers["x-gateway-cascade"] == "skipped; reason=busy" and text_of(reply) == "Surely."
    assert len(first.seen) == 5


async def test_what_the_first_cannot_do_goes_to_the_second(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    second.answer = says("Surely.")
    # A provider that names an ability has no other.
    app = await start(stack, tmp_path, first, second, weak={"capabilities": ("json_schema",)})
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assert (await post(app, tools=[tool])).headers["x-gateway-cascade"] == "skipped; reason=unable"
    assert (await post(app, n=2)).headers["x-gateway-cascade"] == "skipped; reason=choices"
    assert first.seen == [] and len(second.seen) == 2


async def test_where_the_second_fails_the_first_answer_is_given_and_not_cached(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    first.answer, second.answer = says("Perhaps.", -0.9), fails()
    app = await start(stack, tmp_path, first, second, cache=CacheConfig())
    records = closed_of(app)
    for _ in range(2):
        reply = await post(app)
        assert text_of(reply) == "Perhaps."
        assert reply.headers["x-gateway-cascade"] == "kept; reason=unavailable; failed=logprob"
        assert reply.headers["x-gateway-provider"] == "weak" and reply.headers["x-gateway-cache"] == "miss"
    assert [record.cost_nano for record in records] == [WEAK, WEAK]
    second.answer = says("Surely.")
    assert text_of(await post(app)) == "Surely."
    reply = await post(app)
    assert text_of(reply) == "Surely." and reply.headers["x-gateway-cache"] == "hit"
    assert "x-gateway-cascade" not in reply.headers


# --- the band of scores, auto, and keys -------------------------------------------------------------------------------


async def test_auto_cascades_within_its_band_of_scores(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    first.answer, second.answer = says("Perhaps.", -0.9), says("Surely.")
    app = await start(stack, tmp_path, first, second, name="auto", cascade={"above": 0.1, "below": 0.6})
    easy = await post(app, "auto")
    assert float(easy.headers["x-gateway-score"]) < 0.1 and "x-gateway-cascade" not in easy.headers
    assert text_of(easy) == "Perhaps."
    question = {"role": "user", "content": "Explain the basic principles of quantum computing"}
    middling = await post(app, "auto", messages=[question])
    assert 0.1 <= float(middling.headers["x-gateway-score"]) < 0.6
    assert middling.headers["x-gateway-cascade"] == "escalated; reason=logprob"
    wished = await post(app, "auto", messages=[question], headers={"x-gateway-provider": "weak"})
    assert "x-gateway-cascade" not in wished.headers, "who wishes for a provider gets it"


async def test_a_name_has_its_band_too(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    first.answer, second.answer = says("Perhaps.", -0.9), says("Surely.")
    app = await start(stack, tmp_path, first, second, cascade={"above": 0.001, "below": 0.1})
    listed = [model["id"] for model in json.loads(await models(app))["data"]]
    assert "smart" in listed
    hard = await post(app, messages=[{"role": "user", "content": "Explain the basic principles of quantum computing"}])
    assert hard.headers["x-gateway-cascade"] == "skipped; reason=score" and text_of(hard) == "Surely."
    assert first.seen == []


async def models(app: App) -> bytes:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://127.0.0.1:{app.http_port}/v1/models")).content


# --- money ------------------------------------------------------------------------------------------------------------


def budgets(usd: float, *more: BudgetConfig) -> BudgetsConfig:
    return BudgetsConfig(limits=(BudgetConfig(name="all", usd=usd, per="total"), *more), wait=200)


async def test_both_calls_are_held_for_before_the_first(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    held: list[tuple[int, int]] = []

    async def looks(seen: Seen, writer: asyncio.StreamWriter) -> None:
        held.append(account(tmp_path))
        await says("Perhaps.", -0.9)(seen, writer)

    first.answer, second.answer = looks, says("Surely.")
    own = [BudgetConfig(name=name, scope="provider", match=name, usd=1, per="total") for name in ("weak", "strong")]
    app = await start(stack, tmp_path, first, second, budgets=budgets(1.0, *own))
    records = closed_of(app)
    assert text_of(await post(app, max_tokens=100)) == "Surely."
    await app.__aexit__(None, None, None)
    ((spent, amount),) = held
    assert spent == 0 and amount == records[0].hold_nano
    least = 100 * 2_000 + 100 * 20_000
    assert least < amount < least + 11_000 * 400, "the output of both, and of each the text"
    assert account(tmp_path) == (WEAK + STRONG, 0)
    assert account(tmp_path, "provider:weak") == (WEAK, 0), "each provider's budget pays for its own call"
    assert account(tmp_path, "provider:strong") == (STRONG, 0)


async def test_without_money_for_both_the_first_answer_is_given_and_says_so(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    first.answer, second.answer = says("Perhaps.", -0.9), says("Surely.")
    app = await start(stack, tmp_path, first, second, budgets=budgets(0.001))
    reply = await post(app, max_tokens=50)
    assert reply.headers["x-gateway-cascade"] == "kept; reason=budget; failed=logprob" and second.seen == []
    own = await post(app, max_tokens=50, headers={"x-gateway-budget-usd": "0.0003"})
    assert own.headers["x-gateway-cascade"] == "kept; reason=budget; failed=logprob"
    first.answer = says("Hello there.", -0.1)
    assert (await post(app, max_tokens=50)).headers["x-gateway-cascade"] == "kept; reason=passed"
    await app.__aexit__(None, None, None)
    assert account(tmp_path) == (3 * WEAK, 0)


async def test_many_at_once_spend_exactly_what_they_cost(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    """Sure, unsure, and left in either call: the account, the rows and the attempts say the same."""

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.03)
        number = int(seen.json["messages"][0]["content"])
        await says("Hello there.", -0.1 if number % 2 else -0.9)(seen, writer)

    async def slower(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        await says("Surely.")(seen, writer)

    first.answer, second.answer = slow, slower
    app = await start(stack, tmp_path, first, second, budgets=budgets(1.0))
    records = closed_of(app)

    async def one(number: int) -> None:
        asked = request(model="smart", max_tokens=50, stream=number % 3 == 0)
        message = Message(role="user", content=str(number))
        body = {**asked.body, "messages": msgspec.Raw(msgspec.json.encode([message])), "max_tokens": msgspec.Raw(b"50")}
        await run(app, msgspec.structs.replace(asked, messages=[message], body=body))

    async def left(number: int) -> None:
        task = asyncio.ensure_future(one(number))
        if number % 4:
            asyncio.get_running_loop().call_later(0.01 + 0.004 * number, task.cancel)
        await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(*(left(number) for number in range(40)))
    await until(lambda: len(records) == 40)
    assert idle(app) and {record.status for record in records} == {"ok", "cancelled"}
    await app.__aexit__(None, None, None)
    for record in records:
        assert record.cost_nano == sum(a.cost_nano for a in record.attempts)
        paid = [a for a in record.attempts if a.outcome == "ok"]
        assert record.cost_nano >= sum({"weak": WEAK, "strong": STRONG}[a.provider] for a in paid)
    total = sum(record.cost_nano for record in records)
    assert account(tmp_path) == (total, 0) and sum(row["cost_nano"] for row in rows(tmp_path)) == total


# --- callers that leave, streams that break, repetitions --------------------------------------------------------------


@pytest.mark.parametrize("drains", [False, True])
async def test_a_caller_that_leaves_during_the_first_call_ends_it_there(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream, drains: bool
) -> None:
    go = asyncio.Event()

    async def waits(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await says("Perhaps.", -0.9)(seen, writer)

    first.answer = waits
    weak = {"on_disconnect": "drain"} if drains else {}
    app = await start(stack, tmp_path, first, second, weak=weak)
    records = closed_of(app)
    call = asyncio.ensure_future(post(app))
    await until(lambda: first.busy == 1)
    call.cancel()
    await until(lambda: first.hung_up == 1 if not drains else app.gateway.drains_busy == 1)
    go.set()
    await until(lambda: bool(records))
    (record,) = records
    assert record.status == "cancelled" and second.seen == [] and idle(app)
    assert record.usage is not None and record.usage.estimated is not drains
    assert record.cost_nano == WEAK if drains else 0 < record.cost_nano < WEAK


async def test_a_caller_that_leaves_during_the_second_call_has_spent_both(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    first.answer, second.answer = says("Perhaps.", -0.9), silence
    app = await start(stack, tmp_path, first, second)
    records = closed_of(app)
    call = asyncio.ensure_future(post(app))
    await until(lambda: second.busy == 1)
    call.cancel()
    await until(lambda: bool(records) and second.hung_up == 1)
    (record,) = records
    assert record.status == "cancelled" and record.provider == "strong" and idle(app)
    assert [a.outcome for a in record.attempts] == ["ok", "cancelled"] and record.attempts[0].cost_nano == WEAK
    assert record.cost_nano == sum(a.cost_nano for a in record.attempts) > WEAK


async def test_a_second_stream_that_breaks_never_looks_complete(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    first.answer, second.answer = says("Perhaps.", -0.9), events(fixture("stream.sse"), cut_at=900)
    app = await start(stack, tmp_path, first, second, cache=CacheConfig())
    records = closed_of(app)
    reply = await post(app, stream=True)
    assert "[DONE]" not in reply.text and '"error"' in reply.text and "Perhaps." not in reply.text
    assert records[0].status == "stream_broken" and records[0].cost_nano > WEAK
    second.answer = says("Surely.")
    assert "Surely." in (await post(app, stream=True)).text, "what broke is not cached"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repetition_is_neither_asked_nor_charged_again(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream, stream: bool
) -> None:
    """The caller leaves in the middle of the first call; the cascade goes on, and the answer is there for it."""
    go = asyncio.Event()

    async def waits(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await says("Perhaps.", -0.9)(seen, writer)

    first.answer, second.answer = waits, says("Surely.")
    app = await start(stack, tmp_path, first, second)
    records = closed_of(app)
    headers = {"Idempotency-Key": "again"}
    call = asyncio.ensure_future(post(app, stream=stream, headers=headers))
    await until(lambda: first.busy == 1)
    call.cancel()
    await until(lambda: app.gateway.drains_busy == 1)
    go.set()
    await until(lambda: len(records) == 1)
    again = await post(app, stream=stream, headers=headers)
    assert "Surely." in again.text and again.headers["x-gateway-cache"] == "repeated"
    assert len(first.seen) == len(second.seen) == 1
    assert [record.cost_nano for record in records] == [WEAK + STRONG, 0]


# --- every door -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("sure", [True, False])
async def test_every_http_door(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream, sure: bool, stream: bool
) -> None:
    first.answer, second.answer = says("Hello there.", -0.1 if sure else -0.9), says("Surely.")
    app = await start(stack, tmp_path, first, second)
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    message = {"role": "user", "content": "Hi"}
    doors: dict[str, dict[str, Any]] = {
        "/v1/responses": {"model": "smart", "input": "Hi", "stream": stream},
        "/v1/messages": {"model": "smart", "messages": [message], "max_tokens": 50, "stream": stream},
        f"/v1beta/models/smart:{verb}": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    }
    async with httpx.AsyncClient(timeout=20) as client:
        for path, body in doors.items():
            reply = await client.post(f"http://127.0.0.1:{app.http_port}{path}", json=body)
            assert reply.status_code == 200, reply.text
            said = "kept; reason=passed" if sure else "escalated; reason=logprob"
            assert reply.headers["x-gateway-cascade"] == said
            assert ("Hello there." if sure else "Surely.") in reply.text, path
            assert "logprob" not in reply.text.replace("logprobs", ""), path


@pytest.mark.parametrize("sure", [True, False])
async def test_grpc(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream, sure: bool
) -> None:
    first.answer, second.answer = says("Hello there.", -0.1 if sure else -0.9), says("Surely.")
    app = await start(stack, tmp_path, first, second, name="auto", cascade={"above": EASY})
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        stub = stubs.ModelGatewayServiceStub(channel)
        reply = await stub.ProcessQuery(pb.ModelRequest(query="Say hello."))
        pieces = [piece async for piece in stub.ProcessQueryStream(pb.ModelRequest(query="Say hello."))]
    text, told = ("Hello there.", "kept; reason=passed") if sure else ("Surely.", "escalated; reason=logprob")
    assert reply.response == text and reply.cascade == told
    assert reply.cost == pytest.approx((WEAK if sure else WEAK + STRONG) / 1e9)
    assert "".join(piece.delta for piece in pieces) == text and pieces[-1].result.cascade == told
