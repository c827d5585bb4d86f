"""How a task that runs beside everything else is ended. Decides nothing."""

from __future__ import annotations

import asyncio
import contextlib


async def cancel(task: asyncio.Task[None]) -> None:
    """And wait for its end."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
