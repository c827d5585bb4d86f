"""The purse: budgets and funds together, for one request. Awaits the ledger; decides by what `budgets` says."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import structlog

from model_gateway.budget.budgets import Budgets, Wanted
from model_gateway.budget.funds import Verdict
from model_gateway.budget.ledger import Ledger
from model_gateway.domain.caller import Caller
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.errors import CostLimitExceeded, Overloaded
from model_gateway.domain.record import Record
from model_gateway.domain.route import Route
from model_gateway.domain.usage import usd_from_nano

_log = structlog.get_logger(__name__)


class Purse:
    """`life_s`: seconds after which a request whose money is still held is taken for dead."""

    def __init__(self, budgets: Budgets, ledger: Ledger, wall_clock: Callable[[], float], life_s: float) -> None:
        self._budgets = budgets
        self._ledger = ledger
        self._clock = wall_clock
        self._life_s = life_s

    async def reserve(
        self, request: ChatRequest, caller: Caller, record: Record, route: Route, cheaper: Callable[[int], Route]
    ) -> tuple[ChatRequest, Route]:
        """The request with the output that the money pays for, and the targets that it pays. Raises CostLimitExceeded.

        `cheaper(nano-USD)`: another route that costs no more, or CostLimitExceeded.
        """
        wanted = self._budgets.wanted(request)
        try:
            return await self._reserve(request, caller, record, route, wanted, cheaper)
        except Overloaded as error:
            if self._budgets.when_unavailable == "fail_closed":
                raise
            _log.warning("a request passes without its budget", request_id=record.request_id, error=error.logged)
            return request, route

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
        claim = budgets.claim(record.uid, caller, route.targets, wanted, record.score, self._clock(), self._life_s)
        if claim is None:
            return request, route
        verdict = await self._ledger.hold(record, claim, budgets.wait_s)
        if not verdict.granted_nano:
            if cheaper is not None and verdict.refused is not None and budgets.steps_down(verdict.refused):
                route = cheaper(verdict.left_nano)
                targets = budgets.affordable(route.targets, wanted, record.score, verdict.left_nano)
                if targets:
                    route = msgspec.structs.replace(route, targets=tuple(targets))
                    return await self._reserve(request, caller, record, route, wanted, None)
            raise _refusal(verdict, claim.least_nano)
        targets = tuple(target for target, fits in zip(route.targets, verdict.targets, strict=True) if fits)
        if not wanted.fixed:
            limit = budgets.output_limit(targets, wanted, record.score, verdict.granted_nano)
            request = msgspec.structs.replace(request, output_limit=limit)
        return request, msgspec.structs.replace(route, targets=targets)


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
