"""`make bench`: CPU per request and per streamed chunk, latency, memory and start-up, beside nginx as a plain proxy.

The system under test is pinned to one core, the load and the mock provider to the other. Each figure is the median of
interleaved rounds; the spread is printed beside it. Needs cc, wrk and taskset; nginx is measured when it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from processes import LOAD_CORE, SUT_CORE, cpu_us, free_port, rss_mb, running, wait_for

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
STREAMS, CHUNKS, CHUNK_MS = 64, 100, 20
QUESTION = b'{"model":"auto","messages":[{"role":"user","content":"Explain what a black hole is"}]}'

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


def load(*command: str, **environment: str) -> str:
    """Run a load generator on its own core; its standard output."""
    full = ["taskset", "-c", LOAD_CORE, *command]
    done = subprocess.run(full, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def wrk(port: int, pid: int, kind: str, connections: int, seconds: float) -> dict[str, float]:
    before = cpu_us(pid)
    script = str(HERE / "load.lua")
    output = load(
        "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", script, f"http://127.0.0.1:{port}", KIND=kind
    )
    used = cpu_us(pid) - before
    found = json.loads(output.partition("RESULT ")[2])
    if found["errors"]:
        raise SystemExit(f"{found['errors']} of {found['requests']} requests failed")
    rate = found["requests"] / found["seconds"]
    return {"cpu_us": used / found["requests"], "rps": rate, "p50_us": found["p50_us"], "p99_us": found["p99_us"]}


def streams(port: int, pid: int) -> dict[str, float]:
    before = cpu_us(pid)
    found = json.loads(load(sys.executable, str(HERE / "streams.py"), str(port), str(STREAMS), str(before)))
    return {"cpu_us_chunk": (cpu_us(pid) - before) / found["chunks"], "first_ms": found["first_ms"]}


def queries(port: int, pid: int, count: int) -> dict[str, float]:
    before = cpu_us(pid)
    found = json.loads(load(sys.executable, str(HERE / "queries.py"), str(port), str(count)))
    return {"cpu_us": (cpu_us(pid) - before) / found["requests"], "p50_us": found["p50_us"], "p99_us": found["p99_us"]}


@contextlib.contextmanager
def gateway(folder: Path, upstream: int) -> Iterator[dict[str, Any]]:
    ports = {"grpc": free_port(), "http": free_port(), "control": free_port()}
    config = folder / "gateway.yaml"
    config.write_text(GATEWAY.format(folder=folder, upstream=upstream, **ports))
    command = [str(BIN / "model-gateway"), "serve", "--config", str(config)]
    with running(command, SUT_CORE, folder / "gateway.out", cwd=folder) as process:
        ready_s = wait_for(f"http://127.0.0.1:{ports['control']}/health/ready", process)
        answer_s = wait_for(f"http://127.0.0.1:{ports['http']}/v1/chat/completions", process, QUESTION)
        yield {"pid": process.pid, "ready_s": ready_s, "answer_s": ready_s + answer_s, **ports}


@contextlib.contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[dict[str, Any]]:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream, http=port))
    with running([shutil.which("nginx") or "nginx", "-c", str(config)], SUT_CORE, folder / "nginx.out") as process:
        wait_for(f"http://127.0.0.1:{port}/v1/chat/completions", process, QUESTION)
        yield {"pid": process.pid, "http": port}


def rounds(count: int, cases: dict[str, Callable[[], dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Every case once a round, in turn; per figure the median and the spread."""
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for number in range(count):
        for name, case in cases.items():
            seen[name].append(case())
            print(f"  round {number + 1}/{count} {name}: {shown(seen[name][-1])}", flush=True)
    return {
        name: {
            figure: {
                "median": statistics.median(r[figure] for r in found),
                "low": min(r[figure] for r in found),
                "high": max(r[figure] for r in found),
            }
            for figure in found[0]
        }
        for name, found in seen.items()
    }


def shown(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:,.1f}" for name, value in figures.items())


def measure(folder: Path, count: int, seconds: float) -> dict[str, Any]:
    upstream = free_port()
    mock = [str(HERE / "build" / "upstream"), str(upstream), str(CHUNKS), str(CHUNK_MS)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(mock, LOAD_CORE, folder / "upstream.out"))
        ours = stack.enter_context(gateway(folder, upstream))
        idle_mb = rss_mb(ours["pid"])
        cases: dict[str, Callable[[], dict[str, float]]] = {}
        for connections in (1, 16, 64):
            cases[f"gateway c={connections}"] = lambda c=connections: wrk(
                ours["http"], ours["pid"], "unique", c, seconds
            )
        cases["gateway c=16, 500 characters"] = lambda: wrk(ours["http"], ours["pid"], "long", 16, seconds)
        cases["gateway c=16, cache hit"] = lambda: wrk(ours["http"], ours["pid"], "same", 16, seconds)
        cases["gateway streams"] = lambda: streams(ours["http"], ours["pid"])
        cases["gateway gRPC ProcessQuery"] = lambda: queries(ours["grpc"], ours["pid"], 4_000)
        cases["direct c=1"] = lambda: wrk(upstream, ours["pid"], "unique", 1, seconds)
        if shutil.which("nginx"):
            peer = stack.enter_context(nginx(folder, upstream))
            for connections in (1, 16, 64):
                cases[f"nginx c={connections}"] = lambda c=connections: wrk(
                    peer["http"], peer["pid"], "unique", c, seconds
                )
            cases["nginx streams"] = lambda: streams(peer["http"], peer["pid"])
        found = rounds(count, cases)
        memory = {"idle_mb": idle_mb, "after_load_mb": rss_mb(ours["pid"])}
        return {"cases": found, "memory": memory, "start": {k: ours[k] for k in ("ready_s", "answer_s")}}


def report(result: dict[str, Any]) -> None:
    print(f"\n{'case':34} {'CPU µs':>9} {'spread':>15} {'p50 µs':>8} {'p99 µs':>8} {'req/s':>8}")
    for name, figures in result["cases"].items():
        cpu = figures.get("cpu_us") or figures.get("cpu_us_chunk") or {"median": 0, "low": 0, "high": 0}
        rest = [figures.get(f, {}).get("median") for f in ("p50_us", "p99_us", "rps")]
        cells = " ".join(f"{value:8,.0f}" if value else f"{'':8}" for value in rest)
        print(f"{name:34} {cpu['median']:9.1f} {cpu['low']:7.1f}–{cpu['high']:<7.1f} {cells}")
    memory, start = result["memory"], result["start"]
    print(f"memory {memory['idle_mb']:.0f} MB idle, {memory['after_load_mb']:.0f} MB after the load")
    print(f"start  {start['ready_s']:.2f} s to ready, {start['answer_s']:.2f} s to the first answer")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=4, help="of each wrk run")
    options.add_argument("--no-save", action="store_true")
    given = options.parse_args()
    for tool, package in (("cc", "gcc"), ("wrk", "wrk"), ("taskset", "util-linux")):
        if shutil.which(tool) is None:
            raise SystemExit(f"error: {tool} is not installed; on Debian and Ubuntu: apt install {package}")
    (HERE / "build").mkdir(exist_ok=True)
    subprocess.run(["cc", "-O2", "-o", str(HERE / "build" / "upstream"), str(HERE / "upstream.c")], check=True)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), given.rounds, given.seconds)
    report(result)
    if not given.no_save:
        today = datetime.datetime.now(datetime.UTC).date()
        cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
        result["machine"] = {
            "cpu": cpu.partition(":")[2].strip(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        result["rounds"], result["seconds"] = given.rounds, given.seconds
        folder_path = HERE / "results"
        folder_path.mkdir(exist_ok=True)
        path = folder_path / f"{today}-{len(list(folder_path.glob(f'{today}-*'))) + 1}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
