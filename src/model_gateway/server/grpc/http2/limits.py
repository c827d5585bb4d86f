"""What one client of the gRPC door may do, in bytes and seconds, and how it is told that it is too much."""

from __future__ import annotations

import msgspec


class Broken(Exception):
    """The client does not speak HTTP/2, or too much of it: (code, what). The connection ends."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes and seconds, computed once per configuration. 0 of an age, a grace or a ping: never.

    `alive_s` without a byte from the client it is pinged, and has `answer_s` to answer; it may ping every `ping_s`.
    """

    header_bytes: int
    received_bytes: int
    sent_bytes: int
    header_s: float
    body_s: float
    age_s: float
    age_grace_s: float
    alive_s: float
    answer_s: float
    ping_s: float
