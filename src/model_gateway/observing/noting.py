"""Notes what live traffic teaches, after the answer and off the event loop: nobody waits for it.

Decides which requests are sampled or judged by the candidate too, and what is dropped when they come faster than they
can be noted: that is counted. A prompt is held from the route to the record's end, and only where it is wanted.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from model_gateway.assess.assessor import Assessor
from model_gateway.budget.pricing import cost_nano
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.record import Record
from model_gateway.domain.route import TIERS, Assessment, Target, Tier
from model_gateway.routing.names import AUTOS
from model_gateway.telemetry.counts import Comparison

MAX_HELD = 10_000
MAX_WAITING = 1_000
MAX_CHARACTERS = 32_000
_BATCH = 32

_log = structlog.get_logger("model_gateway.observing")


class Plan(msgspec.Struct, frozen=True):
    """Of one configuration. `rate` 0: nothing is sampled; at most `most` are kept. `standing`: who serves a tier."""

    path: Path
    rate: float = 0.0
    most: int = 0
    candidate: Assessor | None = None
    standing: Mapping[Tier, Target] = {}

    @property
    def idle(self) -> bool:
        return not self.rate and self.candidate is None


class _Held(msgspec.Struct, frozen=True):
    text: str
    sampled: bool
    compared: bool


class Noter:
    """`note` and `close` belong to the event loop; `run` is to be kept running. `counts` is given the comparisons."""

    def __init__(self, counts: Callable[[], Comparison], dice: Callable[[], float] = random.random) -> None:
        self._counts = counts
        self._dice = dice
        self._plan = Plan(Path())
        self._held: dict[str, _Held] = {}
        self._waiting: deque[tuple[_Held, Record]] = deque()
        self._wake = asyncio.Event()
        self._complained = False

    def adopt(self, plan: Plan) -> None:
        self._plan = plan

    def note(self, request: ChatRequest, record: Record) -> None:
        """Its route has been chosen."""
        plan = self._plan
        sampled = plan.rate > 0 and self._dice() < plan.rate
        compared = plan.candidate is not None and (not request.model or request.model in AUTOS)
        if request.embeds or not (sampled or compared):
            return
        if len(self._held) < MAX_HELD:
            self._held[record.uid] = _Held(request.query()[:MAX_CHARACTERS], sampled, compared)
        else:
            self._counts().dropped += 1

    def close(self, record: Record) -> None:
        """It has ended. Only what was answered teaches anything."""
        held = self._held.pop(record.uid, None)
        if held is None or record.status != "ok":
            return
        if len(self._waiting) >= MAX_WAITING:
            self._counts().dropped += 1
            return
        self._waiting.append((held, record))
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """All that waits."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            plan = self._plan
            try:
                judged = await asyncio.to_thread(_work, plan, batch)
                self._complained = False
            except Exception as error:  # noqa: BLE001 (a full disk, a locked file: traffic goes on all the same)
                self._counts().dropped += len(batch)
                if not self._complained:
                    self._complained = True
                    _log.error("samples and comparisons cannot be noted", error=type(error).__name__)
                continue
            for record, assessment in judged:
                self._compare(plan, record, assessment)

    def _compare(self, plan: Plan, record: Record, assessment: Assessment) -> None:
        counts = self._counts()
        key = (record.asked_tier, str(assessment.tier))
        counts.tiers[key] = counts.tiers.get(key, 0) + 1
        counts.score_difference += assessment.score - record.score
        would = record.cost_nano
        if key[0] != key[1] and record.usage is not None:
            target = plan.standing.get(assessment.tier)
            would = cost_nano(target, record.usage, assessment.score) if target is not None else would
        counts.current_nano += record.cost_nano
        counts.candidate_nano += would


def standing(targets: Sequence[Target]) -> Mapping[Tier, Target]:
    """By tier: of those that serve it the one with the best costEfficiency. `targets`: those that are online."""
    found: dict[Tier, Target] = {}
    for place, tier in enumerate(TIERS):
        nearest = (tier, *reversed(TIERS[:place]), *TIERS[place + 1 :])  # as routing does: cheaper first, then stronger
        for served in nearest:
            fit = [target for target in targets if served in target.tiers and not target.embeds]
            if fit:
                found[tier] = max(fit, key=lambda target: target.cost_efficiency)
                break
    return found


def _work(plan: Plan, batch: Sequence[tuple[_Held, Record]]) -> list[tuple[Record, Assessment]]:
    """On a thread."""
    from model_gateway.observing.samples import Sample, put

    samples = [
        Sample(r.uid, r.request_id, r.started_at, held.text, r.tier, r.provider, r.model)
        for held, r in batch
        if held.sampled
    ]
    if samples:
        put(plan.path, samples, plan.most)
    if plan.candidate is None:
        return []
    return [(r, plan.candidate.assess(held.text, explain=False)) for held, r in batch if held.compared]
