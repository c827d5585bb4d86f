"""`backup` and `restore` as commands, on SQLite and on a real PostgreSQL: row by row the same, nothing overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, insert, select, text
from typer.testing import CliRunner, Result

from model_gateway.backup import sealing
from model_gateway.budget import rows
from model_gateway.budget.journal import Journal, folder_of
from model_gateway.cli.app import app
from model_gateway.config.schema import LedgerConfig
from model_gateway.domain.record import Record
from model_gateway.storage import audit
from model_gateway.storage.database import HEAD, engine_of, migrate, open_database, stamp
from model_gateway.storage.keys import create, secret_of, secret_path
from model_gateway.storage.schema import metadata
from postgres import emptied, server

REQUESTS = 2_345
_NOT_OF_BACKUPS = text("SELECT * FROM audit WHERE action NOT IN ('backup.made', 'backup.restored') ORDER BY seq")
SECRET = "sk-of-a-provider-0123456789"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sealing, "_COST", 10)
    for name in [*os.environ]:
        if name.endswith("_API_KEY") or name.startswith("MODEL_GATEWAY_"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def done(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return result.stderr


def made(*arguments: str) -> Path:
    return Path(done("backup", *arguments).split("  ")[0])


def filled(config: LedgerConfig) -> dict[str, list[tuple[Any, ...]]]:
    """A database with rows of every kind. Returns all of them."""
    engine = open_database(config)
    records = [Record(f"r{number} 城市 'x' \\", "http", number + 0.125) for number in range(REQUESTS)]
    for number, record in enumerate(records):
        record.cost_nano, record.stream, record.first_token_s = 2**40 + number, number % 2 == 0, number / 7
    values = [dict(zip(rows.COLUMNS, rows.row_of(record), strict=True)) for record in records]
    tables = metadata.tables
    with engine.begin() as connection:
        connection.execute(insert(tables["requests"]), values)
        connection.execute(
            insert(tables["accounts"]), [{"account": "key:a", "period": "2026-11", "spent_nano": 2**62, "held_nano": 7}]
        )
        connection.execute(
            insert(tables["holds"]),
            [{"uid": "u", "account": "key:a", "period": "2026-11", "amount_nano": 7, "expires_at": 1e9 + 0.5}],
        )
        answers = [(bytes(range(256)), "a"), (None, "b")]
        connection.execute(
            insert(tables["answers"]),
            [{"key": key, "fingerprint": "f", "uid": key, "answer": body, "expires_at": 2.5} for body, key in answers],
        )
        audit.append(connection, audit.GATEWAY, audit.Act("key.created", "team-a", detail={"ü": [1]}), 1_000.5)
        create(connection, secret_of(secret_path(config.path), None), "team-a", "t", {"models": ["gpt*"]}, 1.0)
    found = everything(engine)
    engine.dispose()
    return found


def everything(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        } | {"audit": [tuple(row) for row in connection.execute(_NOT_OF_BACKUPS)]}


def held(config: LedgerConfig) -> dict[str, list[tuple[Any, ...]]]:
    engine = engine_of(config)
    try:
        return everything(engine)
    finally:
        engine.dispose()


def write_config(config: LedgerConfig) -> None:
    url = config.url.get_secret_value() if config.url else None
    values = {"ledger": {"path": config.path, **({"url": url} if url else {})}}
    Path("gateway.yaml").write_text(json.dumps(values))


@pytest.mark.parametrize("source", ["sqlite", "postgresql"])
@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_every_row_comes_back_on_either_database(source: str, target: str, postgres: str, folder: Path) -> None:
    url = SecretStr(emptied(postgres))
    config = LedgerConfig(path=str(folder / "data/ledger.db"), url=url if source == "postgresql" else None)
    write_config(config)
    before = filled(config)
    told = done("backup", "--to", "b.tar.gz")
    assert "2,345 requests" in told and f"({source}, layout {HEAD})" in told
    assert "2,345 requests" in done("restore", "b.tar.gz", "--check")
    into = LedgerConfig(path=str(folder / "new/ledger.db"), url=None)
    if target == "postgresql":
        into = LedgerConfig(path=str(folder / "new/ledger.db"), url=SecretStr(emptied(postgres)))
    told = done("restore", "b.tar.gz", "--into", into.url.get_secret_value() if into.url else into.path)
    assert "ok: restored" in told
    assert held(into) == before
    engine = open_database(into)  # it is of this layout, and goes on where it ended
    with engine.begin() as connection:
        row = dict(zip(rows.COLUMNS, rows.row_of(Record("new", "http", 1.0)), strict=True))
        connection.execute(insert(metadata.tables["requests"]), [row])
        assert connection.execute(text("SELECT max(id) FROM requests")).scalar() == REQUESTS + 1
    engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_is_there_is_not_overwritten_and_kept_by_force(kind: str, postgres: str, folder: Path) -> None:
    url = SecretStr(emptied(postgres)) if kind == "postgresql" else None
    config = LedgerConfig(path=str(folder / "ledger.db"), url=url)
    write_config(config)
    before = filled(config)
    done("backup", "--to", "b.tar.gz")
    engine = engine_of(config)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM requests WHERE id > 10"))
    changed = everything(engine)
    engine.dispose()
    assert "rows" in refused("restore", "b.tar.gz")
    assert held(config) == changed
    told = done("restore", "b.tar.gz", "--force")
    assert held(config) == before
    if kind == "sqlite":
        assert held(LedgerConfig(path=str(folder / "ledger.db.before-restore"))) == changed
        done("restore", "b.tar.gz", "--force")
        assert held(LedgerConfig(path=str(folder / "ledger.db.before-restore-2"))) == before
    else:
        schema = next(line.split()[-1] for line in told.splitlines() if "kept: schema" in line)
        engine = engine_of(config)
        with engine.connect() as connection:
            assert connection.execute(text(f"SELECT count(*) FROM {schema}.requests")).scalar() == 10  # noqa: S608
        engine.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_in_use_is_not_replaced(kind: str, postgres: str, folder: Path) -> None:
    url = SecretStr(emptied(postgres)) if kind == "postgresql" else None
    config = LedgerConfig(path=str(folder / "ledger.db"), url=url)
    write_config(config)
    open_database(config).dispose()
    done("backup", "--to", "b.tar.gz")
    done("restore", "b.tar.gz")  # it was empty
    code = (
        "import sys, sqlite3, psycopg; url = sys.argv[2]\n"
        "held = psycopg.connect(url) if url else sqlite3.connect(sys.argv[1])\n"
        "url or held.execute('PRAGMA journal_mode=WAL')  # as a gateway does\n"
        "held.execute('SELECT * FROM keys').fetchall(); held.commit(); print('open', flush=True); sys.stdin.read()"
    )
    address = url.get_secret_value() if url else ""
    with subprocess.Popen(
        [sys.executable, "-c", code, config.path, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        assert "use" in refused("restore", "b.tar.gz")
        assert "must be started anew" in done("restore", "b.tar.gz", "--force")
        other.communicate()
    done("restore", "b.tar.gz")


def test_rows_of_the_journals_are_added_once(folder: Path) -> None:
    config = LedgerConfig(path=str(folder / "ledger.db"))
    write_config(config)
    engine = open_database(config)
    stored, late = Record("stored", "http", 1.0), Record("late", "http", 2.0)
    odd = Record("odd \ud800", "http", 3.0)
    with engine.begin() as connection:
        rows.insert(connection, [rows.row_of(stored)])
    engine.dispose()
    journal = Journal(folder_of(config.path))
    for record in (stored, late, late):
        assert journal.write(rows.row_of(record)) is not None
    assert journal.write(rows.storable(rows.row_of(odd))) is not None
    told = done("backup", "--to", "b.tar.gz")
    assert "journals       3 rows" in told and "1 requests" in told
    journal.close()
    told = done("restore", "b.tar.gz", "--into", "new.db")
    assert "2 rows of its journals are written" in told
    with closing(sqlite3.connect("new.db")) as connection:
        found = connection.execute("SELECT request_id FROM requests ORDER BY started_at").fetchall()
    assert found == [("stored",), ("late",), ("odd ?",)]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_older_layout_is_brought_up_and_the_source_stays(kind: str, postgres: str, folder: Path) -> None:
    url = SecretStr(emptied(postgres)) if kind == "postgresql" else None
    config = LedgerConfig(path=str(folder / "ledger.db"), url=url)
    write_config(config)
    filled(config)
    engine = engine_of(config)
    with engine.begin() as connection:
        migrate(connection, "0002")
        facts = ids(connection)
    done("backup", "--to", "b.tar.gz")
    with engine.begin() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0002"
    engine.dispose()
    assert f"its layout 0002 is brought to {HEAD}" in done("restore", "b.tar.gz", "--into", "new.db")
    new = open_database(LedgerConfig(path="new.db"))
    with new.begin() as connection:
        assert ids(connection) == facts and len(facts) == REQUESTS
    new.dispose()


def ids(connection: Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute(text("SELECT uid, request_id, cost_nano FROM requests"))]


def test_a_newer_layout_is_refused(folder: Path) -> None:
    config = LedgerConfig(path=str(folder / "ledger.db"))
    write_config(config)
    engine = open_database(config)
    with engine.begin() as connection:
        stamp(connection, "9999")
    engine.dispose()
    done("backup", "--to", "b.tar.gz")
    for arguments in (("--check",), ("--into", "new.db")):
        assert f"has layout 9999, this gateway knows {HEAD}" in refused("restore", "b.tar.gz", *arguments)
    assert not Path("new.db").exists()


def test_without_secrets_none_is_inside_and_it_says_what_that_means(folder: Path) -> None:
    Path("gateway.yaml").write_text(f"providers: {{openai: {{api_key: {SECRET}}}}}\nledger: {{path: data/ledger.db}}\n")
    Path(".env").write_text("GROQ_API_KEY=gsk-0123456789\n")
    done("keys", "create", "team-a")
    told = done("backup")
    assert "without providers.openai.api_key" in told and "secrets are left out" in told
    assert "1 stored keys are in it, but open a restored gateway only where the file keys.secret" in told
    path = next(Path("backups").iterdir())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    done("restore", str(path), "--extract", "out")
    assert {each.name for each in Path("out").rglob("*") if each.is_file()} == {"gateway.yaml", "ledger.db"}
    inside = b"".join(each.read_bytes() for each in Path("out").rglob("*") if each.is_file())
    secret = Path("data/keys.secret").read_bytes().strip()
    assert SECRET.encode() not in inside and b"gsk-" not in inside and secret not in inside
    Path("data/keys.secret").write_text("11" * 32)
    assert "1 stored keys will be refused here" in done("restore", str(path), "--into", "other/ledger.db")
    told = done("restore", str(path), "--into", "data/new.db")
    assert "1 stored keys will be refused here" in told


def test_all_of_it_comes_back_in_an_empty_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("gateway.yaml").write_text(f"providers: {{openai: {{api_key: {SECRET}}}}}\n")
    Path(".env").write_text("GROQ_API_KEY=gsk-0123456789\n")
    key = done("keys", "create", "team-a").splitlines()[0]
    Path("data/admin.token").write_text("22" * 32)
    monkeypatch.setenv("MODEL_GATEWAY_BACKUP_PASSPHRASE", "open sesame")
    path = made("--with-secrets", "--encrypt").resolve()
    assert SECRET.encode() not in path.read_bytes()
    other = folder / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    told = done("restore", str(path))
    assert "1 stored keys will work here" in told
    for name in ("gateway.yaml", ".env", "data/keys.secret", "data/admin.token"):
        assert Path(name).read_bytes() == (folder / name).read_bytes()
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o600
    assert key not in told and "team-a" in done("keys", "list")
    Path("gateway.yaml").write_text("server: {http_port: 81}\n")
    Path("data/admin.token").write_text("33" * 32)
    assert "admin.token is there and another" in refused("restore", str(path))
    told = done("restore", str(path), "--force")
    assert "differs from the backup's, and stays" in told
    assert Path("gateway.yaml").read_text() == "server: {http_port: 81}\n"
    assert Path("data/admin.token.before-restore").read_text() == "33" * 32
    assert {each.name for each in other.iterdir()} == {"gateway.yaml", ".env", "data"}


def test_a_passphrase_is_needed_and_may_be_in_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done("keys", "create", "team-a")
    assert "--encrypt needs a passphrase" in refused("backup", "--encrypt")
    assert not Path("backups").exists()
    Path("phrase").write_text("open sesame\n")
    path = made("--passphrase-file", "phrase")
    assert path.name.endswith(".tar.gz.sealed")
    assert "is sealed with a passphrase" in refused("restore", str(path), "--check")
    monkeypatch.setenv("MODEL_GATEWAY_BACKUP_PASSPHRASE", "open sesam")
    assert "not the one it was made with" in refused("restore", str(path), "--check")
    assert "ok: it can be restored" in done("restore", str(path), "--check", "--passphrase-file", "phrase")
    assert "cannot be read" in refused("restore", str(path), "--passphrase-file", "none")


def test_only_so_many_are_kept_and_only_ours_removed(folder: Path) -> None:
    done("keys", "create", "team-a")
    target = folder / "there"
    target.mkdir()
    others = ["notes.txt", "model-gateway-old.tar.gz", "model-gateway-20200101T000000Z.tar", "x.tar.gz"]
    old = ["model-gateway-20200101T000000Z.tar.gz", "model-gateway-20200102T000000Z.tar.gz.sealed"]
    for name in (*others, *old):
        (target / name).write_text("x")
    one, two = made("--to", str(target)), made("--to", str(target))
    assert one != two and sorted(others + old + [one.name, two.name]) == sorted(each.name for each in target.iterdir())
    three = made("--to", str(target), "--keep", "2")
    assert sorted([*others, two.name, three.name]) == sorted(each.name for each in target.iterdir())
    assert "--keep counts the backups of a folder" in refused("backup", "--to", "one.tar.gz", "--keep", "2")
    assert "is there and no folder" in refused("backup", "--to", "there/notes.txt")


def test_nothing_to_back_up_and_nothing_to_restore(folder: Path) -> None:
    assert "there is no ledger at data/ledger.db" in refused("backup")
    assert [each.name for each in Path("backups").iterdir()] == []
    assert "No such file" in refused("restore", "none.tar.gz")
    Path("data").mkdir()
    Path("data/ledger.db").write_bytes(b"SQLite format 3\0" + hashlib.sha256(b"x").digest() * 100)
    assert "ledger.path: the ledger cannot be copied" in refused("backup")
    Path("gateway.yaml").write_text("ledger: {enabled: false}\n")
    assert "gateway.yaml" in done("backup", "--to", "b.tar.gz")
    assert "ok: it can be restored" in done("restore", "b.tar.gz", "--check")


def test_a_damaged_ledger_is_not_backed_up_and_can_be_replaced(folder: Path) -> None:
    config = LedgerConfig(path=str(folder / "ledger.db"))
    write_config(config)
    before = filled(config)
    done("backup", "--to", "b.tar.gz")
    data = bytearray(Path("ledger.db").read_bytes())
    data[20_000:60_000] = os.urandom(40_000)
    Path("ledger.db").write_bytes(data)
    assert "ledger" in refused("backup", "--to", "c.tar.gz")
    assert not Path("c.tar.gz").exists()
    assert "ledger.db" in refused("restore", "b.tar.gz")
    done("restore", "b.tar.gz", "--force")
    assert held(config) == before


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a file system needs root on Linux")
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_leaves_nothing_behind(small_disk: Path, folder: Path) -> None:
    config = LedgerConfig(path=str(folder / "ledger.db"))
    write_config(config)
    before = filled(config)
    told = refused("backup", "--to", str(small_disk))
    assert "cannot be written: No space left on device" in told and "set --to" in told
    assert list(small_disk.iterdir()) == []
    done("backup", "--to", "b.tar.gz")
    assert refused("restore", "b.tar.gz", "--into", str(small_disk / "ledger.db"))
    assert list(small_disk.iterdir()) == []
    assert held(config) == before
