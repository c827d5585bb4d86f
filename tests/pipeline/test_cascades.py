"""A weaker model first, its answer checked, a stronger one where that fails: both paid, held for and told, once."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest

from asking import fails, idle
from cascades import STRONG, WEAK, closed_of, post, providers, rows, says, start, text_of
from gateway import config_for, embedded_provider
from model_gateway.app import App
from model_gateway.config.cascades import CascadeCheck, CascadeConfig
from model_gateway.config.schema import CacheConfig, RoutingConfig
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc as stubs
from model_gateway.telemetry.around import Around
from model_gateway.telemetry.exposition import rendered
from upstream import Answer, FixtureUpstream, hang_up, silence, until

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
    metrics = rendered(app.metrics.counts(), Around())[0].decode()
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
    app = await start(stack, tmp_path, first, second, name="auto", cascade={})
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        stub = stubs.ModelGatewayServiceStub(channel)
        reply = await stub.ProcessQuery(pb.ModelRequest(query="Say hello."))
        pieces = [piece async for piece in stub.ProcessQueryStream(pb.ModelRequest(query="Say hello."))]
    text, told = ("Hello there.", "kept; reason=passed") if sure else ("Surely.", "escalated; reason=logprob")
    assert reply.response == text and reply.cascade == told
    assert reply.cost == pytest.approx((WEAK if sure else WEAK + STRONG) / 1e9)
    assert "".join(piece.delta for piece in pieces) == text and pieces[-1].result.cascade == told


async def test_the_embedded_model_tells_how_sure_it_was(
    stack: AsyncExitStack, tmp_path: Path, first: FixtureUpstream, second: FixtureUpstream
) -> None:
    second.answer = says("Surely.")
    given = {"embedded": embedded_provider(), "strong": providers(first, second)["strong"]}
    check = CascadeCheck(logprob=-1e-6)  # nobody is so sure
    routing = RoutingConfig(cascades={"smart": CascadeConfig(first="local", then="remote", check=check)})
    app = await stack.enter_async_context(
        App(config_for(tmp_path, given, routing=routing, cache=CacheConfig(enabled=False)))
    )
    reply = await post(app, max_tokens=12, timeout_s=90, headers={"x-gateway-details": "1"})
    told = reply.json()["gateway"]
    assert text_of(reply) == "Surely." and told["cascade"]["reason"] in ("logprob", "length")
    assert -20 < told["cascade"]["logprob"] < 0
    assert [a["provider"] for a in told["attempts"]] == ["embedded", "strong"]
