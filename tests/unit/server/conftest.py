"""Everything here runs on asyncio's own loop and on uvloop, the gateway's: they read and write at other times."""

from __future__ import annotations

from loops import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]
