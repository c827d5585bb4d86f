"""Loads libraries without what they take along just because it is installed: megabytes that no serving process uses.

structlog draws tracebacks with rich, which we ask it not to, and keeps contexts of greenlets, of which there are none;
portalocker, below concurrent-log-handler, has locks in Redis and looks for its own version; pydantic and SQLAlchemy
look for plugins among all that is installed. All do without. To be imported before anything that imports one of them;
later is wasteful, never wrong.
"""

from __future__ import annotations

import importlib
import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Final, cast

_UNUSED: Final = ("greenlet", "rich", "portalocker.redis")
_METADATA: Final = "importlib.metadata"
_LIBRARIES: Final = ("structlog", "concurrent_log_handler", "pydantic.plugin._loader", "sqlalchemy.util")


def _nothing_installed() -> ModuleType:
    """In place of importlib.metadata, which takes a parser of mails and one of archives along."""
    hollow: Any = ModuleType(_METADATA)
    hollow.entry_points = _no_plugins
    return hollow


def _no_plugins(**_group: object) -> tuple[()]:
    return ()


def _load() -> None:
    absent = {name: None for name in _UNUSED if name not in sys.modules}
    sys.modules.update(cast("dict[str, ModuleType]", absent))  # None: the import system raises ImportError
    package: Any = importlib
    hollow = _nothing_installed() if _METADATA not in sys.modules else None
    if hollow is not None:
        sys.modules[_METADATA] = package.metadata = hollow
    try:
        for name in _LIBRARIES:
            import_module(name)
    finally:
        for name in absent:
            del sys.modules[name]
        if hollow is not None:
            del sys.modules[_METADATA], package.metadata


_load()
