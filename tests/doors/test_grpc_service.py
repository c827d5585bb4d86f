from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from model_gateway.config.schema import ServerConfig
from model_gateway.domain.errors import CostLimitExceeded, Overloaded, StreamBroken, UnsafePrompt
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from model_gateway.server.grpc.server import GrpcServer
from scripted_gateway import ScriptedGateway
from upstream import until

Failure = tuple[grpc.StatusCode, str, error_details_pb2.ErrorInfo, pb.ErrorResponse]


@pytest.fixture
def gateway() -> ScriptedGateway:
    return ScriptedGateway()


@pytest.fixture
async def stub(gateway: ScriptedGateway) -> AsyncIterator[Any]:
    server = GrpcServer(gateway, ServerConfig(port=0))  # pyright: ignore[reportArgumentType]
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield gateway_pb2_grpc.ModelGatewayServiceStub(channel)
    await server.stop(0)


async def failure_of(call: Any, chunks: list[Any] | None = None) -> Failure:
    """How a call failed; `chunks` collects what a stream said before."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for chunk in call:
                if chunks is not None:
                    chunks.append(chunk)
        else:
            await call
    error = caught.value
    status = rpc_status.from_call(error)  # pyright: ignore[reportArgumentType]
    info, response = error_details_pb2.ErrorInfo(), pb.ErrorResponse()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(response)
    return error.code(), error.details() or "", info, response


async def test_an_answer_carries_the_records_facts(gateway: ScriptedGateway, stub: Any) -> None:
    reply = await stub.ProcessQuery(pb.ModelRequest(request_id="my-1", query="why?", metadata={"user_id": "u"}))
    assert reply == pb.ModelResponse(
        request_id="my-1",
        response="an answer",
        complexity_score=0.5,
        model_used="tiny",
        cost=0.00125,
        model="tiny-model",
        tier="hybrid",
        complexity_factors=["domain_knowledge=0.80 (+0.20): domain: physics", "length=0.25 (+0.05)"],
        finish_reason="stop",
        input_tokens=12,
        output_tokens=34,
        route_reason="best of 2",
    )
    assert gateway.requests[0].labels == {"user_id": "u"}
    assert [(record.door, failure) for record, failure in gateway.closed] == [("grpc", None)]


async def test_an_empty_id_is_generated(stub: Any) -> None:
    assert (await stub.ProcessQuery(pb.ModelRequest(query="why?"))).request_id == "req_generated"


async def test_a_cached_answer_still_has_a_score(gateway: ScriptedGateway, stub: Any) -> None:
    gateway.cached = True
    reply = await stub.ProcessQuery(pb.ModelRequest(query="why?"))
    assert reply.cached
    assert (reply.complexity_score, reply.cost, reply.tier) == (0.25, 0.0, "")


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (pb.ModelRequest(), "query"),
        (pb.ModelRequest(query="why?", metadata={"budget": "cheap"}), "metadata.budget"),
        (pb.ModelRequest(query="why?", request_id="x" * 129), "request_id"),
    ],
)
@pytest.mark.parametrize("rpc", ["ProcessQuery", "ProcessQueryStream"])
async def test_a_bad_request_is_named_and_recorded(
    gateway: ScriptedGateway, stub: Any, rpc: str, request_: pb.ModelRequest, param: str
) -> None:
    code, details, info, response = await failure_of(getattr(stub, rpc)(request_))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert info.metadata["param"] == param
    assert info.metadata["request_id"] == "req_generated"
    assert response == pb.ErrorResponse(code=pb.INVALID_REQUEST, message=details)
    assert param in details
    assert len(gateway.closed) == 1
    assert gateway.requests == []


@pytest.mark.parametrize("rpc", ["ProcessQuery", "ProcessQueryStream"])
async def test_refusals_of_the_pipeline(gateway: ScriptedGateway, stub: Any, rpc: str) -> None:
    gateway.failure = CostLimitExceeded("the estimate is 0.02 USD, the budget 0.01 USD")
    code, details, info, response = await failure_of(getattr(stub, rpc)(pb.ModelRequest(query="why?")))
    assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "COST_LIMIT_EXCEEDED")
    assert details == response.message == "the estimate is 0.02 USD, the budget 0.01 USD"
    assert response.code == pb.COST_LIMIT_EXCEEDED


async def test_the_guard_speaks_of_query(gateway: ScriptedGateway, stub: Any) -> None:
    gateway.failure = UnsafePrompt("messages[0].content matches a pattern", param="messages[0].content")
    _, details, info, _ = await failure_of(stub.ProcessQuery(pb.ModelRequest(query="exec(1)")))
    assert (details, info.reason, info.metadata["param"]) == ("query matches a pattern", "UNSAFE_PROMPT", "query")


async def test_an_unexpected_fault_shows_no_detail(gateway: ScriptedGateway, stub: Any) -> None:
    gateway.failure = RuntimeError("secret-key-123")
    code, details, info, response = await failure_of(stub.ProcessQuery(pb.ModelRequest(query="why?")))
    assert (code, info.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in details + response.message + str(info)


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", "Bearer k1"),),
        (("authorization", "bearer  k1 "),),
        (("x-api-key", "k1"),),
        (("authorization", "Basic abc"), ("x-api-key", "k1")),
    ],
)
async def test_a_key_is_read_from_the_metadata(
    gateway: ScriptedGateway, stub: Any, metadata: tuple[tuple[str, str], ...]
) -> None:
    gateway.key = "k1"
    assert (await stub.ProcessQuery(pb.ModelRequest(query="why?"), metadata=metadata)).response == "an answer"
    assert (await stub.GetModelCapabilities(pb.Empty(), metadata=metadata)).providers


async def test_every_rpc_needs_the_key(gateway: ScriptedGateway, stub: Any) -> None:
    gateway.key = "k1"
    calls = (
        stub.ProcessQuery(pb.ModelRequest(query="why?")),
        stub.ProcessQueryStream(pb.ModelRequest(query="why?")),
        stub.GetModelCapabilities(pb.Empty()),
        stub.EvaluateComplexity(pb.ComplexityEvaluationRequest(query="why?")),
    )
    for call in calls:
        code, _, info, _ = await failure_of(call)
        assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


async def test_a_stream_ends_with_its_result(gateway: ScriptedGateway, stub: Any) -> None:
    gateway.script = [["你", "好"], [""], ["!"]]
    chunks = [chunk async for chunk in stub.ProcessQueryStream(pb.ModelRequest(query="hi", request_id="s-1"))]
    assert [chunk.delta for chunk in chunks] == ["你好", "!", ""]
    assert [chunk.HasField("result") for chunk in chunks] == [False, False, True]
    result = chunks[-1].result
    assert (result.request_id, result.model_used, result.finish_reason) == ("s-1", "tiny", "length")
    assert (result.output_tokens, result.response) == (34, "")
    assert gateway.requests[0].stream
    assert gateway.streams[0].abandoned is None


async def test_a_stream_that_breaks_never_looks_complete(gateway: ScriptedGateway, stub: Any) -> None:
    gateway.script = [["half an "], StreamBroken("the stream ended before its end marker", retry_after_s=2)]
    call = stub.ProcessQueryStream(pb.ModelRequest(query="hi"))
    chunks: list[Any] = []
    code, _, info, _ = await failure_of(call, chunks)
    assert [(chunk.delta, chunk.HasField("result")) for chunk in chunks] == [("half an ", False)]
    assert (code, info.reason, info.metadata["retry_after"]) == (grpc.StatusCode.UNAVAILABLE, "STREAM_BROKEN", "2")
    assert isinstance(gateway.closed[0][1], StreamBroken)


async def test_a_refusal_before_the_first_chunk(gateway: ScriptedGateway, stub: Any) -> None:
    gateway.failure = Overloaded("busy", retry_after_s=1)
    code, _, info, _ = await failure_of(stub.ProcessQueryStream(pb.ModelRequest(query="hi")))
    assert (code, info.metadata["retry_after"]) == (grpc.StatusCode.UNAVAILABLE, "1")


async def test_cancelling_cancels_the_pipeline(gateway: ScriptedGateway, stub: Any) -> None:
    gateway.gate = asyncio.Event()
    call = stub.ProcessQuery(pb.ModelRequest(query="why?"))
    waiting = asyncio.ensure_future(call)
    await until(lambda: bool(gateway.requests))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: bool(gateway.closed))
    assert isinstance(gateway.closed[0][1], asyncio.CancelledError)


async def test_cancelling_a_stream_abandons_it(gateway: ScriptedGateway, stub: Any) -> None:
    gateway.script = [["first"], asyncio.Event()]
    call = stub.ProcessQueryStream(pb.ModelRequest(query="why?"))
    assert (await call.read()).delta == "first"
    call.cancel()
    await until(lambda: bool(gateway.closed))
    assert isinstance(gateway.streams[0].abandoned, asyncio.CancelledError)
    assert isinstance(gateway.closed[0][1], asyncio.CancelledError)


async def test_the_clients_deadline_reaches_the_pipeline(gateway: ScriptedGateway, stub: Any) -> None:
    gateway.gate = asyncio.Event()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ProcessQuery(pb.ModelRequest(query="why?", metadata={"timeout": "60000"}), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    timeout_s = gateway.requests[0].timeout_s
    assert timeout_s is not None
    assert 0 < timeout_s < 0.5  # the metadata said a minute
    await until(lambda: bool(gateway.closed))


async def test_capabilities_of_all_and_of_each(stub: Any) -> None:
    reply = await stub.GetModelCapabilities(pb.Empty())
    assert list(reply.capabilities) == ["text_generation", "vision"]
    assert [(p.provider_name, list(p.capabilities)) for p in reply.providers] == [
        ("tiny", ["text_generation"]),
        ("big", ["text_generation", "vision"]),
    ]


async def test_complexity_by_features(stub: Any) -> None:
    every = await stub.EvaluateComplexity(pb.ComplexityEvaluationRequest(query="why?"))
    assert (every.complexity_score, every.tier, len(every.complexity_factors)) == (0.25, "local", 2)
    one = await stub.EvaluateComplexity(pb.ComplexityEvaluationRequest(query="why?", features=["length"]))
    assert list(one.complexity_factors) == ["length=0.25 (+0.05)"]


@pytest.mark.parametrize(
    ("query", "features", "param"),
    [("", [], "query"), ("why?", ["smell"], "features"), ("x" * 100_001, [], "query")],
)
async def test_complexity_refuses(stub: Any, query: str, features: list[str], param: str) -> None:
    call = stub.EvaluateComplexity(pb.ComplexityEvaluationRequest(query=query, features=features))
    code, _, info, _ = await failure_of(call)
    assert (code, info.metadata["param"]) == (grpc.StatusCode.INVALID_ARGUMENT, param)
