"""Memory that nobody uses any more goes back to the system, where the C library would keep it.

Decides nothing about when. Loading a configuration unpacks megabytes and drops them.
"""

from __future__ import annotations

import contextlib
import gc
import sys


def give_back() -> None:
    """Collect what is unreachable, and return free pages: 2 ms after a start, when all before is frozen.

    Does only the first where the C library is not glibc.
    """
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):  # musl has none
            import ctypes

            ctypes.CDLL(None).malloc_trim(0)
