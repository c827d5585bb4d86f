"""The history of the configuration and the audit log come back from a backup; a journal says who is in the way."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from model_gateway.budget.journal import Journal, folder_of
from model_gateway.config.history import history_beside
from model_gateway.config.schema import LedgerConfig
from model_gateway.storage.database import open_database
from unit.backup.test_commands import done, filled, folder, refused, write_config

__all__ = ["folder"]

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def test_earlier_configurations_and_the_audit_log_come_back(folder: Path) -> None:
    config = LedgerConfig(path=str(folder / "data" / "ledger.db"))
    write_config(config)
    filled(config)
    history = history_beside(config.path)
    for number in range(3):
        history.keep(f"keys: [{{name: n{number}, key: sk-secret-of-then-{number}}}]\n".encode(), NOW)
    assert "3 earlier configurations" in done("backup", "--to", "plain.tar.gz")
    done("backup", "--to", "whole.tar.gz", "--with-secrets")
    (folder / "data").rename(folder / "old")
    assert "3 versions of the configuration are in" in done("restore", "plain.tar.gz")
    assert [each.number for each in history.versions()] == [1, 2, 3]
    assert history.versions()[2].text == b"keys: [{name: n2, key: '***'}]\n"
    assert "stays as it is" in done("restore", "whole.tar.gz", "--force"), "one history is not mixed with another"
    (folder / "data" / "config-history").rename(folder / "masked")
    done("restore", "whole.tar.gz", "--force")
    assert history.versions()[2].text == b"keys: [{name: n2, key: sk-secret-of-then-2}]\n"
    assert {each.path.stat().st_mode & 0o777 for each in history.versions()} == {0o600}
    told = json.loads(done("audit", "--json"))
    assert [each["action"] for each in told] == ["key.created", "backup.made", "backup.restored"]
    assert told[2]["target"] == "whole.tar.gz" and told[2]["detail"]["forced"] is True
    assert "3 entries, none changed" in done("audit", "--verify")
    last = json.loads(done("audit", "--verify", "--json"))["last"]
    assert done("audit", "--known", last)
    assert "rows were cut off" in refused("audit", "--known", "0" * 64)
    assert "not a digest" in refused("audit", "--known", "x")
    assert "not a day" in refused("audit", "--since", "yesterday")
    assert "no such entry" in done("audit", "--action", "nothing")


def test_a_living_journal_means_in_use(folder: Path) -> None:
    config = LedgerConfig(path=str(folder / "ledger.db"))
    write_config(config)
    open_database(config).dispose()
    done("backup", "--to", "b.tar.gz")
    journal = Journal(folder_of(config.path))
    assert "a gateway that is running uses" in refused("restore", "b.tar.gz")
    journal.close()
    done("restore", "b.tar.gz")
