"""Who is asking."""

from __future__ import annotations

import msgspec


class Caller(msgspec.Struct, frozen=True):
    """`tenant` separates caches, limits and bills; `key_name` is the key's name, never the key."""

    tenant: str = "default"
    key_name: str = ""


ANONYMOUS = Caller()
