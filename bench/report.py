"""A benchmark's result: the readable table, the machine it ran on, and the JSON file it is kept in."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import peers

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("model-gateway", "grpcio", "uvloop", "httptools", "msgspec", "pydantic", "sqlalchemy")
DISTURBED = 0.05
"""Share of the measured core that other processes may take before the table says so."""
YARDSTICKS = ("nginx", "Python forwarder")


def require(**tools: str) -> None:
    """End with what to install where a program is missing, or a second core. `tools`: Debian's package by program."""
    for tool, package in tools.items():
        if shutil.which(tool) is None:
            raise SystemExit(f"error: {tool} is not installed; on Debian and Ubuntu: apt install {package}")
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("error: the benchmark needs two cores, one of them for the load")


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
        "peers": peers.versions() | {"nginx": first_line("nginx", "-v"), "Node.js": first_line("node", "--version")},
        "commit": first_line("git", "-C", here, "describe", "--always", "--dirty", "--exclude=*"),
    }


def ratios(cases: dict[str, Any], name: str) -> list[str]:
    """CPU of a case of the gateway over that of the same case of each yardstick; "" where there is none."""
    found: list[str] = []
    for yardstick in YARDSTICKS:
        same = name.replace("bare gateway", yardstick).replace("gateway", yardstick)
        other = cases.get(same, {}).get("cpu_us") if "gateway" in name else None
        found.append(f"{cases[name]['cpu_us']['median'] / other['median']:.1f}" if other else "")
    return found


def show(result: dict[str, Any]) -> None:
    """Print the table: medians, and of the CPU time also the lowest and highest round."""
    facts, cases = result["machine"], result["cases"]
    print(f"\n{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}")
    print(f"commit {facts['commit']}, {result['rounds']} rounds, {result['seconds']:g} s each\n")
    heads = ("CPU µs", "low–high", "× nginx", "× floor", "p50 µs", "p99 µs", "added p50", "p99", "per s")
    print(f"{'case':30} " + " ".join(f"{head:>{14 if '–' in head else 9}}" for head in heads))
    for name, figures in cases.items():
        if "cpu_us" not in figures:
            continue
        cpu = figures["cpu_us"]
        wanted = ("p50_us", "p99_us", "added_p50_us", "added_p99_us", "per_s")
        rest = (figures.get(figure, {}).get("median") for figure in wanted)
        cells = " ".join(f"{value:9,.0f}" if value else f"{'':9}" for value in rest)
        spread = f"{cpu['low']:,.0f}–{cpu['high']:,.0f}"
        times = " ".join(f"{ratio:>9}" for ratio in ratios(cases, name))
        noisy = "  disturbed" if figures["others"]["high"] > DISTURBED and not name.startswith("mock") else ""
        print(f"{name:30} {cpu['median']:9,.1f} {spread:>14} {times} {cells}{noisy}".rstrip())
    print("\nCPU µs: of all threads and processes of the system, per request or per streamed chunk.")
    print("× floor: over the plain Python forwarder; added: latency over a call straight to the provider.")
    print("disturbed: in some round other processes took more than 5 % of the measured core.")
    for name, value in cases.get("assessor, in a loop", {}).items():
        print(f"assessor, {name}: {value['median']:,.0f} µs")
    one = cases.get("1 worker, both cores")
    for asked in ("both cores", "16 connections each"):
        two = cases.get(f"2 workers, {asked}")
        if one and two:
            carried = 2 * one["cpu_us"]["median"] / two["cpu_us"]["median"]
            print(f"two workers ({asked}) carry {carried:.2f} times what one carries, by CPU per request")
    for figure, value in result.get("memory", {}).items():
        print(f"memory, {figure}: {value:.0f}")
    for figure in ("ready_s", "first_s") if "start" in result else ():
        start = result["start"][figure]
        print(f"start, {figure}: {start['median']:.2f} ({start['low']:.2f}–{start['high']:.2f})")


def saved() -> list[Path]:
    """All results, the oldest first."""
    return sorted(RESULTS.glob("20*.json"), key=lambda path: (path.stem[:10], int(path.stem[11:])))


def save(result: dict[str, Any]) -> Path:
    """Write results/DATE-N.json, N counting the day's results from 1."""
    RESULTS.mkdir(exist_ok=True)
    today = datetime.datetime.now(datetime.UTC).date()
    number = 1
    while (path := RESULTS / f"{today}-{number}.json").exists():
        number += 1
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
