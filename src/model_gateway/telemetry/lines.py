"""Where log lines go: console or rotating file. Decides when they are written, never what they say.

`LineWriter.put` only queues; a thread writes a batch every FLUSH_INTERVAL_S, so that neither a slow disk nor a blocked
pipe holds up a request. A killed process loses at most that interval; a normal exit loses nothing.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from concurrent_log_handler import ConcurrentRotatingFileHandler

from model_gateway.config.errors import StartupError
from model_gateway.config.schema import LogFile
from model_gateway.threads import give_way

FLUSH_INTERVAL_S = 0.2

CAPACITY = 100_000
"""Lines waiting at most (about 40 MB). Beyond it new lines are dropped, and a line says how many."""

_CHUNK_CHARS = 64 * 1024
_UNITS = {"k": 1024, "m": 1024**2, "g": 1024**3}

Sink = Callable[[str], None]
"""Writes whole lines, separated and not ended by a line break. May raise OSError."""


class LineWriter:
    """Owns the thread that feeds `sink`; `release` is called once, after the last line."""

    def __init__(self, sink: Sink, release: Callable[[], None] = lambda: None) -> None:
        self._sink = sink
        self._release = release
        self._lines: deque[str] = deque()
        self._lock = threading.Lock()  # one batch at a time: `flush` may be called from any thread
        self._closing = threading.Event()
        self.dropped = 0
        self._told = 0
        self._thread = threading.Thread(target=self._write_until_closed, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Queue a line, without line break. Never blocks, never raises."""
        if len(self._lines) >= CAPACITY:
            self.dropped += 1
        else:
            self._lines.append(line)

    def flush(self) -> None:
        """Write what is queued now."""
        lines = self._lines
        with self._lock:
            while lines:
                batch: list[str] = []
                chars = 0
                while lines and chars < _CHUNK_CHARS:  # a rotating file decides between batches, so keep them small
                    batch.append(lines.popleft())
                    chars += len(batch[-1])
                self._write(batch)
            if self.dropped > self._told:
                self._told, count = self.dropped, self.dropped - self._told
                self._write([f'{{"level":"error","event":"log lines dropped","count":{count}}}'])

    def close(self) -> None:
        """Write everything and stop."""
        self._closing.set()
        self._thread.join(5)
        self.flush()
        self._release()

    def _write(self, batch: list[str]) -> None:
        try:
            self._sink("\n".join(batch))
        except (OSError, ValueError):  # a full disk, a closed pipe or stream: counted, and never a request's problem
            self.dropped += len(batch)
            self._told += len(batch)

    def _write_until_closed(self) -> None:
        give_way()
        while not self._closing.wait(FLUSH_INTERVAL_S):
            self.flush()


def console_writer() -> LineWriter:
    """Lines to stderr: stdout belongs to commands that print results."""

    def write(text: str) -> None:
        stream = sys.stderr  # looked up each time: tests and daemons replace it
        data = (text + "\n").encode(errors="backslashreplace")
        buffer = getattr(stream, "buffer", None)
        if isinstance(buffer, io.BufferedIOBase):
            buffer.write(data)
        else:
            stream.write(data.decode())
        stream.flush()

    return LineWriter(write)


def file_writer(config: LogFile) -> LineWriter:
    """Lines to a file that several processes may share and rotate. Raises StartupError where it cannot be written."""
    path = Path(config.path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
    except OSError as error:
        raise StartupError(
            f"logging.file.path: {path} cannot be written: {error.strerror}",
            "set logging.file.path to a place this user may write, or logging.destination to console",
        ) from error
    handler = _RotatingFile(
        str(path), maxBytes=size_bytes(config.max_size), backupCount=config.max_files, encoding="utf-8"
    )

    def release() -> None:
        with contextlib.suppress(OSError):
            handler.close()

    return LineWriter(handler.write_lines, release)


def size_bytes(text: str) -> int:
    """`10m` → 10485760; k, m and g are powers of 1024, no letter means bytes."""
    unit = _UNITS.get(text[-1].lower())
    return int(text) if unit is None else int(text[:-1]) * unit


class _RotatingFile(ConcurrentRotatingFileHandler):
    """Writes batches: its lock and its size check cost more than a line."""

    def write_lines(self, text: str) -> None:
        text = text.encode(errors="backslashreplace").decode()
        self.emit(logging.LogRecord("", logging.INFO, "", 0, text, None, None))

    def format(self, record: logging.LogRecord) -> str:
        return record.msg

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  the signature is logging's
        """Raise to LineWriter, which counts: logging itself would print the lines to stderr."""
        error = sys.exc_info()[1]
        raise error if isinstance(error, OSError) else OSError(str(error))
