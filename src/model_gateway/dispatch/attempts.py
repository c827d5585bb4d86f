"""One request's attempts: what is tried at one target, what is learnt from it, and what to say when all have failed.

A `Runner` is a target with all that is kept about it; a `Trial` is one request on its way along its route.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from model_gateway.dispatch import retry
from model_gateway.dispatch.breaker import Breaker
from model_gateway.dispatch.latencies import Latencies
from model_gateway.dispatch.slots import Slots
from model_gateway.domain.chat import ChatChunk, ChatReply, ChatRequest
from model_gateway.domain.errors import (
    DeadlineExceeded,
    GatewayError,
    InvalidRequest,
    ModelUnavailable,
    Overloaded,
    UpstreamError,
)
from model_gateway.domain.record import Attempt, Record
from model_gateway.domain.route import Target, TargetState
from model_gateway.providers.adapter import WireRequest
from model_gateway.providers.registry import Provider, ProviderStream

T = TypeVar("T")

_SUCCESS_WEIGHT = 0.1
_LATENCY_WEIGHT = 0.2
_LEAST_LATENCY_S = 0.05  # nobody notices less, and what is measured of it is what this process was at just then
# A provider that says these was understood and refuses the request itself: no other target is asked.
_CALLERS_FAULT = frozenset((400, 413, 422))


class Opened(NamedTuple):
    """An accepted stream and its first chunks."""

    stream: ProviderStream
    first: list[ChatChunk]

    def abort(self) -> None:
        self.stream.abort()


Call: TypeAlias = Callable[[Provider, WireRequest, float], Awaitable[T]]
Won: TypeAlias = "tuple[T, Runner, Attempt]"


def whole(provider: Provider, wire: WireRequest, remaining_s: float) -> Awaitable[ChatReply]:
    return provider.complete(wire, remaining_s)


async def opened(provider: Provider, wire: WireRequest, remaining_s: float) -> Opened:
    stream = await provider.stream(wire, remaining_s)
    try:
        return Opened(stream, await stream.next())
    except BaseException:
        stream.abort()
        raise


class Runner:
    """A target, its provider, its breaker and its state."""

    __slots__ = ("_first_chunks", "_wholes", "breaker", "provider", "slots", "state", "target")

    def __init__(self, target: Target, provider: Provider, slots: Slots) -> None:
        self.target = target
        self.provider = provider
        self.slots = slots
        self.state = TargetState(load=slots.load)
        self.breaker = Breaker(provider.config.breaker)
        self._first_chunks = Latencies()
        self._wholes = Latencies()

    def latencies(self, *, stream: bool) -> Latencies:
        return self._first_chunks if stream else self._wholes

    def succeeded(self, latency_s: float, *, stream: bool) -> None:
        state = self.state
        self.breaker.succeeded()
        state.open_until = 0.0
        state.success_rate += _SUCCESS_WEIGHT * (1.0 - state.success_rate)
        known, noticed = state.latency_s, max(latency_s, _LEAST_LATENCY_S)
        state.latency_s = noticed if known == 0.0 else known + _LATENCY_WEIGHT * (noticed - known)
        self.latencies(stream=stream).add(latency_s)
        if state.news is not None:
            state.news.tell(state)

    def failed(self, now: float) -> None:
        state = self.state
        self.breaker.failed(now)
        state.open_until = self.breaker.open_until
        state.success_rate -= _SUCCESS_WEIGHT * state.success_rate
        if state.news is not None:
            state.news.tell(state)

    @property
    def name(self) -> str:
        return f"{self.target.provider}/{self.target.model}"


class Trial:
    """One request on its way along its route. `targets` are the route's, in order."""

    __slots__ = (
        *("_deadline", "_failures", "_random", "_record", "_refusals", "_resting", "_sleep"),
        *("asked", "budget", "clock", "full", "request", "targets"),
    )

    def __init__(
        self,
        request: ChatRequest,
        targets: Sequence[Target],
        record: Record,
        deadline: float,
        budget: retry.RetryBudget,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        jitter: Callable[[], float],
    ) -> None:
        self.request = request
        self.targets = targets
        self.full: list[Runner] = []
        self.asked = 0  # targets begun with
        self.budget = budget
        self.clock = clock
        self._record = record
        self._deadline = deadline
        self._sleep = sleep
        self._random = jitter
        self._failures: dict[str, UpstreamError] = {}
        self._resting: dict[str, float] = {}
        self._refusals: list[InvalidRequest] = []

    async def at(self, runner: Runner, call: Call[T]) -> Won[T] | None:
        """This target's answer, its place held; None: go on to the next."""
        self.asked += 1
        wire = self._encoded(runner)
        if wire is None or not (self._is_ready(runner) or await self._rested(runner)):
            return None
        if not runner.slots.take():
            self.full.append(runner)
            return None
        return await self._attempts(runner, wire, call)

    async def queued(self, runner: Runner, call: Call[T]) -> Won[T] | None:
        """As `at`, after waiting for a place."""
        wire = self._encoded(runner)
        remaining_s = self._deadline - self.clock()
        if wire is None or remaining_s <= 0 or not await self._rested(runner):
            return None
        record, wait_s = self._record, min(runner.provider.queue_timeout_s, remaining_s)
        if not await runner.slots.wait(wait_s, record.tenant, record.max_queue):
            return None
        return await self._attempts(runner, wire, call)

    async def _attempts(self, runner: Runner, wire: WireRequest, call: Call[T]) -> Won[T] | None:
        """Attempts at one target. A place is held on entry, and on return only with an answer."""
        slots, breaker, target = runner.slots, runner.breaker, runner.target
        attempt = 0
        while True:
            begun = self.clock()
            if begun >= self._deadline or not breaker.allows(begun):
                slots.give_back()
                return None
            attempt += 1
            row = Attempt(target.provider, target.model)
            self._record.attempts.append(row)
            breaker.begin()
            try:
                answer = await call(runner.provider, wire, self._deadline - begun)
            except UpstreamError as error:
                failure = error
            except BaseException as error:
                row.outcome = error.kind if isinstance(error, GatewayError) else "cancelled"
                row.duration_s = self.clock() - begun
                breaker.cancelled()
                slots.give_back()
                raise
            else:
                row.outcome = "ok"
                row.duration_s = self.clock() - begun
                runner.succeeded(row.duration_s, stream=self.request.stream)
                return answer, runner, row
            now = self.clock()
            row.outcome = failure.kind
            row.duration_s = now - begun
            slots.give_back()
            self._failures[runner.name] = failure
            delay_s = self._after_failure(failure, runner, attempt, now)
            if delay_s is None:
                return None
            if delay_s:
                await self._sleep(delay_s)
            if not slots.take():
                return None

    def _after_failure(self, error: UpstreamError, runner: Runner, attempt: int, now: float) -> float | None:
        """Seconds until the next attempt at this target; None: go to the next one. Raises what no target can mend."""
        target, provider = runner.target, runner.provider
        if error.status in _CALLERS_FAULT:
            runner.breaker.cancelled()
            logged = f"{target.provider}: {error.logged}"
            raise InvalidRequest(f"{target.provider}: {error.message}", param=error.param, logged=logged) from None
        if error.other_key:
            # Not this target's failure but one key's; the number of keys bounds how often.
            runner.breaker.cancelled()
            return 0.0
        runner.failed(now)
        delay_s = retry.decide(
            error,
            attempt,
            provider.retry_count,
            provider.retry_delay_s,
            self._deadline - now,
            self._random(),
            others=self.asked < len(self.targets),
        )
        return delay_s if delay_s is None or self.budget.withdraw(now) else None

    def _encoded(self, runner: Runner) -> WireRequest | None:
        """The request in the provider's schema; None where that schema cannot say it: another target may."""
        try:
            return runner.provider.encode(self.request, runner.target.model)
        except InvalidRequest as error:
            self._refusals.append(error)
            return None

    def _is_ready(self, runner: Runner) -> bool:
        """Almost always: then there is nothing to wait for, and no coroutine is made to find that out."""
        now = self.clock()
        return runner.breaker.allows(now) and runner.provider.rest_s(now) <= 0

    async def _rested(self, runner: Runner) -> bool:
        """False while the target must be left alone: its breaker is open, or a Retry-After has not passed."""
        now = self.clock()
        if not runner.breaker.allows(now):
            self._resting[runner.name] = max(runner.breaker.open_until - now, 0.1)
            return False
        rest_s = runner.provider.rest_s(now)
        if rest_s <= 0:
            return True
        alone = self.asked >= len(self.targets) and not self.full
        if alone and rest_s <= runner.provider.queue_timeout_s and now + rest_s < self._deadline:
            await self._sleep(rest_s)
            return runner.provider.rest_s(self.clock()) <= 0
        self._resting[runner.name] = rest_s
        return False

    def exhausted(self) -> GatewayError:
        """Why nobody answered, in one error."""
        if self.clock() >= self._deadline:
            return DeadlineExceeded("the request's time ran out before a model answered")
        failures, resting = self._failures, self._resting
        if not failures and not resting:
            if self.full:
                names = ", ".join(dict.fromkeys(runner.target.provider for runner in self.full))
                return Overloaded(
                    f"every provider for this request is at its maxConcurrentQueries: {names}", retry_after_s=1
                )
            if self._refusals:
                return self._refusals[0]
        waits = [error.retry_after_s for error in failures.values() if error.retry_after_s is not None]
        waits += resting.values()
        tried = [f"{name}: {error.message}" for name, error in failures.items()]
        logged = [f"{name}: {error.logged}" for name, error in failures.items()]
        rests = [
            f"{name}: left alone for {seconds:.1f} s more, after it failed or asked to wait"
            for name, seconds in resting.items()
            if name not in failures
        ]
        return ModelUnavailable(
            f"no model could answer ({'; '.join(tried + rests)})",
            retry_after_s=min(waits) if waits else None,
            logged=f"no model could answer ({'; '.join(logged + rests)})",
        )
