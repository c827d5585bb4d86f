"""The audit log: appended to by many at once, changed by nobody, and whoever does it all the same is found out."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from model_gateway.config.schema import LedgerConfig
from model_gateway.storage import audit
from model_gateway.storage.audit import Act, Actor
from model_gateway.storage.database import open_database

ADA = Actor("ada", "10.0.0.1")


def written(engine: Engine, *actions: str) -> None:
    for action in actions:
        with engine.begin() as connection:
            audit.append(connection, ADA, Act(action, "x", detail={"n": 1}), time.time())


def disarmed(engine: Engine, statement: str, **values: Any) -> None:
    """What someone does who may drop the triggers."""
    sqlite = engine.dialect.name == "sqlite"
    names = ("audit_no_update", "audit_no_delete", "audit_no_replace") if sqlite else ("audit_no_change",)
    with engine.begin() as connection:
        for name in names:
            connection.execute(text(f"DROP TRIGGER {name}{'' if sqlite else ' ON audit'}"))
        connection.execute(text(statement), values)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'nobody'",
        "UPDATE audit SET actor = 'nobody' WHERE seq = 2",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE seq = 3",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 1",
        "TRUNCATE audit",
    ],
)
def test_rows_are_neither_changed_nor_removed(config: LedgerConfig, statement: str) -> None:
    if statement.startswith("TRUNCATE" if config.url is None else "INSERT OR"):
        return  # the other database's language
    engine = open_database(config)
    written(engine, "a.a", "b.b", "c.c")
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))
    with engine.begin() as connection:
        assert [each.action for each in audit.entries(connection)] == ["c.c", "b.b", "a.a"]
    engine.dispose()


def test_many_at_once_make_one_chain(config: LedgerConfig) -> None:
    engine = open_database(config)

    def work() -> None:
        written(engine, *["key.created"] * 5)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.begin() as connection:
        assert [each.seq for each in audit.entries(connection)] == [*range(30, 0, -1)]
        checked = audit.verify(connection)
        assert (checked.count, checked.fault) == (30, "")
    engine.dispose()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE seq = 2", "row 2 was changed"),
        ("UPDATE audit SET at = at + 1 WHERE seq = 1", "row 1 was changed"),
        ("DELETE FROM audit WHERE seq = 2", "row 2 is missing"),
        ("DELETE FROM audit WHERE seq = 3", "rows were cut off"),
        ("UPDATE audit SET digest = 'x' WHERE seq = 1", "row 1 was changed"),
        ("UPDATE audit SET previous = 'x' WHERE seq = 3", "row 3 does not continue row 2"),
    ],
)
def test_whoever_changes_them_all_the_same_is_found_out(config: LedgerConfig, statement: str, says: str) -> None:
    engine = open_database(config)
    written(engine, "a.a", "b.b", "c.c")
    with engine.begin() as connection:
        last = audit.verify(connection).last
        assert audit.verify(connection, known=last).fault == ""
    disarmed(engine, statement)
    with engine.begin() as connection:
        assert says in audit.verify(connection, known=last).fault
    engine.dispose()


def test_what_is_asked_for(config: LedgerConfig) -> None:
    engine = open_database(config)
    with engine.begin() as connection:
        for number, action in enumerate(["key.created", "keyhole.made", "key.revoked", "config.reloaded"]):
            audit.append(connection, ADA, Act(action, detail={"who": "ü\0"}), 1_000.0 + number)
        audit.append(connection, Actor("a\nb\ud800" + "c" * 999, ""), Act("odd.one", "line\nline"), 1_010.5)

        def told(*arguments: Any) -> list[str]:
            return [each.action for each in audit.entries(connection, *arguments)]

        assert told(0.0, "key") == ["key.revoked", "key.created"]
        assert told(0.0, "key.created") == ["key.created"]
        assert told(1_002.0) == ["odd.one", "config.reloaded", "key.revoked"]
        assert told(0.0, "", 3) == ["keyhole.made", "key.created"] and told(0.0, "", None, 1) == ["odd.one"]
        odd = audit.entries(connection)[0]
        assert "\n" not in odd.actor + odd.target and len(odd.actor) == audit.MAX_TEXT
        assert audit.facts(odd)["at"] == "1970-01-01T00:16:50.500Z"
        assert audit.verify(connection).fault == ""
    engine.dispose()
