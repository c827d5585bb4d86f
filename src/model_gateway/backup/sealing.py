"""A file that only a passphrase opens: a stream in sealed pieces, so that neither side holds all of it.

Decides the form: a head (mark, scrypt's cost, salt, nonce's beginning), then pieces of AES-256-GCM, each bound to the
head, its number, and whether it is the last: what is changed, cut, reordered or of another file does not open. Knows
nothing of what is inside.
"""

from __future__ import annotations

import io
import secrets
import struct
from hashlib import scrypt
from typing import TYPE_CHECKING, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

MARK = b"MGWSEAL1"
PIECE_BYTES = 64 * 1024
_TAG_BYTES = 16
_COST = 16  # log2 of scrypt's n: 64 MiB and some tenths of a second for each guess
_MAX_COST = 20  # of a file that somebody else may have written: 1 GiB
_HEAD = struct.Struct(">8sB16s7s")


class SealError(Exception):
    """It does not open: the file is not as it was written."""


class WrongPassphrase(SealError):
    """Or the very beginning of the file is not as it was written: that cannot be told apart."""


class Sealer:
    """Writes sealed pieces to `sink`, which stays open. It is whole only after `finish`."""

    def __init__(self, sink: BinaryIO, passphrase: str) -> None:
        salt, self._prefix = secrets.token_bytes(16), secrets.token_bytes(7)
        self._head = _HEAD.pack(MARK, _COST, salt, self._prefix)
        self._cipher = AESGCM(_key(passphrase, salt, _COST))
        self._sink = sink
        self._pending = bytearray()
        self._number = 0
        sink.write(self._head)

    def write(self, data: ReadableBuffer, /) -> int:
        given = bytes(data)
        self._pending += given
        while len(self._pending) > PIECE_BYTES:  # one piece is always kept: it may be the last
            self._put(bytes(self._pending[:PIECE_BYTES]), last=False)
            del self._pending[:PIECE_BYTES]
        return len(given)

    def flush(self) -> None:
        """Nothing to do: a piece is written when it is full."""

    def finish(self) -> None:
        self._put(bytes(self._pending), last=True)

    def _put(self, piece: bytes, *, last: bool) -> None:
        self._sink.write(self._cipher.encrypt(_nonce(self._prefix, self._number, last=last), piece, self._head))
        self._number += 1


class Unsealer(io.RawIOBase):
    """Reads what a Sealer wrote. Raises SealError as soon as a piece is not as it was."""

    def __init__(self, source: BinaryIO, passphrase: str) -> None:
        super().__init__()
        self._head = source.read(_HEAD.size)
        if len(self._head) < _HEAD.size:
            raise SealError("the file is cut off")
        mark, cost, salt, self._prefix = _HEAD.unpack(self._head)
        if mark != MARK or cost > _MAX_COST:
            raise SealError("the file is not sealed in a way that is known here")
        self._cipher = AESGCM(_key(passphrase, salt, cost))
        self._source = source
        self._ahead = source.read(PIECE_BYTES + _TAG_BYTES)
        self._piece = b""
        self._number = 0
        self._done = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        while not self._piece and not self._done:
            self._piece = self._next()
        count = min(len(view), len(self._piece))
        view[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def _next(self) -> bytes:
        sealed, self._ahead = self._ahead, self._source.read(PIECE_BYTES + _TAG_BYTES)
        self._done = not self._ahead
        try:
            piece = self._cipher.decrypt(_nonce(self._prefix, self._number, last=self._done), sealed, self._head)
        except (InvalidTag, ValueError):
            if self._number:
                raise SealError("the file is damaged or cut off") from None
            raise WrongPassphrase(
                "the passphrase is not the one it was made with, or the file's beginning is damaged"
            ) from None
        self._number += 1
        return piece


def _key(passphrase: str, salt: bytes, cost: int) -> bytes:
    n = 1 << cost
    return scrypt(passphrase.encode(), salt=salt, n=n, r=8, p=1, maxmem=n * 8 * 128 * 2, dklen=32)


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + struct.pack(">IB", number, last)
