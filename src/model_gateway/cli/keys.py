"""`keys`: makes, lists, rotates and revokes callers' keys in the database; a running gateway soon knows of it."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection

from model_gateway.admission import issuing
from model_gateway.cli.output import CommandFailed
from model_gateway.config.load import load
from model_gateway.config.schema import GatewayConfig
from model_gateway.domain.errors import InvalidRequest
from model_gateway.storage import keys
from model_gateway.storage.audit import operator
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
    "budget": "budget",
    "budget_per": "per",
}
_LIFE = re.compile(r"(\d{1,9})([smhd])")


def create(
    path: Path | None, name: str, team: str, life: str | None, options: dict[str, Any], *, as_json: bool
) -> None:
    """Raises CommandFailed for a name that has a key, and for options that no key may have."""
    config = load(path, os.environ, Path.cwd()).config
    now = time.time()
    expires_at = None if life is None else now + _seconds("--expires", life)
    with _opened(config) as connection:
        made = issuing.issue(connection, _secret(config), name, team, options, now, expires_at, operator())
    _tell(*made, as_json=as_json)


def rotate(path: Path | None, name: str, overlap: str, *, as_json: bool) -> None:
    """A new key of the same name and limits; the old ones go on for the overlap."""
    config = load(path, os.environ, Path.cwd()).config
    with _opened(config) as connection:
        overlap_s = _seconds("--overlap", overlap)
        made = issuing.rotate(connection, _secret(config), name, overlap_s, time.time(), operator())
    _tell(*made, as_json=as_json)


def revoke(path: Path | None, name: str) -> None:
    config = load(path, os.environ, Path.cwd()).config
    with _opened(config) as connection:
        old = issuing.withdraw(connection, name, time.time(), operator())
    typer.echo(f"revoked: {', '.join(each.shown for each in old)}")


def show(path: Path | None, *, as_json: bool) -> None:
    config = load(path, os.environ, Path.cwd()).config
    now = time.time()
    with _opened(config) as connection:
        found = keys.every(connection)
    if as_json:
        typer.echo(json.dumps([issuing.facts(each, now) for each in found], ensure_ascii=False, indent=2))
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
            each.name, each.tenant, each.shown, each.state(now),
            *map(issuing.moment, (each.created_at, each.expires_at, each.revoked_at)), limits,
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
    except issuing.KeyExists as error:
        raise CommandFailed(error.message, "model-gateway keys rotate NAME") from None
    except issuing.NoSuchKey as error:
        raise CommandFailed(error.message, "model-gateway keys list") from None
    except InvalidRequest as error:
        field = error.param or ""
        raise CommandFailed(
            f"--{_OPTIONS.get(field, field)}: {error.message}", "see model-gateway keys create -h"
        ) from None
    finally:
        engine.dispose()


def _secret(config: GatewayConfig) -> bytes:
    given = config.key_secret.get_secret_value() if config.key_secret else None
    return keys.secret_of(keys.secret_path(config.ledger.path), given)


def _seconds(option: str, text: str) -> float:
    match = _LIFE.fullmatch(text)
    if match is None:
        raise CommandFailed(f"{option} {text}: not a time", "write it as 90d, 24h, 30m or 0s")
    return int(match[1]) * _UNITS[match[2]]


def _tell(key: str, stored: StoredKey, *, as_json: bool) -> None:
    if as_json:
        told = {"key": key, **issuing.facts(stored, stored.created_at)}
        typer.echo(json.dumps(told, ensure_ascii=False, indent=2))
        return
    typer.echo(key)
    typer.echo("this is the only time that it is shown: only a seal of it is kept", err=True)
