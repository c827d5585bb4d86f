"""Counts as Prometheus' text; its library, and the HTTP server that it takes along, are loaded when somebody asks."""

from __future__ import annotations

import asyncio
from importlib import import_module

from model_gateway.telemetry.around import Around
from model_gateway.telemetry.counts import Counts


async def rendered(counts: Counts, around: Around) -> tuple[bytes, str]:
    """What exposition.py says. The first time takes 30 ms, of another thread."""
    await asyncio.to_thread(import_module, "model_gateway.telemetry.exposition")
    from model_gateway.telemetry import exposition

    return exposition.rendered(counts, around)
