"""A gateway whose answers a test writes down, for doors that are tested over a real connection.

It speaks the pipeline's interface and keeps what a door gave it; no model, router or ledger is behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager

from model_gateway.domain.caller import ANONYMOUS, Caller
from model_gateway.domain.chat import ChatChunk, ChatReply, ChatRequest
from model_gateway.domain.errors import InvalidRequest, Unauthenticated
from model_gateway.domain.record import Record
from model_gateway.domain.route import Assessment, Factor, Target, Tier
from model_gateway.domain.usage import Price, Usage

FACTORS = (Factor("domain_knowledge", 0.8, 0.2, "domain: physics"), Factor("length", 0.25, 0.05))
USAGE = Usage(input_tokens=12, output_tokens=34)


def target(provider: str, *capabilities: str) -> Target:
    return Target(
        provider=provider,
        model=f"{provider}-model",
        tiers=frozenset({Tier.LOCAL}),
        capabilities=frozenset(capabilities),
        price=Price(),
        cost_efficiency=0.5,
        base_cost_nano=0,
        max_cost_nano=None,
        max_concurrent=1,
    )


class ScriptedStream:
    """Yields `script` in order; an exception in it is raised there."""

    def __init__(self, gateway: ScriptedGateway, record: Record) -> None:
        self._gateway = gateway
        self._record = record
        self.abandoned: BaseException | None = None

    async def __aiter__(self) -> AsyncIterator[list[ChatChunk]]:
        for step in self._gateway.script:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
                continue
            yield [ChatChunk(data=b"{}", text=text) for text in step]
        yield [ChatChunk(data=b"{}", finish_reason="length")]
        self._gateway.fill(self._record)

    def abandon(self, error: BaseException) -> None:
        self.abandoned = error


class ScriptedGateway:
    def __init__(self) -> None:
        self.text = "an answer"
        self.key = ""
        self.cached = False
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.script: list[list[str] | BaseException | asyncio.Event] = []
        self.targets: Sequence[Target] = (
            target("tiny", "text_generation"),
            target("big", "vision", "text_generation"),
        )
        self.requests: list[ChatRequest] = []
        self.closed: list[tuple[Record, BaseException | None]] = []
        self.streams: list[ScriptedStream] = []

    @contextmanager
    def journal(self, door: str, request_id: str = "") -> Generator[Record]:
        record = Record(request_id or "req_generated", door, 0.0)
        failure: BaseException | None = None
        try:
            yield record
        except BaseException as error:
            failure = error
            raise
        finally:
            self.closed.append((record, failure))

    def online_targets(self, caller: Caller) -> Sequence[Target]:
        return self.targets

    def check_key(self, credential: str, door: str = "") -> Caller:
        if credential != self.key:
            raise Unauthenticated("no such key")
        return ANONYMOUS

    def admit(self, credential: str, record: Record) -> Caller:
        return self.check_key(credential)

    async def complete(self, request: ChatRequest, caller: Caller, record: Record) -> ChatReply:
        self.requests.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.fill(record)
        return ChatReply(text=self.text, finish_reason="stop", usage=USAGE, body=b"{}")

    async def stream(self, request: ChatRequest, caller: Caller, record: Record) -> ScriptedStream:
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure
        stream = ScriptedStream(self, record)
        self.streams.append(stream)
        return stream

    async def evaluate(self, query: str, features: Sequence[str] = ()) -> Assessment:
        return self.assess(query, features)

    def assess(self, query: str, features: Sequence[str] = ()) -> Assessment:
        chosen = tuple(factor for factor in FACTORS if not features or factor.name in features)
        if len(chosen) < len(features):
            raise InvalidRequest("unknown feature", param="features")
        return Assessment(0.25, Tier.LOCAL, chosen)

    def fill(self, record: Record) -> None:
        record.provider, record.model = "tiny", "tiny-model"
        record.usage = USAGE
        if self.cached:
            record.cache = "hit"
            return
        record.score, record.factors = 0.5, FACTORS
        record.tier, record.route_reason = "hybrid", "best of 2"
        record.cost_nano = 1_250_000
