"""`make bench`: CPU per request and per streamed chunk, latency, memory, start-up, beside the peers that are installed.

The system under test is pinned to one core; the load, the mock provider and this program to another. Each figure is the
median of interleaved rounds, with its spread. Needs cc and taskset; peers are measured when they are installed
(`make bench-peers`). README.md in this folder says what the figures mean and how to look closer.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import peers
import report
from processes import BOTH, LOAD_CORE, SUT_CORE, free_port, rss_mb, running, wait_for
from systems import HERE, PLAIN, QUESTION, System, gateway, load, provider

CHUNKS, CHUNK_MS = 100, 20
STARTS = 3
SERVED = 100_000
"""Requests after which memory is read once more."""


@contextlib.contextmanager
def python_server(script: str, folder: Path, *more: int) -> Iterator[System]:
    """bare_grpc.py or yardstick.py."""
    port = free_port()
    command = [sys.executable, str(HERE / f"{script}.py"), str(port), *map(str, more)]
    with running(command, SUT_CORE, folder / f"{script}.out", env=PLAIN) as process:
        if script == "bare_grpc":
            load(sys.executable, str(HERE / "queries.py"), str(port), "16", "same", "")
            yield System("bare grpc.aio server", process.pid, 0, grpc=port)
        else:
            wait_for(f"http://127.0.0.1:{port}/v1/chat/completions", process, QUESTION)
            yield System("Python forwarder", process.pid, port)


def rounds(count: int, found: dict[str, cases.Case]) -> dict[str, dict[str, Any]]:
    """Every case once a round, in turn; per figure the median and the spread."""
    seen: dict[str, list[cases.Figures]] = {name: [] for name in found}
    for number in range(count):
        for name, case in found.items():
            seen[name].append(case())
            line = ", ".join(f"{figure} {value:,.2f}" for figure, value in seen[name][-1].items())
            print(f"  round {number + 1}/{count} {name}: {line}", flush=True)
    return {
        name: {figure: spread([r[figure] for r in results]) for figure in results[0]} for name, results in seen.items()
    }


def spread(values: list[float]) -> cases.Figures:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def starts(folder: Path, upstream: int) -> dict[str, Any]:
    """Seconds from the command to ready, and to the first answer."""
    seen: list[dict[str, float]] = []
    for number in range(STARTS):
        with gateway(folder / f"start{number}", upstream) as started:
            seen.append(started.facts)
    figures = {figure: spread([s[figure] for s in seen]) for figure in ("ready_s", "first_s")}
    return {"times": STARTS, **figures}


def memory(ours: System, idle_mb: float, served: int) -> dict[str, float]:
    """Resident, in MB: when idle, after all rounds, after SERVED requests at least."""
    found = {"idle_mb": idle_mb, "after_load_mb": rss_mb(ours.pid)}
    if served:
        load(*cases.command(ours, "short", 16, "-n", str(served)), timeout_s=1_200)
        found[f"after_{served}_mb"] = rss_mb(ours.pid)
    return found


def two_workers(folder: Path, upstream: int, count: int, seconds: float) -> dict[str, Any]:
    """CPU per request and throughput of one and of two workers that share both cores with the load.

    Two are asked by 16 connections in all, and by 16 each: what comes together costs less, and is less among two.
    """
    with contextlib.ExitStack() as stack:
        found: dict[str, cases.Case] = {}
        for workers in (1, 2):
            system = stack.enter_context(
                gateway(
                    folder / f"workers{workers}",
                    upstream,
                    name=f"{workers} worker{'s' * (workers > 1)}",
                    arguments=("--workers", str(workers)),
                    core=BOTH,
                )
            )
            system.core = SUT_CORE  # whose other users are watched
            found[f"{system.name}, both cores"] = lambda system=system: cases.http(system, "short", 16, seconds)
        found[f"{system.name}, 16 connections each"] = lambda: cases.http(system, "short", 32, seconds)
        return rounds(count, found)


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    seconds, only = given.seconds, given.only
    with contextlib.ExitStack() as stack:
        direct = stack.enter_context(provider(folder, CHUNKS, CHUNK_MS))
        result: dict[str, Any] = {} if only else {"start": starts(folder, direct.http)}
        ours = stack.enter_context(gateway(folder / "gateway", direct.http))
        idle_mb = rss_mb(ours.pid)
        found = cases.of_peer(ours, direct, seconds) | cases.of_gateway(ours, direct, seconds)
        bare = stack.enter_context(gateway(folder / "bare", direct.http, name="bare gateway", accounts=""))
        found |= cases.of_bare(bare, seconds)
        floor = stack.enter_context(python_server("yardstick", folder, direct.http))
        found |= cases.of_peer(floor, direct, seconds)
        grpc = stack.enter_context(python_server("bare_grpc", folder))
        found[grpc.name] = lambda: cases.grpc(grpc, "short")
        for name, peer in peers.installed().items():
            if any(only in case for case in (f"{name} c=16", f"{name} added, c=1", f"{name} a streamed chunk")):
                system = stack.enter_context(peer.start(folder, direct.http))
                found |= cases.of_peer(system, direct, seconds, streaming=peer.streams)
        found["mock provider c=1"] = lambda: cases.http(direct, "short", 1, seconds)
        found["assessor, in a loop"] = cases.assessor
        print(f"gateway: pid {ours.pid}; logs and ledger in {folder}", flush=True)
        result["cases"] = rounds(given.rounds, {name: case for name, case in found.items() if only in name})
        if not only:
            result["memory"] = memory(ours, idle_mb, given.served)
        if not only or only in "workers":
            result["cases"] |= two_workers(folder, direct.http, given.rounds, seconds)
    return result


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=3, help="of each run of the load")
    options.add_argument("--served", type=int, default=SERVED, help="requests before memory is read again; 0: not")
    options.add_argument("--only", default="", metavar="TEXT", help="only cases whose name contains TEXT; not saved")
    options.add_argument("--no-save", action="store_true", help="write no file in results/")
    options.add_argument("--keep", action="store_true", help="leave the folder with logs and ledger in place")
    given = options.parse_args()
    report.require(cc="gcc", taskset="util-linux")
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    result: dict[str, Any] = {"machine": report.machine(), "rounds": given.rounds, "seconds": given.seconds}
    result["load_before"] = os.getloadavg()
    folder = Path(tempfile.mkdtemp(prefix="model-gateway-bench-"))
    try:
        result |= measure(folder, given)
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    report.show(result)
    if not (given.no_save or given.only):
        print(f"written to {report.save(result)}")


if __name__ == "__main__":
    main()
