"""Sampled prompts in a file of their own: they are personal data, so never in the ledger, a backup or a log.

Only its owner may read the file. The oldest make room for new ones; what is erased is overwritten.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from model_gateway.config.schema import GatewayConfig

_BUSY_S = 5.0
_COLUMNS = "uid, request_id, at, prompt, tier, provider, model"


class Sample(msgspec.Struct, frozen=True):
    """`at`: epoch seconds. `uid`: of the request in the ledger; `tier`: that answered."""

    uid: str
    request_id: str
    at: float
    prompt: str
    tier: str
    provider: str
    model: str


def path_of(config: GatewayConfig) -> Path:
    """Beside the ledger, unless it is said otherwise."""
    return Path(config.routing.samples.path or Path(config.ledger.path).parent / "samples.db")


def put(path: Path, found: Iterable[Sample], most: int) -> None:
    """Raises OSError or sqlite3.Error."""
    with _opened(path) as database, database:
        rows = [msgspec.structs.astuple(sample) for sample in found]
        database.executemany(f"INSERT OR IGNORE INTO samples ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608
        database.execute("DELETE FROM samples WHERE number <= (SELECT max(number) FROM samples) - ?", (most,))


def every(path: Path) -> Sequence[Sample]:
    """Oldest first; none where there is no file."""
    if not path.exists():
        return []
    with _opened(path) as database:
        rows = database.execute(f"SELECT {_COLUMNS} FROM samples ORDER BY number")  # noqa: S608
        return [Sample(*row) for row in rows]


def erase(path: Path, request_id: str = "") -> int:
    """All of them, or those of one request. Returns how many."""
    if not path.exists():
        return 0
    with _opened(path) as database:
        with database:
            where, values = ("WHERE request_id = ?", (request_id,)) if request_id else ("", ())
            count = database.execute(f"DELETE FROM samples {where}", values).rowcount  # noqa: S608 - our own words
        database.execute("VACUUM")
        return count


@contextmanager
def _opened(path: Path) -> Generator[sqlite3.Connection]:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with closing(sqlite3.connect(path, timeout=_BUSY_S)) as database:
        database.execute("PRAGMA secure_delete = ON")
        database.execute(
            "CREATE TABLE IF NOT EXISTS samples (number INTEGER PRIMARY KEY AUTOINCREMENT, uid TEXT NOT NULL UNIQUE,"
            " request_id TEXT NOT NULL, at REAL NOT NULL, prompt TEXT NOT NULL, tier TEXT NOT NULL,"
            " provider TEXT NOT NULL, model TEXT NOT NULL)"
        )
        yield database
