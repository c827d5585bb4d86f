"""Server-sent events: framing only. Never looks inside an event's data.

Follows the WHATWG event-stream grammar as far as model providers use it: `data` fields joined by line breaks, comments
and other fields skipped, lines ended by LF or CR LF.
"""

from __future__ import annotations

MAX_EVENT_BYTES = 8 * 1024 * 1024

# Numbers: `b"\r" in data` first takes its left side for one, in vain, which costs 28 times the search.
_CR, _LF = 13, 10


class EventTooLarge(ValueError):
    """An event grew past MAX_EVENT_BYTES without ending."""


class SseParser:
    """Feed bytes as they arrive, split anywhere; get the data of each finished event."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        buffer = self._buffer + data if self._buffer else data
        if buffer.startswith(b"data: ") and buffer.endswith(b"\n\n"):
            event = buffer[6:-2]
            if _LF not in event and _CR not in event and len(event) <= MAX_EVENT_BYTES:
                self._buffer = b""
                return [event]  # one, whole: so it usually comes
        if _CR in buffer:
            # A lone CR at the end may be the first half of CR LF: it waits.
            held = b"\r" if buffer.endswith(b"\r") else b""
            buffer = buffer[: len(buffer) - len(held)].replace(b"\r\n", b"\n") + held
        *events, self._buffer = buffer.split(b"\n\n")
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise EventTooLarge(f"a server-sent event is larger than {MAX_EVENT_BYTES} bytes")
        found: list[bytes] = []
        for event in events:
            if event.startswith(b"data: ") and _LF not in event:
                found.append(event[6:])
            else:
                payload = _data_of(event)
                if payload is not None:
                    found.append(payload)
        return found

    @property
    def pending(self) -> bool:
        """True when an unfinished event is buffered."""
        return bool(self._buffer.strip())


def _data_of(event: bytes) -> bytes | None:
    lines: list[bytes] = []
    for line in event.split(b"\n"):
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value[1:] if value.startswith(b" ") else value)
    return b"\n".join(lines) if lines else None


def frame(data: bytes) -> bytes:
    """One event. `data` must hold no line break: JSON written by us never does."""
    return b"data: " + data + b"\n\n"


def frame_any(data: bytes) -> bytes:
    """One event from foreign data, which may hold line breaks."""
    if _LF not in data and _CR not in data:
        return b"data: " + data + b"\n\n"
    return b"".join(b"data: " + line + b"\n" for line in data.splitlines()) + b"\n"
