"""What is measured: the gateway in the configurations of the benchmark, and how it and the mock provider are started.

`full` is the gateway as a user runs it with everything on; `bare` is the same without keys, limits and budgets, which
is what the results before December 2026 measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes import LOAD_CORE, SUT_CORE, free_port, running, wait_for

HERE = Path(__file__).parent
BUILD = HERE / "build"
BIN = Path(sys.executable).parent
KEY = "mgw_bench_0123456789abcdefghijklmnopqrstuvwxyzABCDE"
QUESTION = b'{"model":"auto","messages":[{"role":"user","content":"Explain what a black hole is"}]}'
PLAIN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
"""The environment of everything that is started: no variable of the caller's changes the configuration."""

GATEWAY = """
server: {{port: {grpc}, http_port: {http}, control_port: {control}}}
providers:
  embedded: {{status: offline}}
  mock:
    base_url: http://127.0.0.1:{upstream}/v1
    default_model: mock-model
    supported_model_types: [local, hybrid, remote]
    max_concurrent_queries: 10000
    connect_timeout: 60000  # its queue holds 4,096: of 5,000 streams that open at once some wait
    price_per_million_input: 0.5
    price_per_million_output: 1.5
{providers}logging: {{destination: file, file: {{path: {folder}/gateway.log}}}}
ledger: {{path: {folder}/ledger.db, flush_interval: {flush_ms}{database}}}
cache: {{max_size: 1000{redis}}}
"""

KEYS = """
keys:
  - name: bench
    key: {key}
    tenant: bench
    requests_per_minute: 100000000
    tokens_per_minute: 100000000000
    max_concurrent: 10000
    budget: 1000000
    budget_per: day
"""

BUDGETS = """
budgets:
  wait: 60000  # a machine that is busy with something else refuses nothing
  limits:
    - {name: all, usd: 10000000, per: month}
"""

ACCOUNTS = KEYS.format(key=KEY) + BUDGETS


@dataclass
class System:
    """One that is running. `http`, `grpc`, `control` are ports, 0 where it has none; `facts`: figures of its start;
    `fields`: lines that it needs in the header of a request."""

    name: str
    pid: int
    http: int
    grpc: int = 0
    control: int = 0
    key: str = ""
    core: str = SUT_CORE
    fields: tuple[str, ...] = ()
    facts: dict[str, float] = field(default_factory=dict[str, float])


def compiled(name: str) -> Path:
    """The program made of `name`.c, compiled anew where that is newer."""
    BUILD.mkdir(exist_ok=True)
    source, program = HERE / f"{name}.c", BUILD / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-o", str(program), str(source), "-lm"], check=True)
    return program


def load(*command: str, timeout_s: float = 300) -> dict[str, Any]:
    """Run a load generator on its own core; the JSON it printed."""
    full = ["taskset", "-c", LOAD_CORE, *command]
    done = subprocess.run(full, capture_output=True, text=True, env=PLAIN, timeout=timeout_s)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout[done.stdout.index("{") :])


@contextlib.contextmanager
def provider(folder: Path, chunks: int, chunk_ms: int) -> Iterator[System]:
    """The mock: a stream of it has `chunks` chunks, one every `chunk_ms`."""
    port = free_port()
    command = [str(compiled("upstream")), str(port), str(chunks), str(chunk_ms)]
    with running(command, LOAD_CORE, folder / "upstream.out") as process:
        wait_for(f"http://127.0.0.1:{port}/v1/chat/completions", process, QUESTION)
        yield System("mock provider", process.pid, port, core=LOAD_CORE)


@contextlib.contextmanager
def gateway(
    folder: Path,
    upstream: int,
    *,
    name: str = "gateway",
    accounts: str | None = None,
    providers: str = "",
    under: Sequence[str] = (),
    arguments: Sequence[str] = (),
    flush_ms: int = 200,
    database: str = "",
    redis: str = "",
    core: str = SUT_CORE,
    timeout_s: float = 30,
    source: Path | None = None,
) -> Iterator[System]:
    """`accounts`: keys and budgets, by default those of `full`, "" for none; `providers`: more of them.

    `database`, `redis`: addresses of what it shares with others.

    `under`: a program that runs it, such as valgrind; `arguments` of `serve`; `source`: in place of this checkout's.
    """
    ports = {"grpc": free_port(), "http": free_port(), "control": free_port()}
    settings = {"folder": folder, "providers": providers, "upstream": upstream, "flush_ms": flush_ms}
    settings["database"] = f", url: '{database}'" if database else ""
    settings["redis"] = f", redis: {{url: '{redis}'}}" if redis else ""
    text = GATEWAY.format(**settings, **ports)
    text += ACCOUNTS if accounts is None else accounts
    folder.mkdir(exist_ok=True)
    config = folder / "gateway.yaml"
    config.write_text(text)
    key = KEY if KEY in text else ""
    command = [*under, str(BIN / "python"), "-m", "model_gateway.cli", "serve", "--config", str(config), *arguments]
    environment = {**PLAIN, "PYTHONHASHSEED": "0"} | ({"PYTHONPATH": str(source)} if source else {})
    begun = time.perf_counter()
    with running(command, core, folder / "gateway.out", cwd=folder, env=environment) as process:
        ready_s = wait_for(f"http://127.0.0.1:{ports['control']}/health/ready", process, timeout_s=timeout_s)
        url = f"http://127.0.0.1:{ports['http']}/v1/chat/completions"
        wait_for(url, process, QUESTION, timeout_s=timeout_s, key=key)
        facts = {"ready_s": ready_s, "first_s": time.perf_counter() - begun}
        yield System(name, process.pid, key=key, core=core, facts=facts, **ports)
