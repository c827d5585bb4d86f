"""One PostgreSQL for all tests of the database; each gets an empty one, or an SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from model_gateway.config.schema import LedgerConfig
from postgres import emptied, server


@pytest.fixture(scope="package")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerConfig:
    if request.param == "sqlite":
        return LedgerConfig(path=str(tmp_path / "ledger.db"))
    url: str = request.getfixturevalue("postgres")
    return LedgerConfig(path=str(tmp_path / "ledger.db"), url=SecretStr(emptied(url)))
