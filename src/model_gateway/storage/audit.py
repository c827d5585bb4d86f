"""The audit log: who has changed what, when and from where, in rows that nobody changes or removes any more.

Decides how an act is written and how the chain is checked: each row holds a digest of itself and of the row before, so
that a row that was altered, taken out or put in is found. Written in the transaction of the act itself, where there is
one. Never holds a key, a token or a prompt; who may read it is the caller's to ask.

What the chain cannot show by itself is that the newest rows were cut off, or all of it written anew by someone who may
drop the triggers. Against that a digest is kept elsewhere (`audit --verify` prints the last one) and asked for later.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, inspect, select, text

from model_gateway.storage.schema import audit

MAX_TEXT: Final = 256
"""Characters of a target or an actor; what is longer was not written by a person."""

_FIRST: Final = "0" * 64
_LOCK: Final = 7_201_502  # of PostgreSQL, an arbitrary number of ours: one row after the other
_BATCH: Final = 1_000


class Actor(msgspec.Struct, frozen=True):
    """`source`: an address, or how else the act came in."""

    name: str
    source: str


GATEWAY: Final = Actor("gateway", "itself")
SIGNAL: Final = Actor("signal", "this machine")


class Act(msgspec.Struct, frozen=True):
    """`action` such as key.created; `outcome`: ok, refused or failed; `detail` without anything secret."""

    action: str
    target: str = ""
    outcome: str = "ok"
    detail: Mapping[str, object] = {}


class Entry(msgspec.Struct, frozen=True):
    """One row. `at` in epoch milliseconds: whole numbers are the same in every database. `detail` is JSON."""

    seq: int
    at: int
    actor: str
    source: str
    action: str
    target: str
    outcome: str
    detail: str
    previous: str
    digest: str

    def sealed(self) -> str:
        """What `digest` has to be."""
        return sha256(msgspec.json.encode(msgspec.structs.astuple(self)[:-1])).hexdigest()


def operator() -> Actor:
    """Whoever runs this command, as the operating system knows him."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        name = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    behind = os.environ.get("SUDO_USER", "")
    return Actor(f"os:{name}{f' (sudo by {behind})' if behind and behind != name else ''}", "command line")


def append(connection: Connection, by: Actor, act: Act, now: float) -> Entry:
    """In the caller's transaction, which should end soon: others wait to write theirs."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    last = connection.execute(select(audit.c.seq, audit.c.digest).order_by(audit.c.seq.desc()).limit(1)).first()
    entry = Entry(
        seq=last[0] + 1 if last else 1,
        at=round(now * 1000),
        actor=_plain(by.name),
        source=_plain(by.source),
        action=act.action,
        target=_plain(act.target),
        outcome=act.outcome,
        detail=msgspec.json.encode(act.detail, order="sorted").decode(),
        previous=last[1] if last else _FIRST,
        digest="",
    )
    entry = msgspec.structs.replace(entry, digest=entry.sealed())
    connection.execute(insert(audit).values(**msgspec.structs.asdict(entry)))
    return entry


def kept_in(connection: Connection) -> bool:
    """Whether there is a log to write to: a database of an older layout may have none."""
    return audit.name in inspect(connection).get_table_names()


def entries(
    connection: Connection, since: float = 0.0, action: str = "", before: int | None = None, limit: int = 100
) -> Sequence[Entry]:
    """The newest first. `action`: one such as key.created, or what it begins with, such as key."""
    query = select(audit).where(audit.c.at >= round(since * 1000)).order_by(audit.c.seq.desc()).limit(limit)
    if action:
        query = query.where((audit.c.action == action) | audit.c.action.startswith(f"{action}.", autoescape=True))
    if before is not None:
        query = query.where(audit.c.seq < before)
    return [Entry(*row) for row in connection.execute(query)]


class Checked(msgspec.Struct, frozen=True):
    """`fault`: the first thing that is wrong with the chain, "" where nothing is; `last`: the newest digest."""

    count: int
    last: str
    fault: str = ""


def verify(connection: Connection, known: str = "") -> Checked:
    """Walk the chain from its first row. `known`: a digest of then that must still be in it."""
    previous, count, met = _FIRST, 0, not known
    for entry in _chain(connection):
        fault = (
            f"row {count + 1} is missing: {entry.seq} follows {count}"
            if entry.seq != count + 1
            else f"row {entry.seq} does not continue row {count}: one of them was replaced"
            if entry.previous != previous
            else f"row {entry.seq} was changed: its digest is another"
            if entry.digest != entry.sealed()
            else ""
        )
        if fault:
            return Checked(count, previous, fault)
        previous, count, met = entry.digest, entry.seq, met or entry.digest == known
    gone = "" if met else f"no row has the digest {known}: rows were cut off, or all of it was written anew"
    return Checked(count, previous if count else "", gone)


def facts(entry: Entry) -> dict[str, Any]:
    """What is told of it."""
    told = msgspec.structs.asdict(entry)
    return told | {"at": moment(entry.at), "detail": msgspec.json.decode(entry.detail)}


def moment(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _chain(connection: Connection) -> Iterator[Entry]:
    at = 0
    while rows := connection.execute(select(audit).where(audit.c.seq > at).order_by(audit.c.seq).limit(_BATCH)).all():
        for row in rows:
            yield Entry(*row)
        at = rows[-1][0]


def _plain(written: str) -> str:
    """One line of text that every database can hold."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in written)
    return shown.encode(errors="replace").decode()[:MAX_TEXT]
