"""`make bench-check`: is the gateway slower than when the last result was saved? Exit code 1 where it is, by over 15 %.

The yardstick is the gateway itself: the source of the commit that the last result in results/ names is laid beside this
one, both are started, and both are asked in turn, in many short rounds that change places. So neither the machine, nor
how fast its Python is beside its C, nor what else it does at the moment is in the ratio; any fixed program, however
chosen, has another mix of both than the gateway. The figure is the median of the rounds' ratios of CPU per request.

    .venv/bin/python bench/check.py                     against the last result
    .venv/bin/python bench/check.py --against main~20   against any commit
    .venv/bin/python bench/check.py --against HEAD --source build/compiled/modules   compiled against plain

The old source runs with today's packages and today's configuration of the benchmark; where it cannot, it says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import cases
import report
from processes import LOAD_CORE
from systems import HERE, System, gateway, provider

LOSS = 0.15
ROOT = HERE.parent


def last_commit() -> str:
    """That of the newest result."""
    found = report.saved()
    if not found:
        raise SystemExit("error: there is no result in bench/results: make bench saves one")
    commit = str(json.loads(found[-1].read_text())["machine"]["commit"]).removesuffix("-dirty")
    print(f"against {found[-1].name}, commit {commit}")
    return commit


def source_of(commit: str, folder: Path) -> Path:
    """`src` as it was, under `folder`."""
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit, "src"], capture_output=True)
    if archive.returncode:
        raise SystemExit(
            f"error: git does not have commit {commit}: {archive.stderr.decode().strip()}\n"
            "fetch the whole history (git fetch --unshallow), or name another commit with --against"
        )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder / "src"


def compared(old: System, new: System, rounds: int, seconds: float) -> dict[str, list[float]]:
    """New over old, CPU per request, by case and round."""
    kinds: dict[str, Callable[[System], cases.Figures]] = {
        "c=16": lambda system: cases.http(system, "short", 16, seconds),
        "c=16, cache hit": lambda system: cases.http(system, "same", 16, seconds),
        "a streamed chunk": lambda system: cases.streams(system, 32),
        "gRPC": lambda system: cases.grpc(system, "short"),
    }
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds + 1):
        for name, run in kinds.items():
            order = (old, new) if number % 2 else (new, old)
            cpu = {system.name: run(system)["cpu_us"] for system in order}
            if number:  # the first round only warms
                found[name].append(cpu["new"] / cpu["old"])
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--against", default="", metavar="COMMIT", help="instead of the last result's")
    options.add_argument("--rounds", type=int, default=8)
    options.add_argument("--seconds", type=float, default=1, help="of each run of the load")
    options.add_argument("--source", type=Path, metavar="FOLDER", help="what is checked, instead of this checkout")
    given = options.parse_args()
    report.require(cc="gcc", taskset="util-linux", git="git")
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    folder = Path(tempfile.mkdtemp(prefix="model-gateway-check-"))
    try:
        source = source_of(given.against or last_commit(), folder)
        with contextlib.ExitStack() as stack:
            upstream = stack.enter_context(provider(folder, 100, 20)).http
            old = stack.enter_context(gateway(folder / "old", upstream, name="old", source=source))
            changed = given.source and given.source.resolve()
            new = stack.enter_context(gateway(folder / "new", upstream, name="new", source=changed))
            found = compared(old, new, given.rounds, given.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lost: list[str] = []
    for name, values in found.items():
        ratio = statistics.median(values)
        print(
            f"{name:20} {ratio - 1:+7.1%}   ({min(values) - 1:+.1%} to {max(values) - 1:+.1%} in {len(values)} rounds)"
        )
        if ratio > 1 + LOSS:
            lost.append(name)
    if lost:
        raise SystemExit(f"slower by more than {LOSS:.0%}: {', '.join(lost)}")
    print(f"nothing is slower by more than {LOSS:.0%}")


if __name__ == "__main__":
    main()
