"""From a backup to a working gateway: checks all of it first, then puts each part in its place.

Decides what a good backup is (its checksums, a layout that is known here, a ledger that opens with the rows it should
have) and what is put where. What is there already is never overwritten: without force nothing is done, with it the old
is kept. A configuration that is there stays.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, select
from sqlalchemy.exc import DatabaseError

from model_gateway.backup import placing, snapshot
from model_gateway.backup.archive import BackupError, Manifest, unpack
from model_gateway.backup.making import held_secret, key_check
from model_gateway.budget import leasing
from model_gateway.budget.booking import Book, store
from model_gateway.budget.budgets import Budgets
from model_gateway.budget.journal import Row, folder_of, left_behind
from model_gateway.budget.rows import COLUMNS, COST, HOLD, UID, storable
from model_gateway.config.history import HISTORY
from model_gateway.config.load import ENV_FILE_NAME
from model_gateway.config.schema import GatewayConfig, LedgerConfig
from model_gateway.storage.database import HEAD, open_database
from model_gateway.storage.schema import holds, requests

_CONFIGURATION = ("gateway.yaml", ENV_FILE_NAME)
_SECRETS = ("keys.secret", "admin.token")


@dataclass(slots=True)
class Restored:
    """`rows`: by table, those of the journals included. `said`: what happened and what to know, one line each."""

    manifest: Manifest
    rows: dict[str, int]
    said: list[str] = field(default_factory=list[str])


def put_configuration(path: Path, passphrase: str | None, work: Path, config_file: Path, cwd: Path) -> Iterator[str]:
    """Where there is none. Says what it did. Raises BackupError."""
    unpack(path, work, passphrase, only=_CONFIGURATION)
    for name, target in zip(_CONFIGURATION, (config_file, cwd / ENV_FILE_NAME), strict=True):
        source = work / name
        if not source.exists():
            continue
        if not target.exists():
            placing.put(source, target)
            yield f"{target} is written"
        elif target.read_bytes() == source.read_bytes():
            yield f"{target} is the same as in the backup"
        else:
            yield f"{target} differs from the backup's, and stays; --extract FOLDER gives you the other"


def examine(path: Path, passphrase: str | None, work: Path, config: GatewayConfig) -> Restored:
    """All checks, on copies in `work`. Its ledger.db then has this version's layout and the journals' rows."""
    manifest = unpack(path, work, passphrase)
    ledger = work / "ledger.db"
    restored = Restored(manifest, {})
    if ledger.exists():
        _check(path, manifest, ledger)
        budgets = Budgets(config.budgets, hedged=config.routing.hedge.enabled)
        written = _complete(path, manifest, work, budgets.book)
        restored.rows = snapshot.counts(ledger)
        if manifest.schema_revision != HEAD:
            restored.said.append(f"its layout {manifest.schema_revision} is brought to {HEAD}")
        if written:
            restored.said.append(f"{written} rows of its journals are written: not all were in the database yet")
    restored.said += _about_keys(manifest, work, config)
    return restored


def restore(restored: Restored, work: Path, config: GatewayConfig, now: datetime, *, force: bool) -> None:
    """What `examine` has found good. Raises BackupError, before anything is changed where something is in the way."""
    beside = Path(config.ledger.path).parent
    ledger = work / "ledger.db"
    found = [name for name in _SECRETS if (work / name).exists()]
    new = [name for name in found if not _same(work / name, beside / name)]
    in_the_way = [*(placing.obstacles(config.ledger) if ledger.exists() else ())]
    in_the_way += [f"{beside / name} is there and another" for name in new if (beside / name).exists()]
    if in_the_way and not force:
        raise BackupError("\n".join(in_the_way), "stop what uses it; --force replaces it and keeps the old")
    said = restored.said
    if ledger.exists():
        kept = placing.place(ledger, config.ledger, now)
        said.append(f"the ledger is restored to {'ledger.url' if config.ledger.url else config.ledger.path}")
        said += [f"the old one is kept: {kept}"] if kept else []
    for name in new:
        kept = placing.put(work / name, beside / name)
        said.append(f"{beside / name} is restored{f'; the old one is kept: {kept}' if kept else ''}")
    said += [f"warning: {each}: whatever still runs must be started anew" for each in in_the_way if "use" in each]
    said += _put_history(work / HISTORY, beside / HISTORY)
    waiting = len(list(folder_of(config.ledger.path).glob("*.journal")))
    if waiting:
        said.append(f"{waiting} journals are beside the ledger: the next start adds rows that a stopped gateway left")


def _put_history(source: Path, target: Path) -> Iterator[str]:
    """Only where there is none: two rows of numbers would not be one history."""
    versions = sorted(source.glob("*.yaml"))
    if not versions:
        return
    if target.exists() and any(target.iterdir()):
        yield f"{target} stays as it is; --extract FOLDER gives you the backup's {len(versions)} versions"
        return
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in versions:
        placing.put(each, target / each.name)
    yield f"{len(versions)} versions of the configuration are in {target}"


def _check(path: Path, manifest: Manifest, ledger: Path) -> None:
    """Raises BackupError."""
    if manifest.schema_revision > HEAD:
        raise BackupError(
            f"{path}: its ledger has layout {manifest.schema_revision}, this gateway knows {HEAD}",
            f"restore it with model-gateway {manifest.app_version} or newer",
        )
    try:
        with closing(sqlite3.connect(ledger)) as connection:
            problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        revision, rows = snapshot.revision_of(ledger), snapshot.counts(ledger)
    except (sqlite3.DatabaseError, DatabaseError) as error:
        raise BackupError(f"{path}: its ledger does not open: {error}", "take another backup") from error
    if problem != "ok" or revision != manifest.schema_revision or rows != manifest.rows:
        what = problem if problem != "ok" else "it has not the rows or the layout that the manifest says"
        raise BackupError(f"{path}: its ledger is damaged: {what}", "take another backup")


def _complete(path: Path, manifest: Manifest, work: Path, book: Book) -> int:
    """Bring the copy to this layout, and write what was in the journals alone. Returns how many rows they had."""
    ledger, journals = work / "ledger.db", work / "journals"
    engine = open_database(LedgerConfig(path=str(ledger)))
    try:
        with left_behind(journals) as found:
            if any(found.values()) and manifest.journal_columns != list(COLUMNS):
                raise BackupError(
                    f"{path}: the rows in its journals have the layout of model-gateway {manifest.app_version}",
                    "restore it with that version, start that once, then upgrade",
                )
            before = snapshot.counts(ledger)["requests"]
            for name, left in found.items():
                with engine.begin() as connection:
                    at_that_moment = [storable(row) for row in left if not _came_later(connection, row)]
                store(engine, at_that_moment, book, leasing.owner(name))
                with engine.begin() as connection:
                    leasing.end(connection, leasing.owner(name))
    finally:
        engine.dispose()
    snapshot.settle(ledger)
    return snapshot.counts(ledger)["requests"] - before


def _came_later(connection: Connection, row: Row) -> bool:
    """Whether its money was held after the moment of the database: with its row the accounts would not add up."""
    if not row[COST] or int(row[HOLD] or 0) <= 0:
        return False
    uid = row[UID]
    held = connection.execute(select(holds.c.uid).where(holds.c.uid == uid).limit(1)).first()
    return held is None and connection.execute(select(requests.c.id).where(requests.c.uid == uid)).first() is None


def _about_keys(manifest: Manifest, work: Path, config: GatewayConfig) -> Sequence[str]:
    """Whether the stored keys will open anything here."""
    count = manifest.rows.get("keys", 0)
    salt, _, expected = manifest.key_check.partition(":")
    if not count or not expected:
        return ()
    kept = work / "keys.secret"
    secret = kept.read_bytes().strip() if kept.exists() and config.key_secret is None else held_secret(config)
    if secret is not None and key_check(secret, salt) == expected:
        return (f"its {count} stored keys will work here: their secret is the same",)
    return (
        f"warning: its {count} stored keys will be refused here: they are sealed with another secret. Put the file"
        " keys.secret of then beside the ledger (or set key_secret to its value of then), or make them anew",
    )


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.read_bytes() == other.read_bytes()
