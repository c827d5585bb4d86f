"""Which conversation a request belongs to. Pure.

By the name that its caller gives it, else by how it begins: clients send the whole conversation each time, so that its
system prompt and first turn are the same in all of its requests. Never across keys: whose it is counts first.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

SYSTEM_CHARACTERS: Final = 2_000
FIRST_CHARACTERS: Final = 2_000
"""So much of them tells conversations apart; of the rest the length."""

_NAMED, _BEGINNING = "n", "b"


def named(tenant: str, key_name: str, name: str) -> int:
    return _number(_NAMED, tenant, key_name, name)


def beginning(tenant: str, key_name: str, system: str, first: str) -> int:
    """`first`: the words of the first turn."""
    return _number(
        _BEGINNING,
        tenant,
        key_name,
        system[:SYSTEM_CHARACTERS],
        f"{len(first)} {first[:FIRST_CHARACTERS]}",
    )


def _number(*parts: str) -> int:
    """Never 0, and it fits a signed word."""
    text = "\0".join(parts).encode(errors="surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest()) >> 1 or 1
