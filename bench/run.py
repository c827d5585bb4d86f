"""`make bench`: CPU per request and per streamed chunk, latency, memory and start-up, beside nginx as a plain proxy.

The system under test is pinned to one core; the load, the mock provider and this program to another. Each figure is the
median of interleaved rounds, with its spread. Needs cc, wrk and taskset; nginx is measured when it is installed.
README.md in this folder says what the figures mean and how to profile a case.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import report
from processes import LOAD_CORE, SUT_CORE, busy_us, cpu_us, free_port, rss_mb, running, wait_for

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
STREAMS, CHUNKS, CHUNK_MS = 64, 100, 20
CALLS = 4_000
STARTS = 3
QUESTION = b'{"model":"auto","messages":[{"role":"user","content":"Explain what a black hole is"}]}'
PLAIN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
"""The environment of everything that is started: no variable of the caller's changes the configuration."""

Figures = dict[str, float]
Cases = dict[str, Callable[[], Figures]]

GATEWAY = """
server: {{port: {grpc}, http_port: {http}, control_port: {control}}}
providers:
  embedded: {{status: offline}}
  mock:
    base_url: http://127.0.0.1:{upstream}/v1
    default_model: mock-model
    supported_model_types: [local, hybrid, remote]
    max_concurrent_queries: 1000
    price_per_million_input: 0.5
    price_per_million_output: 1.5
logging: {{destination: file, file: {{path: {folder}/gateway.log}}}}
ledger: {{path: {folder}/ledger.db}}
cache: {{max_size: 1000}}
"""

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 100000000;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{http};
    location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; }}
  }}
}}
"""


def load(*command: str, **environment: str) -> dict[str, Any]:
    """Run a load generator on its own core; the JSON it printed."""
    full = ["taskset", "-c", LOAD_CORE, *command]
    done = subprocess.run(full, capture_output=True, text=True, env={**PLAIN, **environment}, timeout=120)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout[done.stdout.index("{") :])


def metered(peer: dict[str, Any], unit: str, run: Callable[[], dict[str, Any]]) -> Figures:
    """What `run` found, with the peer's CPU µs per `unit` and the share of its core that others took."""
    pid, core = peer["pid"], peer.get("core", SUT_CORE)
    cpu, busy, begun = cpu_us(pid), busy_us(core), time.perf_counter()
    found = run()
    used, wall = cpu_us(pid) - cpu, (time.perf_counter() - begun) * 1e6
    others = max(0.0, (busy_us(core) - busy - used) / wall)
    if found.pop("errors", 0):
        raise SystemExit("requests failed: run with --keep and read the logs")
    return {"cpu_us": used / found[unit], "per_s": found[unit] / found.pop("seconds"), "others": others, **found}


def wrk(peer: dict[str, Any], kind: str, connections: int, seconds: float) -> Figures:
    options = ["-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(HERE / "load.lua")]
    url = f"http://127.0.0.1:{peer['http']}"
    hits = cache_hits(peer)
    salt = str(time.time_ns())
    figures = metered(peer, "requests", lambda: load("wrk", *options, url, KIND=kind, SALT=salt))
    if "control" in peer:
        share = (cache_hits(peer) - hits) / figures["requests"]
        if (share > 0) if kind != "same" else (share < 0.9):
            raise SystemExit(f"{share:.0%} of the {kind!r} requests came from the cache: the figures would be void")
    return figures


def cache_hits(peer: dict[str, Any]) -> int:
    if "control" not in peer:
        return 0
    with urllib.request.urlopen(f"http://127.0.0.1:{peer['control']}/metrics", timeout=5) as reply:
        found = re.search(rb'^model_gateway_cache_total{result="hit"} (\S+)', reply.read(), re.MULTILINE)
    return int(float(found[1])) if found else 0


def streams(peer: dict[str, Any]) -> Figures:
    command = (str(HERE / "streams.py"), str(peer["http"]), str(STREAMS), str(time.time_ns()))
    return metered(peer, "chunks", lambda: load(sys.executable, *command))


def queries(peer: dict[str, Any], kind: str) -> Figures:
    command = (str(HERE / "queries.py"), str(peer["grpc"]), str(CALLS), kind, "")
    return metered(peer, "requests", lambda: load(sys.executable, *command))


@contextlib.contextmanager
def gateway(folder: Path, upstream: int) -> Iterator[dict[str, Any]]:
    ports = {"grpc": free_port(), "http": free_port(), "control": free_port()}
    config = folder / "gateway.yaml"
    config.write_text(GATEWAY.format(folder=folder, upstream=upstream, **ports))
    command = [str(BIN / "model-gateway"), "serve", "--config", str(config)]
    with running(command, SUT_CORE, folder / "gateway.out", cwd=folder, env=PLAIN) as process:
        ready_s = wait_for(f"http://127.0.0.1:{ports['control']}/health/ready", process)
        answer_s = wait_for(f"http://127.0.0.1:{ports['http']}/v1/chat/completions", process, QUESTION)
        yield {"pid": process.pid, "ready_s": ready_s, "answer_s": answer_s, **ports}


@contextlib.contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[dict[str, Any]]:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream, http=port))
    with running([shutil.which("nginx") or "nginx", "-c", str(config)], SUT_CORE, folder / "nginx.out") as process:
        wait_for(f"http://127.0.0.1:{port}/v1/chat/completions", process, QUESTION)
        yield {"pid": process.pid, "http": port}


@contextlib.contextmanager
def bare_grpc(folder: Path) -> Iterator[dict[str, Any]]:
    port = free_port()
    command = [sys.executable, str(HERE / "bare_grpc.py"), str(port)]
    with running(command, SUT_CORE, folder / "bare_grpc.out", env=PLAIN) as process:
        load(sys.executable, str(HERE / "queries.py"), str(port), "16", "same", "")
        yield {"pid": process.pid, "grpc": port}


def rounds(count: int, cases: Cases) -> dict[str, dict[str, Any]]:
    """Every case once a round, in turn; per figure the median and the spread."""
    seen: dict[str, list[Figures]] = {name: [] for name in cases}
    for number in range(count):
        for name, case in cases.items():
            seen[name].append(case())
            line = ", ".join(f"{figure} {value:,.2f}" for figure, value in seen[name][-1].items())
            print(f"  round {number + 1}/{count} {name}: {line}", flush=True)
    return {name: {figure: spread([r[figure] for r in found]) for figure in found[0]} for name, found in seen.items()}


def spread(values: list[float]) -> Figures:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def cases_of(name: str, peer: dict[str, Any], seconds: float) -> Cases:
    cases: Cases = {f"{name} c={c}": lambda c=c: wrk(peer, "short", c, seconds) for c in (1, 16, 64)}
    cases[f"{name} c=16, 500 characters"] = lambda: wrk(peer, "long", 16, seconds)
    cases[f"{name} {STREAMS} streams, a chunk"] = lambda: streams(peer)
    return cases


def measure(folder: Path, count: int, seconds: float, only: str) -> dict[str, Any]:
    upstream = free_port()
    mock = [str(HERE / "build" / "upstream"), str(upstream), str(CHUNKS), str(CHUNK_MS)]
    with contextlib.ExitStack() as stack:
        provider = stack.enter_context(running(mock, LOAD_CORE, folder / "upstream.out"))
        starts: list[dict[str, Any]] = []
        for _ in range(STARTS - 1):
            with gateway(folder, upstream) as started:
                starts.append(started)
        ours = stack.enter_context(gateway(folder, upstream))
        starts.append(ours)
        idle_mb = rss_mb(ours["pid"])
        cases = cases_of("gateway", ours, seconds)
        cases["gateway c=16, cache hit"] = lambda: wrk(ours, "same", 16, seconds)
        cases["gateway c=16, translated"] = lambda: wrk(ours, "messages", 16, seconds)
        cases["gateway gRPC"] = lambda: queries(ours, "short")
        cases["gateway gRPC, cache hit"] = lambda: queries(ours, "same")
        bare = stack.enter_context(bare_grpc(folder))
        cases["bare grpc.aio server"] = lambda: queries(bare, "short")
        if shutil.which("nginx"):
            cases |= cases_of("nginx", stack.enter_context(nginx(folder, upstream)), seconds)
        direct = {"pid": provider.pid, "http": upstream, "core": LOAD_CORE}
        cases["mock provider c=1"] = lambda: wrk(direct, "short", 1, seconds)
        print(f"gateway: pid {ours['pid']}; logs and ledger in {folder}", flush=True)
        found = rounds(count, {name: case for name, case in cases.items() if only in name})
        memory = {"idle_mb": idle_mb, "after_load_mb": rss_mb(ours["pid"])}
    start = {figure: spread([s[figure] for s in starts]) for figure in ("ready_s", "answer_s")}
    return {"cases": found, "memory": memory, "start": {"times": STARTS, **start}}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=4, help="of each wrk run")
    options.add_argument("--only", default="", metavar="TEXT", help="only cases whose name contains TEXT; not saved")
    options.add_argument("--no-save", action="store_true", help="write no file in results/")
    options.add_argument("--keep", action="store_true", help="leave the folder with logs and ledger in place")
    given = options.parse_args()
    for tool, package in (("cc", "gcc"), ("wrk", "wrk"), ("taskset", "util-linux")):
        if shutil.which(tool) is None:
            raise SystemExit(f"error: {tool} is not installed; on Debian and Ubuntu: apt install {package}")
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("error: the benchmark needs two cores, one of them for the load")
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    (HERE / "build").mkdir(exist_ok=True)
    subprocess.run(["cc", "-O2", "-o", str(HERE / "build" / "upstream"), str(HERE / "upstream.c")], check=True)
    result: dict[str, Any] = {"machine": report.machine(), "rounds": given.rounds, "seconds": given.seconds}
    folder = Path(tempfile.mkdtemp(prefix="model-gateway-bench-"))
    try:
        result |= measure(folder, given.rounds, given.seconds, given.only)
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    report.show(result)
    if not (given.no_save or given.only):
        print(f"written to {report.save(result)}")


if __name__ == "__main__":
    main()
