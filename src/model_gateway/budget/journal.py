"""The journal: what the ledger must not lose, in files of this process, before anybody is asked or answered.

A row is written twice: when a provider is about to be asked (an intent: what is charged should nothing more be heard of
it) and when its request has ended. Files are mapped into memory, so that writing is a copy without a system call, and a
killed process loses nothing: what is in a shared mapping is the kernel's (a power cut may take the last seconds; an
`fsync` a request would cost more than all the rest). Their blocks are allocated first: a full disk is an error then,
and not a signal later. The ledger's thread tells what is in the database; a file with nothing else is deleted. What a
dead process has left behind is read by whoever starts, or lives, next. Decides what is left to be written; writes no
database.

A file holds frames: length and CRC-32 of the payload (four bytes each, little endian), and the payload, a row as
MessagePack. The last row of a uid counts. A length of 0, or a frame that is cut or damaged, ends its file.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import struct
from collections import deque
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeAlias
from zlib import crc32

import msgspec

try:
    import fcntl
except ImportError:  # Windows: a journal is taken over at the next start only
    fcntl = None

Value: TypeAlias = "str | int | float | bool | None"
Row: TypeAlias = "tuple[Value, ...]"

SEGMENT_SIZE = 4 * 1024 * 1024
"""Bytes of a file; of a larger one where a single row needs it."""

_HEAD = struct.Struct("<II")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[str | int | float | bool | None]).decode


def folder_of(ledger: str) -> Path:
    """Beside the ledger."""
    return Path(f"{ledger}.journals")  # `-journal` is a name of SQLite's own


class Segment:
    """One file. `written` is counted by the event loop, `stored` by the ledger's thread: no lock is needed."""

    __slots__ = ("at", "descriptor", "memory", "path", "size", "stored", "written")

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _lock(self.descriptor)
            _allocate(self.descriptor, size)
            self.memory = mmap.mmap(self.descriptor, size)
        except BaseException:
            os.close(self.descriptor)
            path.unlink()
            raise
        self.size = size
        self.at = 0
        self.written = 0
        self.stored = 0


class Journal:
    """Of one process. `write` is called by the event loop alone, `sweep` by the ledger's thread.

    `name`: never given to another one.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the folder cannot be written."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._number = 0
        self._segment = self._next()
        self._full: deque[Segment] = deque()
        self.last_error = ""

    def write(self, row: Row) -> Segment | None:
        """None: it could not be written, and `last_error` says why. Whoever stores the row counts it in the segment."""
        segment = self._segment
        try:
            payload = _encode(row)
            frame = _HEAD.pack(len(payload), crc32(payload)) + payload
            end = segment.at + len(frame)
            if end > segment.size:
                segment = self._turn(len(frame))
                end = len(frame)
        except (OSError, UnicodeError, OverflowError) as error:
            self.last_error = str(error)
            return None
        segment.memory[segment.at : end] = frame
        segment.at = end
        segment.written += 1
        if self.last_error:
            self.last_error = ""
        return segment

    def sweep(self) -> None:
        """Deletes full files of which the database holds every row. For the ledger's thread, after it has written.

        Where the last write failed it looks whether there is room again: nobody may ask for a while.
        """
        if self.last_error and self._has_room():
            self.last_error = ""
        for _ in range(len(self._full)):
            segment = self._full.popleft()
            if segment.stored == segment.written:
                _delete(segment)
            else:
                self._full.append(segment)

    def _has_room(self) -> bool:
        probe = self._folder / f"{self.name}.probe"
        try:
            descriptor = os.open(probe, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                _allocate(descriptor, SEGMENT_SIZE)
            finally:
                os.close(descriptor)
                probe.unlink()
        except OSError:
            return False
        return True

    def close(self, *, kept: bool = False) -> None:
        """Nothing is written any more. A file that the database does not hold all of is for the next start.

        `kept`: so is the last one, for its name: there is something else of this process to be put in order.
        """
        for segment in (*self._full, self._segment):
            if segment.stored == segment.written and not (kept and segment is self._segment):
                _delete(segment)
            else:
                _close(segment)

    def _turn(self, needed: int) -> Segment:
        following = self._next(needed)
        self._full.append(self._segment)
        self._segment = following
        return following

    def _next(self, needed: int = 0) -> Segment:
        self._number += 1
        return Segment(self._folder / f"{self.name}-{self._number:08d}.journal", max(SEGMENT_SIZE, needed))


@contextlib.contextmanager
def left_behind(folder: Path) -> Generator[dict[str, list[Row]]]:
    """What dead processes have not brought into the database, by the names of their journals.

    Their files are deleted when the block ends well.
    """
    taken: list[tuple[int, Path]] = []
    found: dict[str, dict[Value, Row]] = {}
    try:
        for path in sorted(folder.glob("*.journal")):
            descriptor = _take(path)
            if descriptor is not None:
                taken.append((descriptor, path))
                rows = found.setdefault(path.stem.rpartition("-")[0], {})
                rows.update((row[0], row) for row in read(path))
        yield {name: list(rows.values()) for name, rows in found.items()}
        for _, path in taken:
            path.unlink(missing_ok=True)
    finally:
        for descriptor, _ in taken:
            os.close(descriptor)


def owned(folder: Path, name: str = "*") -> bool:
    """Whether a living process of this machine writes here, in journals of this name. Not known on Windows."""
    for path in folder.glob(f"{name}-*.journal"):
        descriptor = _take(path)
        if descriptor is not None:
            os.close(descriptor)
        elif path.exists():
            return True
    return False


def read(path: Path) -> Iterator[Row]:
    """Its rows in the order they were written, up to the first that is cut or damaged."""
    data = path.read_bytes()
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        if not length or len(payload) != length or crc32(payload) != checksum:
            return
        yield tuple(_decode(payload))
        at += _HEAD.size + length


def _take(path: Path) -> int | None:
    """A descriptor on a file whose process is dead, locked so that nobody else takes it too; None: leave it alone."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    if not _lock(descriptor) or not path.exists():
        os.close(descriptor)
        return None
    return descriptor


def _lock(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.write(descriptor, bytes(size))


def _delete(segment: Segment) -> None:
    segment.path.unlink(missing_ok=True)
    _close(segment)


def _close(segment: Segment) -> None:
    segment.memory.close()
    os.close(segment.descriptor)
