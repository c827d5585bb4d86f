"""From when to when a certificate is valid: RFC 5280, 4.1.2.5, read from its DER. Pure.

The standard library tells it only of a certificate that a peer has shown and that was verified.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0  # [0], which certificates of version 1 leave out
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_PIVOT: Final = 50  # years of two digits: from here on 19.., below 20..


class Validity(NamedTuple):
    """Epoch seconds."""

    since: float
    until: float


class _Element(NamedTuple):
    tag: int
    start: int
    end: int


def validity(der: bytes) -> Validity:
    """Raises ValueError for what is no certificate."""
    certificate = _element(der, 0, _SEQUENCE)
    signed = _element(der, certificate.start, _SEQUENCE)
    at = signed.start
    if _element(der, at).tag == _VERSION:
        at = _element(der, at).end
    for _passed in ("serialNumber", "signature", "issuer"):
        at = _element(der, at).end
    times = _element(der, at, _SEQUENCE)
    since = _element(der, times.start)
    until = _element(der, since.end)
    return Validity(_time(der, since), _time(der, until))


def _element(der: bytes, at: int, tag: int | None = None) -> _Element:
    """The element that begins at `at`. Lengths below 128 are one byte; longer ones say how many bytes they have."""
    if at + 2 > len(der):
        raise ValueError("the certificate ends too early")
    length, start = der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        start += count
        if not 0 < count <= 4 or start > len(der):
            raise ValueError("a length cannot be read")
        length = int.from_bytes(der[at + 2 : start])
    if start + length > len(der) or (tag is not None and der[at] != tag):
        raise ValueError("this is no certificate")
    return _Element(der[at], start, start + length)


def _time(der: bytes, element: _Element) -> float:
    text = der[element.start : element.end].decode("ascii")
    if element.tag == _UTC_TIME:
        text = ("19" if int(text[:2]) >= _PIVOT else "20") + text
    elif element.tag != _GENERALIZED_TIME:
        raise ValueError("this is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
