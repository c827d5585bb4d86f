"""Tries the targets of a route in order until one answers; keeps each provider's live state (TargetState).

Retries and falls back only before the first chunk of a stream is out: afterwards an error is the caller's to see.
Decides no order: that is the route's. Charges nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from model_gateway.dispatch import retry
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
from model_gateway.providers.registry import Provider, ProviderStream

T = TypeVar("T")
_Call = Callable[[Provider, ChatRequest, str, float], Awaitable[T]]

_SUCCESS_WEIGHT = 0.1
_LATENCY_WEIGHT = 0.2
# A provider that says these was understood and refuses the request itself: no other target is asked.
_CALLERS_FAULT = frozenset((400, 413, 422))


class Started:
    """A stream whose first chunks are there. Holds its provider's slot until `finish` or `abort`."""

    __slots__ = ("_begun", "_clock", "_done", "_row", "_state", "_stream", "first", "next", "target")

    def __init__(
        self,
        target: Target,
        stream: ProviderStream,
        first: list[ChatChunk],
        state: TargetState,
        row: Attempt,
        clock: Callable[[], float],
    ) -> None:
        self.target = target
        self.first = first
        self.next = stream.next
        self._stream = stream
        self._state = state
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
        self._state.in_flight -= 1
        self._row.outcome = outcome
        self._row.duration_s = self._clock() - self._begun
        if outcome not in ("ok", "cancelled"):
            _learn(self._state, False, None)


class Dispatcher:
    """`states` are parallel to `targets`; targets of one provider share one state."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        targets: Sequence[Target],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._providers = providers
        self._clock = clock
        self._sleep = sleep
        self._random = jitter
        by_provider: dict[str, TargetState] = {}
        self.states: Sequence[TargetState] = tuple(by_provider.setdefault(t.provider, TargetState()) for t in targets)
        self.provider_states: Mapping[str, TargetState] = by_provider

    async def complete(
        self, request: ChatRequest, targets: Sequence[Target], record: Record, deadline: float
    ) -> tuple[ChatReply, Target]:
        """The first whole reply, and who gave it. `deadline` in the clock's seconds."""
        reply, target = await self._try(request, targets, record, deadline, self._whole)
        self.provider_states[target.provider].in_flight -= 1
        return reply, target

    async def stream(self, request: ChatRequest, targets: Sequence[Target], record: Record, deadline: float) -> Started:
        """The first stream that yields a chunk; its slot is held until it is finished or aborted."""
        (stream, first), target = await self._try(request, targets, record, deadline, self._opened)
        state = self.provider_states[target.provider]
        return Started(target, stream, first, state, record.attempts[-1], self._clock)

    async def _whole(self, provider: Provider, request: ChatRequest, model: str, remaining_s: float) -> ChatReply:
        return await provider.complete(request, model, remaining_s)

    async def _opened(
        self, provider: Provider, request: ChatRequest, model: str, remaining_s: float
    ) -> tuple[ProviderStream, list[ChatChunk]]:
        stream = await provider.stream(request, model, remaining_s)
        try:
            return stream, await stream.next()
        except BaseException:
            stream.abort()
            raise

    async def _try(
        self, request: ChatRequest, targets: Sequence[Target], record: Record, deadline: float, call: _Call[T]
    ) -> tuple[T, Target]:
        """One loop awaits; everything it decides by is pure. On success the provider's slot is still held."""
        failures: list[tuple[Target, UpstreamError]] = []
        for target in targets:
            provider = self._providers[target.provider]
            state = self.provider_states[target.provider]
            attempt = 0
            while state.in_flight < target.max_concurrent:
                begun = self._clock()
                if begun >= deadline:
                    raise DeadlineExceeded("the request's time ran out before a model answered")
                attempt += 1
                row = Attempt(target.provider, target.model)
                record.attempts.append(row)
                state.in_flight += 1
                try:
                    answer = await call(provider, request, target.model, deadline - begun)
                except UpstreamError as error:
                    failure = error
                except BaseException:
                    row.outcome = "cancelled"
                    row.duration_s = self._clock() - begun
                    state.in_flight -= 1
                    raise
                else:
                    row.outcome = "ok"
                    row.duration_s = self._clock() - begun
                    _learn(state, True, row.duration_s)
                    return answer, target
                now = self._clock()
                row.outcome = failure.kind
                row.duration_s = now - begun
                state.in_flight -= 1
                delay_s = self._after_failure(failure, target, provider, state, attempt, deadline - now)
                failures.append((target, failure))
                if delay_s is None:
                    break
                await self._sleep(delay_s)
        raise _exhausted(targets, failures, self._clock() >= deadline)

    def _after_failure(
        self,
        error: UpstreamError,
        target: Target,
        provider: Provider,
        state: TargetState,
        attempt: int,
        remaining_s: float,
    ) -> float | None:
        """Seconds until the next attempt at this target; None: go to the next one. Raises what no target can mend."""
        if error.status in _CALLERS_FAULT:
            logged = f"{target.provider}: {error.logged}"
            raise InvalidRequest(f"{target.provider}: {error.message}", param=error.param, logged=logged) from None
        _learn(state, False, None)
        return retry.decide(error, attempt, provider.retry_count, provider.retry_delay_s, remaining_s, self._random())


def _learn(state: TargetState, ok: bool, latency_s: float | None) -> None:
    state.success_rate += _SUCCESS_WEIGHT * ((1.0 if ok else 0.0) - state.success_rate)
    if latency_s is not None:
        known = state.latency_s
        state.latency_s = latency_s if known == 0.0 else known + _LATENCY_WEIGHT * (latency_s - known)


def _exhausted(
    targets: Sequence[Target], failures: Sequence[tuple[Target, UpstreamError]], out_of_time: bool
) -> GatewayError:
    if not failures:
        names = ", ".join(dict.fromkeys(t.provider for t in targets))
        return Overloaded(f"every provider for this request is at its maxConcurrentQueries: {names}", retry_after_s=1)
    if out_of_time:
        return DeadlineExceeded("the request's time ran out before a model answered")
    last = {f"{target.provider}/{target.model}": error for target, error in failures}
    tried = "; ".join(f"{name}: {error.message}" for name, error in last.items())
    logged = "; ".join(f"{name}: {error.logged}" for name, error in last.items())
    waits = [error.retry_after_s for error in last.values() if error.retry_after_s is not None]
    return ModelUnavailable(
        f"no model could answer ({tried})",
        retry_after_s=min(waits) if waits else None,
        logged=f"no model could answer ({logged})",
    )
