"""One PostgreSQL for all tests of money; each gets an empty one, or an SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from model_gateway.config.schema import LedgerConfig
from model_gateway.storage.database import open_database
from postgres import emptied, server


@pytest.fixture(scope="package")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    config = LedgerConfig(path=str(tmp_path / "ledger.db"))
    if request.param == "postgresql":
        config = LedgerConfig(url=SecretStr(emptied(request.getfixturevalue("postgres"))))
    opened = open_database(config)
    yield opened
    opened.dispose()
