"""HTTP/2's frames as bytes (RFC 9113, section 4 and 6). No behaviour."""

from __future__ import annotations

from struct import Struct
from typing import Final

from model_gateway.server.grpc.http2.limits import Broken

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR = range(
    7
)
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(7, 12)
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 3, 4, 5, 6
DEFAULT_WINDOW: Final = 65_535
MAX_WINDOW: Final = 2**31 - 1
FRAME_BYTES: Final = 16_384  # the protocol's own; we ask for no more

HEAD_BYTES: Final = 9
head = Struct(">BHBBL").pack  # length's high byte and low bytes, kind, flags, stream
read_head = Struct(">HBBBL").unpack_from  # the same, cut elsewhere
setting = Struct(">HL")
number = Struct(">L")
last_stream = Struct(">LL")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    length = len(payload)
    return head(length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join([setting.pack(*each) for each in values.items()]))


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, number.pack(code))


def window_update(stream: int, more: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, number.pack(more))


def goaway(last: int, code: int, why: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, last_stream.pack(last, code) + why)


def unpadded(payload: bytes, flags: int) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Broken(PROTOCOL_ERROR, b"more padding than frame")
    return payload[1 : len(payload) - payload[0]]
