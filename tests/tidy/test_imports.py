"""What a process that serves does not load: each of these is megabytes, in every worker."""

from __future__ import annotations

import subprocess
import sys

import pytest

ANYWHERE = {
    "alembic": "databases that must be migrated",
    "click": "nobody; uvicorn's command line takes it along",
    "genai_prices": "models whose price is not configured",
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


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [("model_gateway.cli.serve", ANYWHERE), ("model_gateway.workers.worker", ANYWHERE | IN_WORKERS)],
)
def test_a_serving_process_loads_only_what_it_uses(module: str, unwanted: dict[str, str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert not {name: who for name, who in unwanted.items() if name in loaded}
