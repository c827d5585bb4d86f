"""Tries the targets of a route in order until one answers; keeps each target's live state (TargetState).

Retries, falls back and hedges only before the first chunk of a stream is out: afterwards an error is the caller's to
see. One loop awaits; what it decides by is pure (breaker, retry, hedge) or counts places (slots). Decides no order:
that is the route's. Charges nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

from model_gateway.config.schema import RoutingConfig
from model_gateway.dispatch import attempts
from model_gateway.dispatch.attempts import Call, Opened, Runner, Trial
from model_gateway.dispatch.hedge import hedged
from model_gateway.dispatch.retry import RetryBudget
from model_gateway.dispatch.slots import Slots
from model_gateway.domain.chat import ChatChunk, ChatReply, ChatRequest
from model_gateway.domain.record import Attempt, Record
from model_gateway.domain.route import Load, News, Target, TargetState
from model_gateway.providers.registry import Provider, ProviderStream


class Started:
    """A stream whose first chunks are there. Holds its provider's place until `finish` or `abort`."""

    __slots__ = (
        "_begun",
        "_clock",
        "_done",
        "_row",
        "_runner",
        "_stream",
        "drains",
        "first",
        "flow",
        "next",
        "protocol",
        "target",
    )

    def __init__(self, opened: Opened, runner: Runner, row: Attempt, clock: Callable[[], float]) -> None:
        self.target = runner.target
        self.protocol = runner.provider.protocol
        self.drains = runner.target.drains
        self.first: list[ChatChunk] = opened.first
        self._stream: ProviderStream = opened.stream
        self.next = opened.stream.next
        self.flow = opened.stream.flow
        self._runner = runner
        self._row = row
        self._clock = clock
        self._begun = clock() - row.duration_s
        self._done = False

    async def finish(self) -> None:
        """The stream was read to its end."""
        self._release("ok")
        await self._stream.close()

    def abort(self, outcome: str) -> None:
        """The stream failed (`outcome` an ErrorKind) or its reader has gone ("cancelled"): drop the connection."""
        self._release(outcome)
        self._stream.abort()

    def _release(self, outcome: str) -> None:
        if self._done:
            return
        self._done = True
        now = self._clock()
        self._row.outcome = outcome
        self._row.duration_s = now - self._begun
        runner = self._runner
        runner.slots.give_back()
        if outcome not in ("ok", "cancelled"):
            runner.failed(now)


class Dispatcher:
    """`states` are parallel to `targets`. Times in the clock's seconds.

    `before`: the dispatcher that this one follows. Its providers' places are shared, so that both together keep within
    them; what is known of an unchanged target goes on.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        targets: Sequence[Target],
        config: RoutingConfig,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        before: Dispatcher | None = None,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._random = jitter
        self._hedge = config.hedge
        self._budget = RetryBudget(config.retry_budget.ratio, config.retry_budget.min_per_second)
        known: Mapping[str, Slots] = {} if before is None else before.slots
        self._providers = providers
        self.slots: Mapping[str, Slots] = {
            name: known.get(name) or Slots(provider.config.max_concurrent_queries, provider.config.queue_size)
            for name, provider in providers.items()
        }
        slots = self.slots
        self._runners = {
            (target.provider, target.model): (before and before.same(target, providers[target.provider]))
            or Runner(target, providers[target.provider], slots[target.provider])
            for target in targets
        }
        self.states: Sequence[TargetState] = tuple(self._runners[t.provider, t.model].state for t in targets)
        self.news = None if before is None else before.news
        if sum(providers[target.provider].status == "online" for target in targets) > 1:
            # Where there is a choice the router remembers what it made of the states.
            self.news = self.news or News(len(self.states))
            for state in self.states:
                state.news = state.load.news = self.news
        self.loads: Mapping[str, Load] = {name: places.load for name, places in slots.items()}

    def same(self, target: Target, provider: Provider) -> Runner | None:
        """What is known of this target, if it is the very same."""
        runner = self._runners.get((target.provider, target.model))
        return runner if runner is not None and runner.target == target and runner.provider is provider else None

    def take_over(self) -> None:
        """It is this one's turn: its providers have as many places as its configuration says."""
        for name, slots in self.slots.items():
            config = self._providers[name].config
            slots.resize(config.max_concurrent_queries, config.queue_size)

    async def complete(
        self, request: ChatRequest, targets: Sequence[Target], record: Record, deadline: float
    ) -> tuple[ChatReply, Target]:
        """The first whole reply, and who gave it."""
        trial = self._trial(request, targets, record, deadline)
        reply, runner, _ = await self._first(trial, attempts.whole)
        runner.slots.give_back()
        return reply, runner.target

    async def stream(self, request: ChatRequest, targets: Sequence[Target], record: Record, deadline: float) -> Started:
        """The first stream that yields a chunk; its place is held until it is finished or aborted."""
        trial = self._trial(request, targets, record, deadline)
        opened, runner, row = await self._first(trial, attempts.opened)
        return Started(opened, runner, row, self._clock)

    def _trial(self, request: ChatRequest, targets: Sequence[Target], record: Record, deadline: float) -> Trial:
        self._budget.deposit(self._clock())
        return Trial(request, targets, record, deadline, self._budget, self._clock, self._sleep, self._random)

    async def _first(self, trial: Trial, call: Call[attempts.T]) -> attempts.Won[attempts.T]:
        """Each target once around; then those that had no place, in turn. On success the winner's place is held."""
        runners, targets = self._runners, trial.targets
        if self._hedge.enabled and len(targets) > 1:
            first, second = (runners[target.provider, target.model] for target in targets[:2])
            delay_s = self._hedge_delay_s(first, trial)
            if delay_s is not None:
                won = await hedged(trial, first, second, call, delay_s)
                if won is not None:
                    return won
                targets = targets[trial.asked :]
        for target in targets:
            won = await trial.at(runners[target.provider, target.model], call)
            if won is not None:
                return won
        for runner in trial.full:
            won = await trial.queued(runner, call)
            if won is not None:
                return won
        raise trial.exhausted()

    def _hedge_delay_s(self, runner: Runner, trial: Trial) -> float | None:
        usual_s = runner.latencies(stream=trial.request.stream).percentile(self._hedge.percentile)
        return None if usual_s is None else max(usual_s, self._hedge.min_delay / 1000)
