"""Two local providers, which end with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from upstream import FixtureUpstream


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as held:
        yield held


@pytest.fixture
async def first(stack: AsyncExitStack) -> FixtureUpstream:
    return await stack.enter_async_context(FixtureUpstream())


@pytest.fixture
async def second(stack: AsyncExitStack) -> FixtureUpstream:
    return await stack.enter_async_context(FixtureUpstream())
