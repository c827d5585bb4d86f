"""Threads that write for the event loop give way to it: what they do may wait, and a request may not.

On one core, which is what a worker often has, the loop would wait for the rest of a writer's time slice (3 ms) whenever
something comes while a batch is written.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Final

NICENESS: Final = 5
"""A quarter of a core is left to a writer where the loop, or another process, would take all of it: several times what
it needs. At 10 requests hardly waited less, and rows came late on a machine that others keep busy.
"""


def give_way() -> None:
    """The calling thread, on Linux, where each has a priority of its own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # where that is forbidden it goes on as it was
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
