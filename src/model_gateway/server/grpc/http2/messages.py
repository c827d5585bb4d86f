"""gRPC's messages, timeouts and statuses as bytes (gRPC over HTTP/2). Pure; bounded by what it is told."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import Final
from urllib.parse import quote

from model_gateway.server.grpc.http2.hpack import literal


class Code(IntEnum):
    """grpc's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


prefix = Struct(">BL")  # packed?, and how many bytes follow
PREFIX_BYTES: Final = 5
_SMALL, _UNPACKED = 65_536, 64  # bytes of any packed message, and times its size: text is packed to a third or a fifth
OK: Final = literal(b"grpc-status", b"0")
# `:status: 200`, which the static table has, and `content-type`, whose name it has.
REPLY: Final = b"\x88" + b"\x0f\x10\x10application/grpc" + literal(b"grpc-accept-encoding", b"identity,deflate,gzip")
NOT_GRPC: Final = b"\x08\x03415"  # `:status`, whose name the static table has
_UNITS: Final = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1.0, "M": 60.0, "H": 3600.0}
_SPELT: Final = "".join([chr(code) for code in range(0x20, 0x7F) if chr(code) != "%"])


class Refused(Exception):
    """The call ends with this: (code, details)."""


def unpacked(data: bytes, encoding: str, most: int) -> bytes:
    """A message that `grpc-encoding` says is packed, of at most `most` bytes. Raises Refused.

    Of no more either than _UNPACKED times what was sent: this is done before anybody has looked at a key.
    """
    if encoding not in ("gzip", "deflate"):
        raise Refused(Code.UNIMPLEMENTED, f"messages may be packed with gzip or deflate, not with {encoding[:40]}")
    unpacker = zlib.decompressobj(31 if encoding == "gzip" else 15)
    most = min(most, _SMALL + _UNPACKED * len(data))
    try:
        found = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise Refused(Code.INTERNAL, f"the message is not {encoding}: {error}") from None
    if len(found) > most:
        raise Refused(Code.RESOURCE_EXHAUSTED, f"the message has more than {most} bytes when it is unpacked")
    if not unpacker.eof:
        raise Refused(Code.INTERNAL, f"the message is cut: {encoding} has no end")
    return found


def taken(data: bytes | bytearray, inbox: deque[bytes], waiting: int, most: int, encoding: str) -> int:
    """Puts the messages that are whole into `inbox`, of `waiting` at most and of `most` bytes each, unpacked too.

    Returns where the rest begins. Raises Refused.
    """
    at = 0
    while len(data) - at >= PREFIX_BYTES:
        packed, length = prefix.unpack_from(data, at)
        if length > most or len(inbox) >= waiting:
            raise Refused(Code.RESOURCE_EXHAUSTED, "the message is too large, or too many wait")
        end = at + PREFIX_BYTES + length
        if len(data) < end:
            break
        message = bytes(data[at + PREFIX_BYTES : end])
        inbox.append(unpacked(message, encoding, most) if packed else message)
        at = end
    return at


def seconds(timeout: str) -> float:
    """What `grpc-timeout` says. Raises Refused."""
    number, unit = timeout[:-1], timeout[-1:]
    if unit not in _UNITS or not 0 < len(number) <= 8 or not (number.isascii() and number.isdigit()):
        raise Refused(Code.INTERNAL, "grpc-timeout is at most 8 digits and one of H M S m u n")
    return int(number) * _UNITS[unit]


def status(code: Code, details: str, metadata: Sequence[tuple[str, bytes]] = ()) -> bytes:
    """The header block that ends a call. `metadata`: of binary values, whose names end in -bin."""
    block = literal(b"grpc-status", b"%d" % code)
    if details:
        block += literal(b"grpc-message", quote(details, safe=_SPELT, errors="replace").encode())
    for name, value in metadata:
        block += literal(name.encode(), b64encode(value).rstrip(b"="))
    return block
