"""Which Python functions the gateway's time goes to while one case keeps it busy: shares, by a sampling profiler.

    .venv/bin/python bench/shares.py --case short --top 40
    .venv/bin/python bench/shares.py --case long --seconds 20 --bare

py-spy (installed by uv on first use) stops the process 500 times a second and notes the stack of each thread that is
not asleep, the ledger's too; C code counts for the Python function that called it. Shares hardly depend on how busy
or fast the machine is: 5,000 samples tell a function of 5 % to ± 0.6 %. Instructions (instructions.py) say how much
there is to do, this says where. Cases: short, long, same (cache hit), messages (translated), stream, gRPC.
"""

from __future__ import annotations

import argparse
import collections
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import LOAD_CORE
from systems import BIN, HERE, System, compiled, gateway, provider

PY_SPY = "py-spy@0.4.1"
RATE = 500
WAITING = "_worker (concurrent/futures/thread.py"
"""A thread of the pool with nothing to do, which py-spy takes for a busy one."""
LOOP = "asyncio/runners.py"
"""What leads to it is the way from the process's start to the event loop: under every sample, and not shown."""
CASES = ("short", "long", "same", "messages", "stream", "gRPC")


def busy(system: System, case: str, seconds: float) -> list[str]:
    """A command that keeps the gateway at this case for so long."""
    salt = str(time.time_ns())
    if case == "gRPC":
        return [sys.executable, str(HERE / "queries.py"), str(system.grpc), "1000000", "short", system.key]
    connections = "64" if case == "stream" else "16"
    where = ["-p", str(system.http), "-c", connections, "-t", str(seconds), "-k", case, "-s", salt]
    return [str(compiled("load")), *where, *(["-a", system.key] if system.key else [])]


def stacks(system: System, case: str, seconds: float, folder: Path) -> list[tuple[list[str], int]]:
    """Every stack seen, outermost frame first, and how often."""
    output = folder / "stacks"
    load = subprocess.Popen(["taskset", "-c", LOAD_CORE, *busy(system, case, seconds + 8)], stdout=subprocess.DEVNULL)
    try:
        time.sleep(1.5)
        spy = [str(BIN / "uv"), "tool", "run", "--quiet", PY_SPY, "record", "--function", "--format", "raw"]
        spy += ["--rate", str(RATE), "--duration", str(int(seconds)), "--output", str(output), "--pid", str(system.pid)]
        done = subprocess.run(["taskset", "-c", LOAD_CORE, *spy], capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise SystemExit(f"py-spy failed (it may need root or ptrace_scope 0):\n{done.stderr}")
    finally:
        load.terminate()
        load.wait()
    found: list[tuple[list[str], int]] = []
    for line in output.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if WAITING in frames[-1]:
            continue
        start = next((place for place, frame in enumerate(frames) if LOOP in frame), 0)
        found.append((frames[start:], int(count)))
    return found


def named(frame: str) -> str:
    """`module.py function`, the path cut to what lies in a package."""
    function, _, where = frame.rstrip(")").partition(" (")
    where = re.sub(r"^.*?(model_gateway|site-files|python3\.\d+)/", "", where)
    return f"{where}  {function}"


def show(found: list[tuple[list[str], int]], number: int) -> None:
    total = sum(count for _, count in found)
    own: collections.Counter[str] = collections.Counter()
    whole: collections.Counter[str] = collections.Counter()
    files: collections.Counter[str] = collections.Counter()
    for stack, count in found:
        names = [named(frame) for frame in stack]
        own[names[-1]] += count
        for name in set(names):
            whole[name] += count
        ours = next((frame for frame in reversed(stack) if "model_gateway/" in frame), stack[-1])
        files[named(ours).partition(":")[0]] += count
    print(f"{total:,} samples\n\nown    with what it calls    function")
    for name, count in own.most_common(number):
        print(f"{count / total:5.1%}  {whole[name] / total:5.1%}  {name}")
    print("\nwith what it calls")
    for name, count in whole.most_common(number):
        print(f"{count / total:5.1%}  {name}")
    print("\nby our file, what it calls in libraries included")
    for name, count in files.most_common(number):
        print(f"{count / total:5.1%}  {name}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--case", choices=CASES, default="short")
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--bare", action="store_true", help="without keys, limits and budgets")
    options.add_argument("--top", type=int, default=30, metavar="N")
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="model-gateway-shares-"))
    try:
        with (
            provider(folder, 100, 20) as upstream,
            gateway(folder, upstream.http, accounts="" if given.bare else None) as system,
        ):
            show(stacks(system, given.case, given.seconds, folder), given.top)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
