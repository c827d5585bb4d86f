"""What a process does not load: each of these is megabytes, in every one."""

from __future__ import annotations

import subprocess
import sys

import pytest

ANYWHERE = {
    "alembic": "databases that must be migrated",
    "click": "nobody; uvicorn's command line takes it along",
    "genai_prices": "models whose price is not configured",
    "grpc": "clients, and reflection when somebody asks",
    "multiprocessing": "nobody; uvicorn's command line takes it along",
    "opentelemetry": "nobody; redis takes it along",
    "pygments": "nobody; rich takes it along",
    "redis": "several machines; portalocker takes it along",
    "rich": "tracebacks in colour; structlog takes it along",
    "splintr": "streams that were cut",
    "sqlalchemy.dialects.postgresql": "ledgers in PostgreSQL",
    "watchfiles": "`dev`; uvicorn's command line takes it along",
}
"""Module → who needs it."""

IN_WORKERS = {
    "prometheus_client": "the control plane",
    "starlette": "the control plane",
    "typer": "commands",
    "uvicorn": "the control plane",
    "yaml": "who reads the configuration",
}


IN_SUPERVISORS = {
    "google.protobuf": "who answers requests",
    "model_gateway.pipeline": "who answers requests",
}


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("model_gateway.cli.serve, model_gateway.app", ANYWHERE),
        ("model_gateway.cli.serve", ANYWHERE | IN_SUPERVISORS),
        ("model_gateway.workers.worker", ANYWHERE | IN_WORKERS),
    ],
    ids=["alone", "supervisor", "worker"],
)
def test_a_process_loads_only_what_it_uses(modules: str, unwanted: dict[str, str]) -> None:
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert not {name: who for name, who in unwanted.items() if name in loaded}
