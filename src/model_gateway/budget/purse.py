"""The purse: budgets and funds together, for one request. Awaits the ledger; decides by what `budgets` says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog

from model_gateway.budget.budgets import Budgets, Wanted
from model_gateway.budget.charges import shares_of
from model_gateway.budget.funds import Claim, Verdict, accounts_in
from model_gateway.budget.ledger import Ledger
from model_gateway.budget.rows import UNHELD
from model_gateway.budget.share import LocalShare
from model_gateway.domain.caller import Caller
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.errors import CostLimitExceeded, Overloaded
from model_gateway.domain.record import Record
from model_gateway.domain.route import Route, Target
from model_gateway.domain.usage import usd_from_nano

_log = structlog.get_logger(__name__)


class Purse:
    """`life_s`: seconds after which a request whose money is still held is taken for dead."""

    def __init__(self, budgets: Budgets, ledger: Ledger, wall_clock: Callable[[], float], life_s: float) -> None:
        self._budgets = budgets
        self._ledger = ledger
        self._clock = wall_clock
        self._life_s = life_s
        self._share = LocalShare(budgets.instances)

    def concerns(self, caller: Caller) -> bool:
        """Is there any budget that its requests must fit?"""
        return self._budgets.concern(caller)

    def leased(self, request: ChatRequest, caller: Caller, record: Record, route: Route) -> ChatRequest | None:
        """The request, where it costs nothing or is held from memory: all of it, for all targets. None: `reserve`."""
        if not self._ledger.reachable:
            return None
        budgets = self._budgets
        wanted = budgets.wanted(request)
        # Of a crowd nobody knows yet who follows, but what any of them could cost: enough for all.
        alike = () if budgets.by_target else route.dear
        claim = self._claim(caller, record, route, wanted, alike or None)
        if claim is None:
            return request
        if not self._ledger.hold_leased(record, claim):
            return None
        if not wanted.fixed:
            limit = max(1, wanted.output_tokens // wanted.choices)
            request = msgspec.structs.replace(request, output_limit=limit)
        return request

    async def reserve(
        self, request: ChatRequest, caller: Caller, record: Record, route: Route, cheaper: Callable[[int], Route]
    ) -> tuple[ChatRequest, Route]:
        """The request with the output that the money pays for, and the targets that it pays. Raises CostLimitExceeded.

        `cheaper(nano-USD)`: another route that costs no more, or CostLimitExceeded.
        """
        wanted = self._budgets.wanted(request)
        if not self._ledger.reachable:
            return self._unheld(request, caller, record, route, wanted)
        try:
            return await self._reserve(request, caller, record, route, wanted, cheaper)
        except Overloaded:
            return self._unheld(request, caller, record, route, wanted)

    def _unheld(
        self, request: ChatRequest, caller: Caller, record: Record, route: Route, wanted: Wanted
    ) -> tuple[ChatRequest, Route]:
        """The database does not answer: as `when_unavailable` says. What is spent is booked when it does again."""
        claim = self._claim(caller, record, route, wanted)
        if claim is None:
            return request, route
        claim = self._budgets.shorter(claim, route.targets, wanted, record.score, route.first)
        policy = self._budgets.when_unavailable
        if policy == "fail_closed":
            raise Overloaded("the budgets' database does not answer", retry_after_s=5)
        if policy == "fail_open":
            _log.warning("a request passes without its budget", request_id=record.request_id)
            record.hold_nano = UNHELD
            return request, route
        verdict = self._share.take(claim)
        if not verdict.granted_nano:
            raise _refusal(verdict, claim.least_nano)
        record.hold_nano = UNHELD
        return self._granted(request, record, route, wanted, verdict)

    def close(self, record: Record) -> None:
        """An observer: what a request has held of this gateway's own share."""
        if record.hold_nano == UNHELD:
            self._share.close(record.uid, shares_of(record), record.cost_nano)

    async def refresh(self) -> None:
        """What is left of all budgets, for when nobody can be asked. Raises OSError while that is so."""
        booked, closed = not self._ledger.pending, self._share.closed
        periods = self._budgets.periods(self._clock())
        found = await asyncio.to_thread(self._ledger.run, lambda c: accounts_in(c, periods))
        self._share.know(found, booked=booked and closed == self._share.closed)

    def _claim(
        self, caller: Caller, record: Record, route: Route, wanted: Wanted, targets: Sequence[Target] | None = None
    ) -> Claim | None:
        """`targets`: whose prices count, in place of the route's own."""
        return self._budgets.claim(
            record.uid,
            caller,
            route.targets if targets is None else targets,
            wanted,
            record.score,
            record.started_at,
            self._clock() + self._life_s,
            route.first,
        )

    def _granted(
        self, request: ChatRequest, record: Record, route: Route, wanted: Wanted, verdict: Verdict
    ) -> tuple[ChatRequest, Route]:
        first, targets = route.first, route.targets
        if verdict.targets:
            first = _fitting(first, verdict.targets[: len(first)])
            targets = _fitting(targets, verdict.targets[len(route.first) :])
        if not wanted.fixed:
            limit = self._budgets.output_limit(targets, wanted, record.score, verdict.granted_nano, first)
            request = msgspec.structs.replace(request, output_limit=limit)
        return request, msgspec.structs.replace(route, targets=targets, first=first)

    async def _reserve(
        self,
        request: ChatRequest,
        caller: Caller,
        record: Record,
        route: Route,
        wanted: Wanted,
        cheaper: Callable[[int], Route] | None,
    ) -> tuple[ChatRequest, Route]:
        budgets = self._budgets
        claim = self._claim(caller, record, route, wanted)
        if claim is None:
            return request, route
        claim = budgets.shorter(claim, route.targets, wanted, record.score, route.first)
        verdict = await self._ledger.hold(record, claim, budgets.wait_s)
        if not verdict.granted_nano:
            if route.first and route.targets:
                # Not for both calls of a cascade: then what the first says is given, whatever it is.
                alone = msgspec.structs.replace(route, targets=())
                return await self._reserve(request, caller, record, alone, wanted, cheaper)
            if cheaper is not None and verdict.refused is not None and budgets.steps_down(verdict.refused):
                route = cheaper(verdict.left_nano)
                asked = route.first or route.targets
                targets = tuple(budgets.affordable(asked, wanted, record.score, verdict.left_nano))
                if targets:
                    given = {"first": targets, "targets": ()} if route.first else {"targets": targets}
                    route = msgspec.structs.replace(route, **given)
                    return await self._reserve(request, caller, record, route, wanted, None)
            raise _refusal(verdict, claim.least_nano)
        return self._granted(request, record, route, wanted, verdict)


def _fitting(targets: Sequence[Target], fits: Sequence[bool]) -> tuple[Target, ...]:
    return tuple(target for target, fit in zip(targets, fits, strict=True) if fit)


def _refusal(verdict: Verdict, least_nano: int) -> CostLimitExceeded:
    charge = verdict.refused
    name, period = (charge.budget, charge.period) if charge is not None else ("", "")
    held = ", and others hold it now" if verdict.waiting else ""
    return CostLimitExceeded(
        f"the budget `{name}` ({period}) has ${usd_from_nano(verdict.left_nano):.9f} left{held}; "
        f"this request may cost ${usd_from_nano(least_nano):.9f}",
        param="budget",
        retry_after_s=1 if verdict.waiting else None,
    )
