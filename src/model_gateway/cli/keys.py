"""`keys`: makes, lists, rotates and revokes callers' keys in the database; a running gateway soon knows of it."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr, ValidationError
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection

from model_gateway.cli.output import CommandFailed
from model_gateway.config.load import load
from model_gateway.config.schema import CallerKey, GatewayConfig
from model_gateway.storage import keys
from model_gateway.storage.database import open_database
from model_gateway.storage.keys import StoredKey

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_OPTIONS = {
    "models": "model",
    "tiers": "tier",
    "doors": "door",
    "requests_per_minute": "rpm",
    "tokens_per_minute": "tpm",
    "max_concurrent": "concurrent",
}
_LIFE = re.compile(r"(\d{1,9})([smhd])")


def create(
    path: Path | None, name: str, team: str, life: str | None, options: dict[str, Any], *, as_json: bool
) -> None:
    """Raises CommandFailed for a name that has a key, and for options that no key may have."""
    given = {option: value for option, value in options.items() if value not in (None, (), [])}
    try:
        CallerKey(name=name, tenant=team, key=SecretStr("x"), **given)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        raise CommandFailed(
            f"--{_OPTIONS.get(field, field)}: {first['msg']}", "see model-gateway keys create -h"
        ) from None
    config = load(path, os.environ, Path.cwd()).config
    now = time.time()
    with _opened(config) as connection:
        if any(each.name == name and each.state(now) == "active" for each in keys.every(connection)):
            raise CommandFailed(f"there is a key {name} already", f"model-gateway keys rotate {name}")
        expires_at = None if life is None else now + _seconds("--expires", life)
        made = keys.create(connection, _secret(config), name, team, given, now, expires_at)
    _tell(*made, as_json=as_json)


def rotate(path: Path | None, name: str, overlap: str, *, as_json: bool) -> None:
    """A new key of the same name and limits; the old ones go on for the overlap."""
    config = load(path, os.environ, Path.cwd()).config
    now = time.time()
    with _opened(config) as connection:
        old = _active(connection, name, now)
        last = old[-1]
        made = keys.create(connection, _secret(config), name, last.tenant, last.options, now, last.expires_at)
        keys.revoke(connection, [each.id for each in old], now + _seconds("--overlap", overlap))
    _tell(*made, as_json=as_json)


def revoke(path: Path | None, name: str) -> None:
    config = load(path, os.environ, Path.cwd()).config
    now = time.time()
    with _opened(config) as connection:
        old = _active(connection, name, now)
        keys.revoke(connection, [each.id for each in old], now)
    typer.echo(f"revoked: {', '.join(each.shown for each in old)}")


def show(path: Path | None, *, as_json: bool) -> None:
    config = load(path, os.environ, Path.cwd()).config
    now = time.time()
    with _opened(config) as connection:
        found = keys.every(connection)
    if as_json:
        typer.echo(json.dumps([_facts(each, now) for each in found], ensure_ascii=False, indent=2))
        return
    if not found:
        typer.echo("no keys yet: model-gateway keys create NAME")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "team", "key", "state", "created", "expires", "revoked", "limits"):
        table.add_column(column)
    for each in found:
        limits = ", ".join(f"{option}={value}" for option, value in each.options.items())
        table.add_row(
            each.name, each.tenant, each.shown, each.state(now), _day(each.created_at), _day(each.expires_at),
            _day(each.revoked_at), limits,
        )  # fmt: skip
    Console(soft_wrap=True, width=200).print(table)


@contextmanager
def _opened(config: GatewayConfig) -> Generator[Connection]:
    if not config.ledger.enabled:
        raise CommandFailed("keys are kept in the ledger's database, and ledger.enabled is false", "enable it")
    engine = open_database(config.ledger)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _secret(config: GatewayConfig) -> bytes:
    given = config.key_secret.get_secret_value() if config.key_secret else None
    return keys.secret_of(keys.secret_path(config.ledger.path), given)


def _active(connection: Connection, name: str, now: float) -> Sequence[StoredKey]:
    found = [each for each in keys.every(connection) if each.name == name and each.state(now) == "active"]
    if not found:
        raise CommandFailed(f"there is no active key {name}", "model-gateway keys list")
    return found


def _seconds(option: str, text: str) -> float:
    match = _LIFE.fullmatch(text)
    if match is None:
        raise CommandFailed(f"{option} {text}: not a time", "write it as 90d, 24h, 30m or 0s")
    return int(match[1]) * _UNITS[match[2]]


def _tell(key: str, stored: StoredKey, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"key": key, **_facts(stored, stored.created_at)}, ensure_ascii=False, indent=2))
        return
    typer.echo(key)
    typer.echo("this is the only time that it is shown: only a seal of it is kept", err=True)


def _facts(stored: StoredKey, now: float) -> dict[str, Any]:
    return {
        "id": stored.id,
        "name": stored.name,
        "team": stored.tenant,
        "shown": stored.shown,
        "state": stored.state(now),
        "created_at": _day(stored.created_at),
        "expires_at": _day(stored.expires_at),
        "revoked_at": _day(stored.revoked_at),
        "options": stored.options,
    }


def _day(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
