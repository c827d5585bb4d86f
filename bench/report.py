"""A benchmark's result: the readable table, the machine it ran on, and the JSON file it is kept in."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("model-gateway", "grpcio", "uvloop", "httptools", "msgspec", "pydantic", "sqlalchemy")
DISTURBED = 0.05
"""Share of the measured core that other processes may take before the table says so."""


def first_line(*command: str) -> str:
    """What a tool says first when asked for its version, on either stream; empty when it is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return ""
    return next(iter((done.stdout + done.stderr).splitlines()), "").strip()


def machine() -> dict[str, Any]:
    """The facts that a comparison between two results needs."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    here = str(Path(__file__).parent)
    return {
        "cpu": model.partition(":")[2].strip() or platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "nginx": first_line("nginx", "-v"),
        "wrk": first_line("wrk", "-v"),
        "commit": first_line("git", "-C", here, "describe", "--always", "--dirty", "--exclude=*"),
    }


def show(result: dict[str, Any]) -> None:
    """Print the table: medians, and of the CPU time also the lowest and highest round."""
    facts = result["machine"]
    print(f"\n{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {facts['nginx'] or 'no nginx'}")
    print(f"commit {facts['commit']}, {result['rounds']} rounds, {result['seconds']:g} s each\n")
    print(f"{'case':30} {'CPU µs':>8} {'low–high':>15} {'× nginx':>8} {'p50 µs':>8} {'p99 µs':>8} {'per s':>8}")
    cases = result["cases"]
    for name, figures in cases.items():
        cpu = figures["cpu_us"]
        peer = cases.get(name.replace("gateway", "nginx"), {}) if name.startswith("gateway") else {}
        ratio = f"{cpu['median'] / peer['cpu_us']['median']:.1f}" if peer else ""
        rest = (figures.get(figure, {}).get("median") for figure in ("p50_us", "p99_us", "per_s"))
        cells = " ".join(f"{value:8,.0f}" if value else f"{'':8}" for value in rest)
        spread = f"{cpu['low']:.1f}–{cpu['high']:.1f}"
        used = f"{cpu['median']:8.1f} {spread:>15}" if cpu["high"] else f"{'':8} {'':15}"
        noisy = "  disturbed" if figures["others"]["high"] > DISTURBED and not name.startswith("mock") else ""
        print(f"{name:30} {used} {ratio:>8} {cells}{noisy}".rstrip())
    memory, start = result["memory"], result["start"]
    print("\nCPU µs: of the gateway or nginx, all its threads and processes, per request or (streams) per chunk.")
    print("disturbed: in some round other processes took more than 5 % of the measured core.")
    print(f"memory {memory['idle_mb']:.0f} MB idle, {memory['after_load_mb']:.0f} MB after the load")
    print(
        f"start  {start['ready_s']['median']:.2f} s to ready, {start['answer_s']['median']:.3f} s to the first answer "
        f"(median of {start['times']}; {start['ready_s']['low']:.2f}–{start['ready_s']['high']:.2f} s)"
    )


def save(result: dict[str, Any]) -> Path:
    """Write results/DATE-N.json, N counting the day's results from 1."""
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    today = datetime.datetime.now(datetime.UTC).date()
    number = 1
    while (path := folder / f"{today}-{number}.json").exists():
        number += 1
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
