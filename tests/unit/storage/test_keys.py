"""The stored keys are read anew only when they have changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from model_gateway.config.schema import LedgerConfig
from model_gateway.storage import keys
from model_gateway.storage.database import open_database


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = open_database(LedgerConfig(path=str(tmp_path / "ledger.db")))
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def mark_of(found: tuple[keys.Mark, object] | None) -> keys.Mark:
    assert found is not None
    return found[0]


def test_every_change_is_noticed_and_nothing_else(connection: Connection) -> None:
    mark = mark_of(keys.changed(connection, None))
    assert keys.changed(connection, mark) is None, "no keys yet"
    _, first = keys.create(connection, b"s", "ada", "search", {}, 10.0)
    found = keys.changed(connection, mark)
    assert found is not None and found[1] == [first]
    mark = found[0]
    # The same moment, another key: a rotation within one tick of the clock.
    _, second = keys.create(connection, b"s", "ada", "search", {}, 10.0, 99.0)
    mark, listed = keys.changed(connection, mark) or pytest.fail("a second key was not noticed")
    assert {each.id for each in listed} == {first.id, second.id}
    keys.revoke(connection, [first.id], 50.0)
    mark = mark_of(keys.changed(connection, mark))
    keys.revoke(connection, [first.id], 20.0)  # sooner
    mark = mark_of(keys.changed(connection, mark))
    keys.revoke(connection, [first.id], 60.0)  # never later than it was: no change
    assert keys.changed(connection, mark) is None
