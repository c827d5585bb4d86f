"""Answers that are kept for repetitions of their requests, in the ledger's database. Within the caller's transaction.

Whoever claims a key answers it, and says from time to time that it still does; one that no longer says so is taken for
dead, and the next to ask claims the key. One conditional statement decides, so that two processes never both answer.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from sqlalchemy import Connection, text

_CLAIM = text(
    "INSERT INTO answers (key, fingerprint, uid, answer, expires_at) VALUES (:key, :fingerprint, :uid, NULL, :until)"
    " ON CONFLICT (key) DO UPDATE SET fingerprint = :fingerprint, uid = :uid, answer = NULL, expires_at = :until"
    " WHERE answers.expires_at < :now"
)
_READ = text("SELECT fingerprint, answer FROM answers WHERE key = :key")
_KEEP = text("UPDATE answers SET answer = :answer, expires_at = :until WHERE key = :key AND uid = :uid")
_RENEW = text("UPDATE answers SET expires_at = :until WHERE key = :key AND uid = :uid AND answer IS NULL")
_RELEASE = text("DELETE FROM answers WHERE key = :key AND uid = :uid AND answer IS NULL")
_FORGET = text("DELETE FROM answers WHERE expires_at < :now")


class Found(msgspec.Struct, frozen=True):
    """`mine`: to be answered by the claimant. Else the request it was used for and, once there is one, its answer."""

    mine: bool
    fingerprint: str = ""
    answer: bytes | None = None


def claim(connection: Connection, key: str, fingerprint: str, uid: str, now: float, until: float) -> Found:
    """Epoch seconds. `until`: from then on the claimant is taken for dead."""
    values = {"key": key, "fingerprint": fingerprint, "uid": uid, "now": now, "until": until}
    if connection.execute(_CLAIM, values).rowcount == 1:
        return Found(mine=True)
    row = connection.execute(_READ, {"key": key}).first()
    if row is None:  # released between the two statements: the next try claims it
        return Found(mine=False, fingerprint=fingerprint)
    return Found(False, row.fingerprint, None if row.answer is None else bytes(row.answer))


def keep(connection: Connection, key: str, uid: str, answer: bytes, until: float) -> bool:
    """False: somebody else has claimed it meanwhile."""
    return connection.execute(_KEEP, {"key": key, "uid": uid, "answer": answer, "until": until}).rowcount == 1


def renew(connection: Connection, claims: Collection[tuple[str, str]], until: float) -> None:
    """`claims`: key and uid of what is still being answered."""
    if claims:
        connection.execute(_RENEW, [{"key": key, "uid": uid, "until": until} for key, uid in sorted(claims)])


def release(connection: Connection, key: str, uid: str) -> None:
    """It was not answered: whoever repeats it asks anew."""
    connection.execute(_RELEASE, {"key": key, "uid": uid})


def forget(connection: Connection, now: float) -> int:
    """How many had been kept long enough."""
    return connection.execute(_FORGET, {"now": now}).rowcount
