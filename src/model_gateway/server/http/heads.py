"""What stands before a body, not made anew each time: status lines, and a client's head that was parsed before.

A client sends the same lines with each request but for the length of its body. `KnownHead` decides whether what has
come is a head that llhttp has accepted on this connection, byte for byte but for that number, with all of its body;
anything else is llhttp's to read. Knows no path and no limit.
"""

from __future__ import annotations

from typing import Final

REASONS: Final = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 413: "Content Too Large", 422: "Unprocessable Content",
    429: "Too Many Requests", 431: "Request Header Fields Too Large", 499: "Client Closed Request",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip
STATUS_LINES: Final = {code: f"HTTP/1.1 {code} {reason}\r\n".encode() for code, reason in REASONS.items()}

MOST_BYTES: Final = 8 * 1024
"""Of a head that is remembered: there is one for each connection."""

_LENGTH: Final = b"\r\ncontent-length:"
_MOST_DIGITS: Final = 15
# With these a head says more than its bytes do, or its body is not as long as it says.
_SPECIAL: Final = frozenset(("expect", "http2-settings", "transfer-encoding", "upgrade"))


class KnownHead:
    """`before` and `after`: its bytes up to the length of the body, and from there to the body.

    `headers` as they were read; nobody may change them.
    """

    __slots__ = ("_after", "_before", "headers", "method", "target")

    def __init__(self, before: bytes, after: bytes, method: str, target: str, headers: dict[str, str]) -> None:
        self._before = before
        self._after = after
        self.method = method
        self.target = target
        self.headers = headers

    def body_of(self, data: bytes) -> bytes | None:
        """The body of a request with this head, where `data` is that request and nothing else."""
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        digits = data[start:end]
        if end < 0 or not digits.isdigit() or not data.startswith(after, end):
            return None
        body = data[end + len(after) :]
        return body if len(body) == int(digits) else None


def known_head(data: bytes, method: str, target: str, headers: dict[str, str], body: bytes) -> KnownHead | None:
    """`data` was read as one request of a client that goes on, in HTTP/1.1. None: its head is not worth remembering."""
    length = len(data) - len(body)
    if length > MOST_BYTES or not data.endswith(b"\r\n\r\n", 0, length) or not _SPECIAL.isdisjoint(headers):
        return None
    if headers.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    head = data[:length].lower()
    at = head.find(_LENGTH)
    if at < 0 or head.find(b"\r\n\r\n") != length - 4 or head.find(_LENGTH, at + 1) >= 0:
        return None
    start = at + len(_LENGTH)
    start += length - start - len(head[start:].lstrip(b" \t"))
    end = head.find(b"\r", start)
    if head[start:end] != b"%d" % len(body):
        return None
    return KnownHead(data[:start], data[end:length], method, target, headers)
