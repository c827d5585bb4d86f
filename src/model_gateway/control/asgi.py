"""uvicorn's server without its command line, which its package takes along: click, watchfiles, multiprocessing, 2 MB.

Decides nothing. Whoever imports `uvicorn.main` afterwards gets it as ever.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Final

_COMMAND_LINE: Final = "uvicorn.main"
_ITS_NAMES: Final = ("main", "run")


def _load() -> None:
    if "uvicorn" in sys.modules:
        return
    hollow: Any = ModuleType(_COMMAND_LINE)
    hollow.Server = hollow.main = hollow.run = None  # what the package imports from it
    sys.modules[_COMMAND_LINE] = hollow
    try:
        package: Any = import_module("uvicorn")
        package.Server = import_module("uvicorn.server").Server
    finally:
        del sys.modules[_COMMAND_LINE]
    for name in _ITS_NAMES:
        delattr(package, name)


_load()

from uvicorn.config import Config as Config  # noqa: E402
from uvicorn.server import Server as Server  # noqa: E402
