"""One conversation over the workers of one machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import grpc
import httpx
import pytest

from fleets import OWN, document, fleet
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from upstream import FixtureUpstream, chat

EASY = "What's the weather like today?"
HARD = (
    "Please analyse in detail the application of AI in medicine, including technical principles, ethical issues, "
    "regulatory challenges and the outlook for the next ten years, with concrete cases"
)


async def test_workers_agree_on_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FixtureUpstream(chat) as upstream, fleet(tmp_path, document(upstream.url), monkeypatch) as gateway:

        async def query(text: str, session: str) -> str:
            address = f"127.0.0.1:{gateway.gateway.grpc_port}"
            async with grpc.aio.insecure_channel(address, options=OWN) as channel:
                stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
                reply = await stub.ProcessQuery(pb.ModelRequest(query=text, metadata={"session_id": session}))
                return reply.tier

        async def post(turns: list[str], **headers: str) -> str:
            said = [text for turn in turns for text in (turn, "Certainly.")][:-1]
            messages = [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(said)]
            async with httpx.AsyncClient(timeout=20) as client:
                body = {"model": "auto", "messages": messages}
                reply = await client.post(f"{gateway.base}/v1/chat/completions", json=body, headers=headers)
            return reply.headers["x-gateway-tier"]

        assert await query(EASY, "s") == "local"
        assert await query(HARD, "s") == "remote"
        # Each on a connection of its own: the kernel shares them out over the workers.
        told = Counter([await query(EASY, "s") for _ in range(5)])
        told += Counter([await post([EASY], **{"x-gateway-session": "s"}) for _ in range(5)])
        told += Counter([await post([HARD, EASY, EASY]) for _ in range(5)])
        assert told == {"remote": 15}
        assert await query(EASY, "another") == await post([EASY]) == "local"
        # Workers that have never seen it know it as well.
        before = gateway.pids()
        await gateway.gateway.restart()
        assert not set(before) & set(gateway.pids())
        assert await query(EASY, "s") == "remote"
