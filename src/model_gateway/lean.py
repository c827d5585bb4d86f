"""Loads two libraries without what they take along just because it is installed: 12 MB that no serving process uses.

structlog draws tracebacks with rich, which we ask it not to; portalocker, below concurrent-log-handler, has locks in
Redis. Both do without. To be imported before anything that imports one of the two; later is wasteful, never wrong.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Final, cast

_UNUSED: Final = ("rich", "portalocker.redis")
_LIBRARIES: Final = ("structlog", "concurrent_log_handler")


def _load() -> None:
    absent = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent, cast("ModuleType", None)))  # None: the import system raises ImportError
    try:
        for name in _LIBRARIES:
            import_module(name)
    finally:
        for name in absent:
            del sys.modules[name]


_load()
