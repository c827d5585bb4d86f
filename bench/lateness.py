"""How late is the event loop at half load, and does the interpreter's switch interval (5 ms by default) matter?

The ledger's and the log's threads, and gRPC's, run Python beside the loop: who wants the interpreter while one of them
has it waits for up to that interval. Each interval is measured in turn in every round, on a gateway of its own with
everything on; a timer of 2 ms in its loop notes how late it comes. Only a quiet machine says anything.

    .venv/bin/python bench/lateness.py --rounds 5 0.005 0.001 0.0005 0.0001
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import cases
import report
from processes import LOAD_CORE
from systems import gateway, load, provider

SHARES = (0.5, 0.9, 0.99, 0.999)
# Python imports a module of this name by itself when it starts: nothing of the gateway's is changed.
INSIDE = """
import sys
if "serve" in sys.orig_argv:
    import atexit, json, time, uvloop
    sys.setswitchinterval({interval})
    make, late = uvloop.new_event_loop, []
    def new_event_loop():
        loop = make()
        def tick(due):
            now = time.perf_counter()
            late.append(now - due)
            loop.call_later(0.002, tick, now + 0.002)
        loop.call_later(1, tick, time.perf_counter() + 1)
        return loop
    uvloop.new_event_loop = new_event_loop
    def tell():
        late.sort()
        with open({out!r}, "w") as file:
            json.dump([late[int(len(late) * share)] * 1e6 for share in {shares}], file)
    atexit.register(tell)
"""


def measured(interval: float, seconds: float) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="model-gateway-lateness-"))
    try:
        out = folder / "late.json"
        (folder / "sitecustomize.py").write_text(INSIDE.format(interval=interval, out=str(out), shares=SHARES))
        with provider(folder, 100, 20) as upstream, gateway(folder / "gateway", upstream.http, source=folder) as system:
            rate = cases.http(system, "short", cases.HALF_LOAD_CONNECTIONS, seconds / 2)["per_s"] / 2
            how = ("-t", f"{seconds:g}", "-r", f"{rate:.1f}")
            line = cases.command(system, "short", cases.HALF_LOAD_CONNECTIONS, *how)
            found = cases.metered(system, "requests", lambda: load(*line))
        late = {f"late {share:g}": us for share, us in zip(SHARES, json.loads(out.read_text()), strict=True)}
        return {name: found[name] for name in ("cpu_us", "p50_us", "p99_us", "others")} | late
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("intervals", nargs="*", type=float, default=[0.005, 0.0005], help="seconds")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=4)
    given = options.parse_args()
    report.require(cc="gcc", taskset="util-linux")
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    found: dict[float, list[dict[str, float]]] = {interval: [] for interval in given.intervals}
    for _ in range(given.rounds):
        for interval, figures in found.items():
            figures.append(measured(interval, given.seconds))
            print(f"{interval:g} s: " + ", ".join(f"{k} {v:,.1f}" for k, v in figures[-1].items()), flush=True)
    print("medians")
    for interval, figures in found.items():
        medians = {name: statistics.median(each[name] for each in figures) for name in figures[0]}
        print(f"{interval:g} s: " + ", ".join(f"{name} {value:,.1f}" for name, value in medians.items()))


if __name__ == "__main__":
    main()
