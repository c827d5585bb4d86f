"""What is written beside the event loop must not keep requests waiting for the core."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from gateway import config_for
from model_gateway.app import App
from model_gateway.threads import NICENESS
from upstream import until


def niceness() -> dict[str, int]:
    return {
        thread.name: os.getpriority(os.PRIO_PROCESS, thread.native_id)
        for thread in threading.enumerate()
        if thread.native_id is not None
    }


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
async def test_writers_give_way_to_the_loop(tmp_path: Path) -> None:
    before = niceness()["MainThread"]
    async with App(config_for(tmp_path, {})):
        await until(lambda: {niceness().get(name) for name in ("ledger-writer", "log-writer")} == {NICENESS})
        assert niceness()["MainThread"] == before
