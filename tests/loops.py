"""Both event loops, for tests that run on each: asyncio's own, and uvloop, which the gateway uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A hook of pytest-asyncio: a folder's conftest.py imports it."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
