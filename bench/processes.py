"""Processes of a benchmark: start them pinned to a core, read their CPU time and memory, stop them by their own pid."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

SUT_CORE, LOAD_CORE = "0", "1"
signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # as Ctrl-C: whatever runs is ended first
BOTH = f"{SUT_CORE},{LOAD_CORE}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], core: str, log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """The process, pinned to `core`; ended when the block ends, whatever happened."""
    with log.open("ab") as output:
        process = subprocess.Popen(["taskset", "-c", core, *command], stdout=output, stderr=output, **options)  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(
    url: str,
    process: subprocess.Popen[bytes],
    body: bytes | None = None,
    *,
    timeout_s: float = 30,
    key: str = "",
    fields: tuple[str, ...] = (),
) -> float:
    """Seconds until `url` answers 200, asked with the bearer token `key` and these header fields."""
    begun = time.perf_counter()
    header = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    header |= dict(field.split(": ", 1) for field in fields)
    while time.perf_counter() - begun < timeout_s:
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with {process.returncode}: see its log")
        try:
            request = urllib.request.Request(url, body, header)
            with urllib.request.urlopen(request, timeout=5) as reply:
                reply.read()
                return time.perf_counter() - begun
        except urllib.error.HTTPError as error:
            refused = error.read()[:300]
            if error.code < 500 and error.code != 429:
                raise SystemExit(f"{url} answered {error.code}: {refused!r}") from None
            time.sleep(0.005)
        except OSError:
            time.sleep(0.005)
    raise SystemExit(f"{url} did not answer within {timeout_s} s")


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (folder / "stat").read_text()
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def cpu_us(pid: int) -> float:
    """CPU time of the process tree, all threads, in microseconds (scheduler accounting, nanosecond resolution)."""
    total = 0
    for member in tree(pid):
        for task in Path(f"/proc/{member}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(task.read_text().split()[0])
    return total / 1e3


def rss_mb(pid: int) -> float:
    """Resident memory of the process tree, shared pages counted once each process."""
    pages = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def busy_us(core: str) -> float:
    """Time `core` was not idle since boot, interrupts included, in microseconds (in ticks of 10 ms)."""
    row = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _waiting, hard, soft, steal = map(int, row.split()[1:9])
    return (user + nice + system + hard + soft + steal) / os.sysconf("SC_CLK_TCK") * 1e6
