"""Memory that nobody uses any more goes back to the system, where the C library would keep it.

Decides nothing about when. Loading a configuration unpacks megabytes and drops them.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys


def give_back() -> None:
    """Collect what is unreachable, and return free pages: 10 to 30 ms. Does only the first where it is not glibc's."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has none
            ctypes.CDLL(None).malloc_trim(0)
