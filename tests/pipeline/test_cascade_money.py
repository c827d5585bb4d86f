"""What cascades cost and hold, and that callers who leave, break off or repeat are charged for what was asked, once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from asking import idle, request, run
from cascades import STRONG, WEAK, account, closed_of, post, rows, says, start, text_of
from model_gateway.config.schema import BudgetConfig, BudgetsConfig, CacheConfig
from model_gateway.domain.chat import Message
from upstream import FixtureUpstream, Seen, events, fixture, silence, until

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
