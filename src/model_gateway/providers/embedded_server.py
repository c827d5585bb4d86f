"""The child process of providers/embedded.py: runs llama.cpp's HTTP server on the weights it is given.

Protocol with the parent: one JSON line on standard input ({"weights", "key", "threads"}), one JSON line back on
standard output ({"port"} or {"error"}); then it serves until standard input closes, which happens when the parent
stops it or dies. Decides nothing else. Run as `python -m model_gateway.providers.embedded_server`.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from typing import Any
from urllib.parse import urlsplit

LOG_VARIABLE = "MODEL_GATEWAY_EMBEDDED_LOG"
_SILENT, _INFO = -1, 3

ALIAS = "smollm2-135m-instruct"
SLOTS = 4
CONTEXT_TOKENS = 8_192
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Linux: the kernel ends this process when its parent's thread ends, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _start(order: dict[str, Any]) -> tuple[Any, int]:
    # Imported by name: it ships no types, and only this process may load it.
    xllamacpp: Any = importlib.import_module("xllamacpp")
    params: Any = xllamacpp.CommonParams()
    params.model.path = order["weights"]
    params.model_alias = {ALIAS}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [order["key"]]
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT_TOKENS
    params.kv_unified = True  # the slots share the context: one long conversation may use most of it
    params.cpuparams.n_threads = order["threads"]
    params.cpuparams_batch.n_threads = order["threads"]
    params.n_threads_http = SLOTS + 2
    params.cache_ram_mib = 0
    params.warmup = False
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = _INFO if os.environ.get(LOG_VARIABLE) else _SILENT
    server: Any = xllamacpp.Server(params)
    address: str = server.listening_address
    return server, urlsplit(address).port or 0


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides when to stop
    report = os.fdopen(os.dup(1), "w")
    log = os.open(os.environ.get(LOG_VARIABLE) or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)  # llama.cpp prints as it likes; the report goes through the duplicate
    os.dup2(log, 2)
    order = json.loads(sys.stdin.readline() or "null")
    if order is None:
        return
    try:
        server, port = _start(order)
    except Exception as error:  # noqa: BLE001 (whatever the native code throws becomes the parent's error message)
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:500]}), file=report, flush=True)
        return
    print(json.dumps({"port": port}), file=report, flush=True)
    while sys.stdin.readline():
        pass
    del server
    os._exit(0)  # the native threads are not worth waiting for: nothing of theirs is kept


if __name__ == "__main__":
    main()
