"""`make bench-instructions`: instructions per request, counted under valgrind (callgrind), not timed.

A count does not know what else the machine does, how fast it is, or how warm its caches are: two runs of the same code
differ by less than 2 %, so that a change of 3 % shows. It says nothing about waiting, cache misses or the kernel's part
of a system call; the time per request (`make bench`) does. Needs valgrind, cc and taskset.

    .venv/bin/python bench/instructions.py                          every case, everything on
    .venv/bin/python bench/instructions.py --only c=16 --top 25     one, with the C functions that it consists of
    .venv/bin/python bench/instructions.py --bare --save before     without key and budget; kept in build/before.json
    .venv/bin/python bench/instructions.py --against before         and the change, case by case
    .venv/bin/python bench/instructions.py --source build/compiled/modules   of modules elsewhere (`make compiled-test`)

How: the gateway starts with counting switched off, is warmed by the case's own load, the counters are put to zero, a
fixed number of requests goes through, and the counters are written when their rows are in the ledger. What the process
does by itself (timers, samples of gauges) is counted in a pause and taken off. The gateway is about 50 times slower
here, so that what happens every so many milliseconds meets fewer requests: the ledger's batches are therefore further
apart (`flush_interval`), to be about as large as they are without valgrind.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import BOTH
from systems import BUILD, HERE, System, compiled, gateway, load, provider

FLUSH_MS = 3_000
STREAMS, CHUNKS, CHUNK_MS = 16, 200, 50
PAUSE_S = 5.0

Load = Callable[[System, int], int]


@dataclass(frozen=True)
class Case:
    """`load(gateway, count)` sends `count` requests and returns how many units were done; `warm` before counting."""

    load: Load
    count: int
    warm: int


def _salt() -> str:
    return str(time.time_ns())


def http(kind: str, connections: int = 16) -> Load:
    def run(system: System, count: int) -> int:
        key = ["-a", system.key] if system.key else []
        where = ["-p", str(system.http), "-c", str(connections), "-n", str(count), "-k", kind, "-s", _salt()]
        found = load(str(compiled("load")), *where, *key, timeout_s=600)
        if found["errors"]:
            raise SystemExit(f"{found['errors']} requests failed")
        return int(found.get("chunks", found["requests"]))

    return run


def grpc(kind: str) -> Load:
    def run(system: System, count: int) -> int:
        command = [sys.executable, str(HERE / "queries.py"), str(system.grpc), str(count), kind, system.key]
        return int(load(*command, timeout_s=600)["requests"])

    return run


CASES = {
    "c=16": Case(http("short"), 600, 200),
    "c=16, 500 characters": Case(http("long"), 300, 100),
    "c=1": Case(http("short", 1), 300, 100),
    "c=16, cache hit": Case(http("same"), 1_500, 300),
    "c=16, translated": Case(http("messages"), 300, 100),
    "a streamed chunk": Case(http("stream", STREAMS), STREAMS, STREAMS),
    "gRPC": Case(grpc("short"), 300, 100),
    "gRPC, cache hit": Case(grpc("same"), 600, 200),
}


class Counter:
    """callgrind in the process `pid`, whose files are `folder`/counts.N."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid, self._folder = pid, folder

    def _control(self, *options: str) -> None:
        done = subprocess.run(
            ["callgrind_control", *options, str(self._pid)],
            capture_output=True,
            text=True,
            cwd=self._folder,
            timeout=120,
        )
        if done.returncode or "Error" in done.stdout + done.stderr:
            raise SystemExit(f"callgrind_control {' '.join(options)} failed:\n{done.stdout}{done.stderr}")

    def switch(self, *, on: bool) -> None:
        self._control("-i", "on" if on else "off")

    def count(self, run: Callable[[], Any]) -> tuple[int, Path]:
        """Instructions while `run` runs, and the file that says where."""
        before = set(self._folder.glob("counts.*"))
        self._control("-z")
        run()
        self._control("-d")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for path in set(self._folder.glob("counts.*")) - before:
                found = re.search(r"^(?:totals|summary): (\d+)", path.read_text(errors="replace"), re.MULTILINE)
                if found:
                    return int(found[1]), path
            time.sleep(0.2)
        raise SystemExit("callgrind wrote no counters")


def under_callgrind(folder: Path) -> dict[str, Any]:
    """What `gateway` needs to be counted; its counters are written to `folder`."""
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/counts"]
    return {"under": valgrind, "flush_ms": FLUSH_MS, "timeout_s": 600.0, "core": BOTH}


def per_unit(system: System, counter: Counter, case: Case) -> tuple[float, Path]:
    """Instructions per request or chunk, without what the process does by itself in the same time."""
    settled_s = FLUSH_MS / 1e3 + 0.5
    case.load(system, case.warm)
    time.sleep(settled_s)
    idle, _ = counter.count(lambda: time.sleep(PAUSE_S))
    units: list[int] = []

    def run() -> None:
        units.append(case.load(system, case.count))
        time.sleep(settled_s)

    begun = time.monotonic()
    total, path = counter.count(run)
    return (total - idle * (time.monotonic() - begun) / PAUSE_S) / units[0], path


def top(path: Path, number: int) -> str:
    """The C functions with the most instructions of their own."""
    command = ["callgrind_annotate", "--threshold=100", "--inclusive=no", str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout.splitlines()
    found = [line for line in lines if re.match(r"\s*[\d,]+ \([ \d.]+%\)", line) and "PROGRAM TOTALS" not in line]
    return "\n".join(re.sub(r"\s*\[[^\]]*/([^/\]]*)\]$", r" [\1]", line)[:150] for line in found[:number])


def measure(accounts: str | None, only: str, number: int, repeat: int, source: Path | None) -> dict[str, float]:
    found: dict[str, float] = {}
    folder = Path(tempfile.mkdtemp(prefix="model-gateway-instructions-"))
    try:
        with (
            provider(folder, CHUNKS, CHUNK_MS) as upstream,
            gateway(
                folder / "gateway", upstream.http, accounts=accounts, source=source, **under_callgrind(folder)
            ) as system,
        ):
            counter = Counter(system.pid, folder)
            counter.switch(on=True)
            for name, case in CASES.items():
                if name != only if only in CASES else only not in name:
                    continue
                for _ in range(repeat):
                    found[name], path = per_unit(system, counter, case)
                    print(f"{name:28} {found[name]:12,.0f} instructions", flush=True)
                if number:
                    print(top(path, number), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--only", default="", metavar="TEXT", help="only the case of that name, or those that contain TEXT"
    )
    options.add_argument("--bare", action="store_true", help="without keys, limits and budgets")
    options.add_argument("--top", type=int, default=0, metavar="N", help="print the N costliest C functions")
    options.add_argument("--repeat", type=int, default=1, metavar="N", help="count N times; the last one counts")
    options.add_argument("--save", default="", metavar="NAME", help="keep the figures in bench/build/NAME.json")
    options.add_argument("--against", default="", metavar="NAME", help="print the change since NAME was saved")
    options.add_argument("--source", type=Path, metavar="FOLDER", help="the gateway's modules, not this checkout's")
    given = options.parse_args()
    for tool, package in (("valgrind", "valgrind"), ("cc", "gcc"), ("taskset", "util-linux")):
        if shutil.which(tool) is None:
            raise SystemExit(f"error: {tool} is not installed; on Debian and Ubuntu: apt install {package}")
    found = measure(
        "" if given.bare else None, given.only, given.top, given.repeat, given.source and given.source.resolve()
    )
    if given.against:
        before = json.loads((BUILD / f"{given.against}.json").read_text())
        print(f"\n{'':28} {'before':>12} {'now':>12} {'change':>8}")
        for name in found.keys() & before.keys():
            print(f"{name:28} {before[name]:12,.0f} {found[name]:12,.0f} {found[name] / before[name] - 1:+8.1%}")
    if given.save:
        (BUILD / f"{given.save}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
