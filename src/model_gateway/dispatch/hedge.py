"""A race of two targets: the second is asked when the first is unusually slow, and the loser is cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

from model_gateway.dispatch.attempts import Call, Opened, Runner, T, Trial, Won


async def hedged(trial: Trial, first: Runner, second: Runner, call: Call[T], delay_s: float) -> Won[T] | None:
    """The faster of the first two targets; None: both failed (or the first did and the second was not asked)."""
    loop = asyncio.get_running_loop()
    asked = loop.create_task(trial.at(first, call))
    racing: set[asyncio.Task[Won[T] | None]] = {asked}
    try:
        await asyncio.wait(racing, timeout=delay_s)
        if not asked.done() and trial.budget.withdraw(trial.clock()):
            racing.add(loop.create_task(trial.at(second, call)))
        while racing:
            done, racing = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            winners = [task for task in done if task.exception() is not None or task.result() is not None]
            if winners:
                racing.update(winners[1:])
                return winners[0].result()
        return None
    finally:
        # Nothing is awaited here: a cancellation now would take the winner's answer with it.
        for task in racing:
            task.cancel()
            _late.add(task)
            task.add_done_callback(_drop)


_late: set[asyncio.Task[Any]] = set()  # the loop alone would not keep them alive


def _drop(task: asyncio.Task[Any]) -> None:
    """An answer that came too late: its place and its connection are given back."""
    _late.discard(task)
    if task.cancelled() or task.exception() is not None or task.result() is None:
        return
    answer, runner, row = task.result()
    if isinstance(answer, Opened):
        answer.abort()
    row.outcome = "cancelled"
    runner.slots.give_back()
