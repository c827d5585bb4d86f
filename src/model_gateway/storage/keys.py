"""Keys of callers in the database: made, listed, rotated, revoked. Holds an HMAC of each and never the key itself.

The HMAC's secret is not in the database: whoever steals that can neither use what it holds nor try keys against it.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from model_gateway.config.errors import StartupError
from model_gateway.config.schema import GatewayConfig
from model_gateway.storage.schema import keys

PREFIX = "mgw_"
SECRET_BYTES = 32


Mark: TypeAlias = "tuple[float | None, ...]"


class StoredKey(msgspec.Struct, frozen=True):
    """One key; times in epoch seconds. `options` as in `keys[]` of the configuration: limits and scopes.

    `shown`: its first and last characters, enough to find it again and too few to guess it.
    """

    id: str
    name: str
    tenant: str
    digest: str
    shown: str
    options: dict[str, object]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    def state(self, now: float) -> str:
        if self.revoked_at is not None and self.revoked_at <= now:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active"


def secret_path(ledger: str) -> Path:
    """Beside the ledger."""
    return Path(ledger).parent / "keys.secret"


def secret_of(path: Path, given: str | None) -> bytes:
    """The configured secret, or that of the file, which is made at first need. Raises StartupError."""
    if given:
        return sha256(given.encode()).digest()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            held = bytes.fromhex(path.read_text().strip())
        else:
            held = secrets.token_bytes(SECRET_BYTES)
            with os.fdopen(descriptor, "w") as file:
                file.write(held.hex() + "\n")
    except (OSError, ValueError) as error:
        raise StartupError(
            f"the keys' secret {path} cannot be used: {error}", "restore the file, or set key_secret"
        ) from error
    return held


def key_secret(config: GatewayConfig) -> bytes:
    """What the keys in the ledger's database are hashed with. Raises StartupError."""
    given = config.key_secret.get_secret_value() if config.key_secret else None
    return secret_of(secret_path(config.ledger.path), given)


def admin_token(config: GatewayConfig) -> str:
    """The configured one, or that of the file beside the ledger, which is made at first need. Raises StartupError."""
    given = config.server.admin_token
    return given.get_secret_value() if given else secret_of(Path(config.ledger.path).parent / "admin.token", None).hex()


def digest_of(secret: bytes, key: str) -> str:
    return hmac.digest(secret, key.encode(errors="surrogatepass"), "sha256").hex()


def create(
    connection: Connection,
    secret: bytes,
    name: str,
    tenant: str,
    options: dict[str, object],
    now: float,
    expires_at: float | None = None,
) -> tuple[str, StoredKey]:
    """A new key, which is told this once, and what is kept of it."""
    key = PREFIX + secrets.token_urlsafe(32)
    stored = StoredKey(
        id=secrets.token_hex(4),
        name=name,
        tenant=tenant,
        digest=digest_of(secret, key),
        shown=f"{key[:8]}…{key[-4:]}",
        options=options,
        created_at=now,
        expires_at=expires_at,
    )
    connection.execute(
        insert(keys).values(**{**msgspec.structs.asdict(stored), "options": msgspec.json.encode(options).decode()})
    )
    return key, stored


def every(connection: Connection) -> Sequence[StoredKey]:
    """Revoked and expired ones too, oldest first."""
    found = connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id)).mappings()
    # The column's names are of SQLAlchemy's own kind of text.
    facts = [{str(name): value for name, value in row.items()} for row in found]
    return [msgspec.convert({**row, "options": msgspec.json.decode(row["options"])}, StoredKey) for row in facts]


def changed(connection: Connection, since: Mark | None) -> tuple[Mark, Sequence[StoredKey]] | None:
    """All keys, and the mark by which the next change is known; None where there is none since `since`.

    Keys are only added and revoked, and each of that moves the mark: to read it costs nothing beside reading them all.
    """
    row = connection.execute(
        select(func.count(), func.max(keys.c.created_at), func.sum(keys.c.revoked_at), func.sum(keys.c.expires_at))
    ).one()
    mark = tuple(row)
    return None if mark == since else (mark, every(connection))


def revoke(connection: Connection, ids: Sequence[str], at: float) -> int:
    """From `at` on; never later than it was. Returns how many changed."""
    changed = connection.execute(
        update(keys)
        .where(keys.c.id.in_(ids), (keys.c.revoked_at.is_(None)) | (keys.c.revoked_at > at))
        .values(revoked_at=at)
    )
    return changed.rowcount
