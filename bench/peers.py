"""Other gateways on the same machine, each configured as its own documentation asks for production.

`make bench-peers` (`python bench/peers.py`) installs them under bench/build/peers; one that is missing is left out of
the benchmark. README.md says what each of them does and does not do, and which could not be installed from a registry.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from processes import SUT_CORE, free_port, running, wait_for
from systems import BIN, BUILD, PLAIN, QUESTION, System

FOLDER = BUILD / "peers"
LITELLM, LITELLM_BEFORE = "litellm[proxy]==1.108.7", "2026-11-15"  # the date pins what it depends on
ROLTER = "rolter==0.1.0"
PORTKEY = "@portkey-ai/gateway@1.15.2"
KEY = "sk-bench-0123456789abcdef"

NGINX_CONFIG = """
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

# docs.litellm.ai, "Production best practices": one uvicorn worker a core, no debug logs, no .env, batched spend.
# Without a database its key is the master key, and budgets and logs of requests are off.
LITELLM_CONFIG = """
model_list:
  - model_name: auto
    litellm_params:
      model: openai/mock-model
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: none
      input_cost_per_token: 0.0000005
      output_cost_per_token: 0.0000015
general_settings:
  master_key: {key}
  proxy_batch_write_at: 60
litellm_settings:
  request_timeout: 600
  set_verbose: false
  json_logs: true
  telemetry: false
"""

# The annotated example that it ships: a key, prices, retries; request logs need ClickHouse and are off.
ROLTER_CONFIG = """
[server]
host = "127.0.0.1"
port = {http}
require_auth = true
[[providers]]
name = "mock"
kind = "openai_compatible"
api_base = "http://127.0.0.1:{upstream}"
[[routes]]
model = "auto"
strategy = "round_robin"
[[routes.targets]]
provider = "mock"
model = "mock-model"
[[virtual_keys]]
key = "{key}"
name = "bench"
[[model_prices]]
model = "auto"
input_per_mtok = 0.5
output_per_mtok = 1.5
"""


@contextlib.contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[System]:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(folder=folder, upstream=upstream, http=port))
    with running([shutil.which("nginx") or "nginx", "-c", str(config)], SUT_CORE, folder / "nginx.out") as process:
        wait_for(f"http://127.0.0.1:{port}/v1/chat/completions", process, QUESTION)
        yield System("nginx", process.pid, port)


@contextlib.contextmanager
def rolter(folder: Path, upstream: int) -> Iterator[System]:
    port = free_port()
    config = folder / "rolter.toml"
    config.write_text(ROLTER_CONFIG.format(upstream=upstream, http=port, key=KEY))
    command = [str(FOLDER / "rolter" / "bin" / "rolter"), "gateway", "--config", str(config)]
    environment = {**PLAIN, "RUST_LOG": "warn"}
    with running(command, SUT_CORE, folder / "rolter.out", cwd=folder, env=environment) as process:
        seconds = wait_for(f"http://127.0.0.1:{port}/v1/chat/completions", process, QUESTION, key=KEY)
        yield System("rolter", process.pid, port, key=KEY, facts={"first_s": seconds})


@contextlib.contextmanager
def portkey(folder: Path, upstream: int) -> Iterator[System]:
    port = free_port()
    server = FOLDER / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    fields = ("x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{upstream}/v1")
    environment = {**PLAIN, "NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    command = ["node", str(server), f"--port={port}", "--headless"]
    with running(command, SUT_CORE, folder / "portkey.out", cwd=folder, env=environment) as process:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        seconds = wait_for(url, process, QUESTION, key=KEY, fields=fields)
        yield System("Portkey", process.pid, port, key=KEY, fields=fields, facts={"first_s": seconds})


@contextlib.contextmanager
def litellm(folder: Path, upstream: int) -> Iterator[System]:
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(upstream=upstream, key=KEY))
    command = [str(FOLDER / "litellm" / "bin" / "litellm"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--config", str(config), "--num_workers", "1"]
    environment = {
        **PLAIN,
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    with running(command, SUT_CORE, folder / "litellm.out", cwd=folder, env=environment) as process:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        seconds = wait_for(url, process, QUESTION, key=KEY, timeout_s=180)
        yield System("LiteLLM", process.pid, port, key=KEY, facts={"first_s": seconds})


@dataclass(frozen=True)
class Peer:
    program: Path
    """What is there when it is installed."""
    how: str
    start: Callable[[Path, int], AbstractContextManager[System]]
    streams: bool = True


# Portkey 1.15.2 answers every stream with 500 on Node 20 ("TypeError: immutable"), so its streams are not measured.
PEERS = {
    "nginx": Peer(Path(shutil.which("nginx") or "/usr/sbin/nginx"), "apt install nginx", nginx),
    "rolter": Peer(FOLDER / "rolter" / "bin" / "rolter", "make bench-peers", rolter),
    "Portkey": Peer(
        FOLDER / "portkey" / "node_modules" / "@portkey-ai" / "gateway", "make bench-peers", portkey, False
    ),
    "LiteLLM": Peer(FOLDER / "litellm" / "bin" / "litellm", "make bench-peers", litellm),
}


def installed() -> dict[str, Peer]:
    """Those that are here; says how to install the others."""
    for name, peer in PEERS.items():
        if not peer.program.exists():
            print(f"{name} is not measured: it is not installed ({peer.how})")
    return {name: peer for name, peer in PEERS.items() if peer.program.exists()}


def versions() -> dict[str, str]:
    return {"LiteLLM": LITELLM, "rolter": ROLTER, "Portkey": PORTKEY}


def main() -> None:
    """Install what a package registry has. About 650 MB, nearly all of it LiteLLM's."""
    uv, folder = str(BIN / "uv"), str(FOLDER)
    os.makedirs(folder, exist_ok=True)
    for name, what, more in (("rolter", ROLTER, ()), ("litellm", LITELLM, ("--exclude-newer", LITELLM_BEFORE))):
        subprocess.run([uv, "venv", "--quiet", "--allow-existing", f"{folder}/{name}"], check=True)
        python = f"{folder}/{name}/bin/python"
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *more, what], check=True)
    if shutil.which("npm") is None:
        print("Portkey is not installed: it needs Node.js and npm (apt install npm)")
        return
    command = [
        "npm",
        "install",
        "--prefix",
        f"{folder}/portkey",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        PORTKEY,
    ]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
