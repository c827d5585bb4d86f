"""`make bench-growth`: does the CPU per request stay the same when what the gateway knows grows?

Keys (made as `keys create` makes them), targets, ledger rows, cache entries, open streams. The systems of one table run
side by side and are asked in turn in every round; the figure is the median, the verdict compares it with that of the
smallest. Where the rounds of one size differ by more than that themselves the verdict says so: on such a machine
`--instructions` counts instead of timing.

    .venv/bin/python bench/growth.py --only keys,targets --rounds 5
    .venv/bin/python bench/growth.py --rows 10000000     # 4 GB of disk and some minutes
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import gc
import json
import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cases
import report
from instructions import CASES, Counter, per_unit, under_callgrind
from processes import LOAD_CORE
from sqlalchemy import create_engine
from systems import BUDGETS, System, gateway, load, provider

from model_gateway.cache.memory import MemoryCache
from model_gateway.config.schema import CacheConfig
from model_gateway.domain.chat import ChatReply
from model_gateway.storage import keys

FLAT = 0.10
WARMING = 3
"""Rounds before those that count: a thousand providers want sixteen connections each before all is as it stays."""
STREAM_CHUNKS = 20
OPEN = (64, 500, 2_000, 5_000)
CHUNKS_A_SECOND = 1_250
"""Of all open streams together, so that the load itself is the same however many there are."""

Start = Callable[..., AbstractContextManager[System]]
Run = Callable[[System], float]
Table = dict[int, list[float]]


def compared(sizes: Sequence[int], start: Start, run: Run, rounds: int) -> Table:
    """`run` on one system of each size, in turn in every round."""
    with contextlib.ExitStack() as stack:
        systems = {size: stack.enter_context(start(size)) for size in sizes}
        found: Table = {size: [] for size in sizes}
        for number in range(-WARMING, rounds):
            for size, system in systems.items():
                figure = run(system)
                if number >= 0:
                    found[size].append(figure)
        return found


def counted(folder: Path, sizes: Sequence[int], start: Start) -> Table:
    """Instructions per request in a system of each size, one after the other, under callgrind."""
    found: Table = {}
    for size in sizes:
        here = folder / f"counts{size}"
        here.mkdir()
        with start(size, **under_callgrind(here)) as system:
            counter = Counter(system.pid, here)
            counter.switch(on=True)
            found[size] = [per_unit(system, counter, CASES["c=16"])[0]]
        shutil.rmtree(here)
    return found


def requests(seconds: float) -> Run:
    return lambda system: cases.http(system, "short", 16, seconds)["cpu_us"]


@contextlib.contextmanager
def with_keys(folder: Path, upstream: int, count: int, **how: Any) -> Iterator[System]:
    """`count` keys with limits in the database; they take turns."""
    options = {"requests_per_minute": 100_000_000, "tokens_per_minute": 100_000_000_000}
    here = folder / f"keys{count}"
    with gateway(here, upstream, name=f"{count} keys", accounts=BUDGETS, **how) as system:
        secret = keys.secret_of(keys.secret_path(str(here / "ledger.db")), None)
        engine = create_engine(f"sqlite:///{here}/ledger.db", connect_args={"timeout": 30})
        with engine.begin() as connection:
            made = [
                keys.create(connection, secret, f"key{n}", f"team{n % 100}", {**options}, time.time())
                for n in range(count)
            ]
        engine.dispose()
        (here / "keys.txt").write_text("".join(f"{key}\n" for key, _ in made))
        time.sleep(3)
        system.key = f"@{here}/keys.txt"
        yield system


@contextlib.contextmanager
def with_targets(folder: Path, upstream: int, count: int, **how: Any) -> Iterator[System]:
    """`count` providers with a model each, all the same server, all eligible for `auto`."""
    more = "".join(
        f"  p{n}: {{base_url: http://127.0.0.1:{upstream}/v1, default_model: model-{n}, "
        "supported_model_types: [local, hybrid, remote], max_concurrent_queries: 10000, "
        "price_per_million_input: 0.5, price_per_million_output: 1.5}\n"
        for n in range(count - 1)
    )
    with gateway(folder / f"targets{count}", upstream, name=f"{count} targets", providers=more, **how) as system:
        yield system


def fill(ledger: Path, count: int) -> None:
    """The ledger's first row, `count` times more, over the last year."""
    with contextlib.closing(sqlite3.connect(ledger)) as database:
        database.execute("PRAGMA synchronous = OFF")
        names = [row[1] for row in database.execute("PRAGMA table_info(requests)") if row[1] != "id"]
        changed = {
            "uid": "requests.uid || printf('-%08d', n.value)",
            "request_id": "requests.uid || printf('-%08d', n.value)",
            "started_at": f"requests.started_at - 31536000.0 * n.value / {count}",
        }
        chosen = ", ".join(changed.get(name, f"requests.{name}") for name in names)
        database.execute(
            f"WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {count})"
            f" INSERT INTO requests ({', '.join(names)}) SELECT {chosen} FROM n, requests"
            " WHERE requests.id = (SELECT min(id) FROM requests)"
        )
        database.commit()


@contextlib.contextmanager
def with_rows(folder: Path, upstream: int, count: int, **how: Any) -> Iterator[System]:
    here = folder / f"rows{count}"
    with gateway(here, upstream):
        pass  # its first answer makes the tables and one row
    fill(here / "ledger.db", count)
    with gateway(here, upstream, name=f"{count} rows", **{"timeout_s": 120, **how}) as system:
        yield system


def open_streams(folder: Path, sizes: Sequence[int], rounds: int) -> Table:
    """CPU per chunk with so many streams at once, a twentieth of opening one included, without keys and budgets.

    The pace of each is such that all together are as fast. In turn in every round, each in a gateway of its own.
    """
    found: Table = {size: [] for size in sizes}
    for number in range(rounds):
        for size in sizes:
            chunk_ms = max(20, size * 1_000 // CHUNKS_A_SECOND)
            here = folder / f"streams{size}-{number}"
            with (
                provider(folder, STREAM_CHUNKS, chunk_ms) as upstream,
                gateway(here, upstream.http, accounts="") as system,
            ):
                line = cases.command(system, "stream", size, "-n", str(size * max(1, 64 // size)))
                found[size].append(cases.metered(system, "chunks", lambda line=line: load(*line))["cpu_us"])
    return found


def cache_entries(sizes: Sequence[int], rounds: int) -> Table:
    """CPU µs of one look-up and one store in a cache of so many entries, in this process."""
    found: Table = {size: [] for size in sizes}
    reply = ChatReply(text="x", finish_reason="stop", usage=None, body=b"{}")
    for size in sizes:
        cache = MemoryCache(CacheConfig(max_size=size), time.monotonic)
        for number in range(size):
            cache.put(number.to_bytes(16, "big"), reply, 100)
        gc.collect()
        gc.freeze()
        names = [os.urandom(14) + number.to_bytes(2, "big") for number in range(10_000)]
        known = [(hash(name) % size).to_bytes(16, "big") for name in names]
        for _ in range(rounds):
            begun = time.process_time_ns()
            for name, old in zip(names, known, strict=True):
                cache.get(old)
                cache.put(name, reply, 100)
            found[size].append((time.process_time_ns() - begun) / 1e3 / len(names))
        gc.unfreeze()
    return found


def verdict(name: str, table: Table, unit: str = "CPU µs") -> dict[str, Any]:
    """Print the table; what is kept of it."""
    print(f"\n{name}\n{'':>12} {unit:>12} {'low–high':>15} {'over the first':>15}")
    medians = {size: statistics.median(values) for size, values in table.items()}
    first = next(iter(medians.values()))
    noisy, grown = False, False
    for size, values in table.items():
        change = medians[size] / first - 1
        noisy |= (max(values) - min(values)) / medians[size] > 2 * FLAT
        grown |= change > FLAT
        spread = f"{min(values):,.1f}–{max(values):,.1f}"
        print(f"{size:12,} {medians[size]:12,.1f} {spread:>15} {change:+15.1%}", flush=True)
    said = ("grows" if grown else "flat within 10 %") + (", but the rounds differ by more than that" if noisy else "")
    print(said, flush=True)
    return {"unit": unit, "rounds": table, "medians": medians, "verdict": said}


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    wanted = given.only.split(",") if given.only else ["keys", "targets", "rows", "cache", "streams"]
    found: dict[str, Any] = {}
    tables: dict[str, tuple[str, Sequence[int], Any]] = {
        "keys": ("keys with limits", (10, 1_000, 10_000), with_keys),
        "targets": ("targets of auto", (1, 10, 100, 1_000), with_targets),
        "rows": ("rows in the ledger", [n for n in (100, 10_000, 1_000_000, 10_000_000) if n <= given.rows], with_rows),
    }
    with provider(folder, 100, 20) as upstream:
        for name in tables.keys() & wanted:
            title, sizes, make = tables[name]
            start = functools.partial(make, folder, upstream.http)
            if given.instructions:
                table = counted(folder, sizes, start)
            else:
                table = compared(sizes, start, requests(given.seconds), given.rounds)
            found[name] = verdict(title, table, "instructions" if given.instructions else "CPU µs")
    if "cache" in wanted:
        table = cache_entries((100, 10_000, 1_000_000), given.rounds)
        found["cache"] = verdict("entries in the cache: one look-up, one store", table)
    if "streams" in wanted:
        found["streams"] = verdict("open streams: a chunk", open_streams(folder, OPEN, given.rounds))
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=2, help="of each run of the load")
    options.add_argument("--rows", type=int, default=1_000_000, help="of the largest ledger")
    options.add_argument("--only", default="", metavar="NAMES", help="of keys,targets,rows,cache,streams; not saved")
    options.add_argument("--instructions", action="store_true", help="count them under valgrind: slow, and never noisy")
    given = options.parse_args()
    report.require(cc="gcc", taskset="util-linux")
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    folder = Path(tempfile.mkdtemp(prefix="model-gateway-growth-"))
    result: dict[str, Any] = {"machine": report.machine(), "load_before": os.getloadavg()}
    try:
        result["growth"] = measure(folder, given)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not given.only:
        path = report.RESULTS / f"growth-{datetime.datetime.now(datetime.UTC).date()}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
