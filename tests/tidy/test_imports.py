"""What a process does not load: each of these is megabytes, in every one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ANYWHERE = {
    "alembic": "databases that must be migrated",
    "click": "nobody; uvicorn's command line takes it along",
    "genai_prices": "models whose price is not configured",
    "google.protobuf": "clients of the gRPC door",
    "greenlet": "nobody; structlog takes it along",
    "grpc": "clients, and reflection when somebody asks",
    "importlib.metadata": "whoever looks for plugins; five libraries take it along",
    "multiprocessing": "nobody; uvicorn's command line takes it along",
    "opentelemetry": "nobody; redis takes it along",
    "prometheus_client": "whoever asks for /metrics",
    "pygments": "nobody; rich takes it along",
    "redis": "several machines; portalocker takes it along",
    "rich": "tracebacks in colour; structlog takes it along",
    "splintr": "streams that were cut",
    "sqlalchemy.dialects.postgresql": "ledgers in PostgreSQL",
    "statistics": "a page of the dashboard",
    "typer": "commands other than `serve`",
    "urllib.request": "who has a proxy",
    "watchfiles": "`dev`; uvicorn's command line takes it along",
}
"""Module → who needs it."""

IN_WORKERS = {
    "starlette": "the control plane",
    "uvicorn": "the control plane",
    "yaml": "who reads the configuration",
}

IN_SUPERVISORS = {
    "model_gateway.pipeline": "who answers requests",
}

ALONE = {
    "model_gateway.workers.fleet": "several processes",
}


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("model_gateway.cli.entry, model_gateway.cli.serve, model_gateway.app", ANYWHERE | ALONE),
        (
            "model_gateway.cli.entry, model_gateway.cli.serve, model_gateway.workers.supervisor",
            ANYWHERE | IN_SUPERVISORS,
        ),
        ("model_gateway.workers.worker", ANYWHERE | IN_WORKERS),
    ],
    ids=["alone", "supervisor", "worker"],
)
def test_a_process_loads_only_what_it_uses(modules: str, unwanted: dict[str, str]) -> None:
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert not {name: who for name, who in unwanted.items() if name in loaded}


SERVING = """
import asyncio, sys
from model_gateway.cli import entry, serve
from model_gateway.app import App
from model_gateway.config.schema import GatewayConfig

ANSWER = (
    b'{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"Cold."}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)

def message(first, body=b"", field=b"Host: h"):
    head = b"%b\\r\\n%b\\r\\nContent-Type: application/json\\r\\nContent-Length: %d\\r\\n\\r\\n"
    return head % (first, field, len(body)) + body

async def provide(reader, writer):
    await reader.readuntil(b'"model":"m"')
    writer.write(message(b"HTTP/1.1 200 OK", ANSWER))

async def ask(port, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    status = await reader.readline()
    writer.close()
    assert status.split()[1] == b"200", status

async def main():
    provider = await asyncio.start_server(provide, "127.0.0.1", 0)
    url = "http://127.0.0.1:%d/v1" % provider.sockets[0].getsockname()[1]
    mock = {"base_url": url, "default_model": "m", "supported_model_types": ["local", "hybrid", "remote"]}
    mock |= {"price_per_million_input": 1, "price_per_million_output": 1}
    key = "mgw_test_0123456789abcdefghijklmnopqrstuvwxyzABCDE"
    config = GatewayConfig.model_validate({
        "server": {"port": 0, "http_port": 0, "control_port": 0},
        "providers": {"mock": mock},
        "logging": {"destination": "file"},
        "keys": [{"name": "k", "key": key, "requests_per_minute": 9, "tokens_per_minute": 9999, "budget": 1}],
        "budgets": {"limits": [{"name": "all", "usd": 1}]},
    })
    async with App(config) as app:
        body = b'{"model":"auto","messages":[{"role":"user","content":"Explain what snow is"}]}'
        await ask(app.control_port, message(b"GET /health/ready HTTP/1.1"))
        bearer = b"Host: h\\r\\nAuthorization: Bearer %b" % key.encode()
        await ask(app.http_port, message(b"POST /v1/chat/completions HTTP/1.1", body, bearer))
        print(*sys.modules)

asyncio.run(main())
"""


def test_a_process_that_has_answered_has_loaded_no_more(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith(("_proxy", "_key"))}
    done = subprocess.run(
        [sys.executable, "-c", SERVING],
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path, env=environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "model_gateway.pipeline" in loaded
    assert not {name: who for name, who in (ANYWHERE | ALONE).items() if name in loaded}
