"""Which request a row of the ledger is, and why nobody can say how it was decided where that is so."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
from sqlalchemy import Connection, select

from model_gateway.domain.record import SHADOW_DOOR
from model_gateway.storage.schema import requests

Unknown: TypeAlias = Literal["", "cache", "not_judged", "copy", "gone"]
"""The cache has answered; it was refused before; a mirrored copy; older than what is kept, or another machine's."""


class Row(msgspec.Struct, frozen=True):
    """`score` None: it was never judged."""

    uid: str
    door: str
    cache: str
    score: float | None

    def unknown(self) -> Unknown:
        """Why no process can know; "" where one may."""
        if self.score is not None:
            return "copy" if self.door == SHADOW_DOOR else ""
        return "cache" if self.cache in ("hit", "repeated") else "not_judged"


def row_of(connection: Connection, seq: int) -> Row | None:
    columns = requests.c
    found = connection.execute(
        select(columns.uid, columns.door, columns.cache, columns.score).where(columns.id == seq)
    ).first()
    return None if found is None else Row(*found)
