"""Who a client's certificate says its owner is. Decides which of its names count; never who may do what. Pure.

The certificate was verified in the handshake. A name that no log line or row should carry is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

MAX_CHARACTERS: Final = 256
_ALTERNATIVES: Final = {"uri": "URI", "dns": "DNS", "email": "email"}


def from_certificate(certificate: Mapping[str, Any] | None, kind: str) -> tuple[str, ...]:
    """`certificate` as `SSLSocket.getpeercert` gives it, `kind` as in `client_identity`."""
    if not certificate:
        return ()
    if kind == "common_name":
        subject: Sequence[Sequence[tuple[str, str]]] = certificate.get("subject", ())
        names = [value for part in subject for name, value in part if name == "commonName"]
        return _usable(names[:1])
    alternatives: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ())
    return _usable(value for name, value in alternatives if name == _ALTERNATIVES.get(kind))


def _usable(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if 0 < len(name) <= MAX_CHARACTERS and name.isprintable())
