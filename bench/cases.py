"""The cases of the benchmark: what is sent to a system, and which figures come of it. Each is measured once a round."""

from __future__ import annotations

import re
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from processes import busy_us, cpu_us
from systems import HERE, System, compiled, load

STREAMS = 64
CALLS = 2_000
HALF_LOAD_CONNECTIONS = 16

Figures = dict[str, float]
Case = Callable[[], Figures]


def metered(system: System, unit: str, run: Callable[[], dict[str, Any]]) -> Figures:
    """What `run` found, with the system's CPU µs per `unit` and the share of its core that others took."""
    cpu, busy, begun = cpu_us(system.pid), busy_us(system.core), time.perf_counter()
    found = run()
    used, wall = cpu_us(system.pid) - cpu, (time.perf_counter() - begun) * 1e6
    others = max(0.0, (busy_us(system.core) - busy - used) / wall)
    if found.pop("errors", 0) or not found[unit]:
        raise SystemExit(f"{system.name}: requests failed; run with --keep and read the logs")
    return {"cpu_us": used / found[unit], "per_s": found[unit] / found.pop("seconds"), "others": others, **found}


def command(system: System, kind: str, connections: int, *how: str) -> list[str]:
    """`load` for this system; `how`: -t SECONDS or -n COUNT, and -r RATE."""
    options = ["-p", str(system.http), "-c", str(connections), "-k", kind, "-s", str(time.time_ns()), *how]
    options += ["-a", system.key] if system.key else []
    for line in system.fields:
        options += ["-H", line]
    return [str(compiled("load")), *options]


def http(system: System, kind: str, connections: int, seconds: float) -> Figures:
    hits = cache_hits(system)
    line = command(system, kind, connections, "-t", f"{seconds:g}")
    figures = metered(system, "requests", lambda: load(*line))
    if system.control:
        share = (cache_hits(system) - hits) / figures["requests"]
        if (share > 0) if kind != "same" else (share < 0.9):
            raise SystemExit(f"{share:.0%} of the {kind!r} requests came from the cache: the figures would be void")
    return figures


def cache_hits(system: System) -> int:
    if not system.control:
        return 0
    with urllib.request.urlopen(f"http://127.0.0.1:{system.control}/metrics", timeout=5) as reply:
        found = re.search(rb'^model_gateway_cache_total{result="hit"} (\S+)', reply.read(), re.MULTILINE)
    return int(float(found[1])) if found else 0


def streams(system: System, count: int = STREAMS) -> Figures:
    figures = metered(system, "chunks", lambda: load(*command(system, "stream", count, "-n", str(count))))
    return {name: value for name, value in figures.items() if name not in ("p50_us", "p99_us")}  # of whole streams


def grpc(system: System, kind: str) -> Figures:
    line = (sys.executable, str(HERE / "queries.py"), str(system.grpc), str(CALLS), kind, system.key)
    return metered(system, "requests", lambda: load(*line))


def added(system: System, direct: System, seconds: float) -> Figures:
    """Latency over a call straight to the provider in the same moment, one connection, microseconds."""
    ours, theirs = http(system, "short", 1, seconds), http(direct, "short", 1, seconds)
    return {
        "cpu_us": ours["cpu_us"],
        "added_p50_us": ours["p50_us"] - theirs["p50_us"],
        "added_p99_us": ours["p99_us"] - theirs["p99_us"],
        "others": ours["others"],
    }


def half_load(system: System, direct: System, seconds: float) -> Figures:
    """Latency added at half of what the system can carry, measured just before; requests are due at random moments."""
    rate = http(system, "short", HALF_LOAD_CONNECTIONS, seconds / 2)["per_s"] / 2
    how = ("-t", f"{seconds:g}", "-r", f"{rate:.1f}")
    ours = metered(system, "requests", lambda: load(*command(system, "short", HALF_LOAD_CONNECTIONS, *how)))
    theirs = load(*command(direct, "short", HALF_LOAD_CONNECTIONS, *how))
    return {
        "cpu_us": ours["cpu_us"],
        "per_s": ours["per_s"],
        "added_p50_us": ours["p50_us"] - theirs["p50_us"],
        "added_p99_us": ours["p99_us"] - theirs["p99_us"],
        "others": ours["others"],
    }


def assessor() -> Figures:
    return {f"{name}": value for name, value in load(sys.executable, str(HERE / "assessor.py")).items()}


def of_peer(system: System, direct: System, seconds: float, *, streaming: bool = True) -> dict[str, Case]:
    """What is asked of everything that forwards chat completions."""
    name = system.name
    cases: dict[str, Case] = {
        f"{name} c=16": lambda: http(system, "short", 16, seconds),
        f"{name} added, c=1": lambda: added(system, direct, seconds / 2),
    }
    if streaming:
        cases[f"{name} a streamed chunk"] = lambda: streams(system)
    return cases


def of_gateway(system: System, direct: System, seconds: float) -> dict[str, Case]:
    """What else is asked of the gateway with everything on."""
    name = system.name
    return {
        f"{name} c=1": lambda: http(system, "short", 1, seconds),
        f"{name} c=64": lambda: http(system, "short", 64, seconds),
        f"{name} c=16, 500 characters": lambda: http(system, "long", 16, seconds),
        f"{name} c=16, cache hit": lambda: http(system, "same", 16, seconds),
        f"{name} c=16, translated": lambda: http(system, "messages", 16, seconds),
        f"{name} c=16, half load": lambda: half_load(system, direct, seconds),
        f"{name} gRPC": lambda: grpc(system, "short"),
        f"{name} gRPC, cache hit": lambda: grpc(system, "same"),
    }


def of_bare(system: System, seconds: float) -> dict[str, Case]:
    """What the gateway without keys, limits and budgets is compared in."""
    name = system.name
    return {
        f"{name} c=16": lambda: http(system, "short", 16, seconds),
        f"{name} c=16, 500 characters": lambda: http(system, "long", 16, seconds),
        f"{name} c=16, cache hit": lambda: http(system, "same", 16, seconds),
        f"{name} a streamed chunk": lambda: streams(system),
        f"{name} gRPC": lambda: grpc(system, "short"),
    }
