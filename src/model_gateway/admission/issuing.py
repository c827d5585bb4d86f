"""Keys made, rotated and revoked in the database: what commands and the admin API share.

Decides whether a name is free and whether options are ones that a key may have, and notes who did it in the audit log.
Within the caller's transaction; who may do it is the caller's to ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr, ValidationError
from sqlalchemy import Connection

from model_gateway.config.callers import CallerKey
from model_gateway.domain.errors import InvalidRequest
from model_gateway.storage import audit, keys
from model_gateway.storage.audit import Act, Actor
from model_gateway.storage.keys import StoredKey


class KeyExists(InvalidRequest):
    """The name has an active key."""


class NoSuchKey(InvalidRequest):
    """The name has no active key."""


def issue(
    connection: Connection,
    secret: bytes,
    name: str,
    team: str,
    options: Mapping[str, Any],
    now: float,
    expires_at: float | None,
    by: Actor,
) -> tuple[str, StoredKey]:
    """The key, which is told this once, and what is kept of it. `options` as in `keys[]` of the configuration.

    Raises KeyExists, and InvalidRequest whose `param` is the option.
    """
    given = {option: value for option, value in options.items() if value not in (None, (), [])}
    try:
        CallerKey.model_validate({**given, "name": name, "tenant": team, "key": SecretStr("x")})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(str(first["msg"]), param=str(first["loc"][0]) if first["loc"] else None) from None
    if any(each.name == name and each.state(now) == "active" for each in keys.every(connection)):
        raise KeyExists(f"there is a key {name} already: rotate it, or revoke it first", param="name")
    made = keys.create(connection, secret, name, team, given, now, expires_at)
    audit.append(connection, by, Act("key.created", name, detail=_detail(made[1])), now)
    return made


def rotate(
    connection: Connection, secret: bytes, name: str, overlap_s: float, now: float, by: Actor
) -> tuple[str, StoredKey]:
    """A new key of the same name and options; the old ones go on for the overlap. Raises NoSuchKey."""
    old = _active(connection, name, now)
    last = old[-1]
    made = keys.create(connection, secret, name, last.tenant, last.options, now, last.expires_at)
    keys.revoke(connection, [each.id for each in old], now + overlap_s)
    replaced = {"replaces": [each.shown for each in old], "overlap_s": overlap_s}
    audit.append(connection, by, Act("key.rotated", name, detail=_detail(made[1]) | replaced), now)
    return made


def withdraw(connection: Connection, name: str, now: float, by: Actor) -> Sequence[StoredKey]:
    """Those that are revoked now. Raises NoSuchKey."""
    old = _active(connection, name, now)
    keys.revoke(connection, [each.id for each in old], now)
    audit.append(connection, by, Act("key.revoked", name, detail={"keys": [each.shown for each in old]}), now)
    return old


def facts(stored: StoredKey, now: float) -> dict[str, Any]:
    """What may be told about it."""
    return {
        "id": stored.id,
        "name": stored.name,
        "team": stored.tenant,
        "shown": stored.shown,
        "state": stored.state(now),
        "created_at": moment(stored.created_at),
        "expires_at": moment(stored.expires_at),
        "revoked_at": moment(stored.revoked_at),
        "options": stored.options,
    }


def moment(at: float | None) -> str:
    """Epoch seconds as ISO 8601 in UTC; empty for never."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _detail(stored: StoredKey) -> dict[str, object]:
    return {
        "id": stored.id,
        "shown": stored.shown,
        "team": stored.tenant,
        "expires_at": moment(stored.expires_at),
        "options": stored.options,
    }


def _active(connection: Connection, name: str, now: float) -> Sequence[StoredKey]:
    found = [each for each in keys.every(connection) if each.name == name and each.state(now) == "active"]
    if not found:
        raise NoSuchKey(f"there is no active key {name}", param="name")
    return found
