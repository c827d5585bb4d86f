"""Header blocks decoded (RFC 7541). Bounded by what its table and a block may hold; knows no field's meaning.

Clients repeat themselves: a block that changed no table is looked up whole the next time, until one changes it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from model_gateway.server.grpc.http2.tables import STATIC, automaton

TABLE_BYTES: Final = 4096  # the protocol's own, which we do not change
_OVERHEAD: Final = 32  # of each field, as the RFC counts
MOST_FIELDS: Final = 128  # of a block: a name and a value of a byte each take a hundred times that
_KNOWN_BLOCK, _KNOWN_BYTES = 4096, 16_384  # of a block that is remembered and of all of them, their fields included
_FIRST_DYNAMIC: Final = 62

Fields = dict[str, str]


class BadBlock(Exception):
    """The connection's tables are not those of its client any more: nothing that follows can be read."""


class TooLarge(Exception):
    """The fields are more than is taken. The tables are right: only this request is refused."""


class Decoder:
    """One direction of one connection. `limit`: of a block's fields, in bytes as the RFC counts them."""

    __slots__ = ("_dynamic", "_known", "_known_bytes", "_limit", "_room", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._dynamic: deque[tuple[str, str]] = deque()
        self._size = 0
        self._room = TABLE_BYTES
        self._known: dict[bytes, Fields] = {}
        self._known_bytes = 0

    def decode(self, block: bytes) -> Fields:
        """A repeated field keeps its last value. The fields are not to be changed. Raises BadBlock, TooLarge."""
        found = self._known.get(block)
        if found is not None:
            return found
        try:
            return self._decode(block)
        except (IndexError, UnicodeDecodeError):
            raise BadBlock("the block ends in the middle of a field") from None

    def _decode(self, block: bytes) -> Fields:
        fields: Fields = {}
        at, end, size, changed = 0, len(block), 0, False
        while at < end:
            first = block[at]
            if first & 0x80:
                place, at = _number(block, at, 0x7F)
                name, value = self._at(place)
            elif first & 0xE0 == 0x20:
                if fields:
                    raise BadBlock("a table's size may change only before the first field")
                self._room, at = _number(block, at, 0x1F)
                if self._room > TABLE_BYTES:
                    raise BadBlock("the table is larger than we allow")
                self._shrink()
                changed = True
                continue
            else:
                kept = first & 0x40
                place, at = _number(block, at, 0x3F if kept else 0x0F)
                if place:
                    name = self._at(place)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                if kept:
                    self._dynamic.appendleft((name, value))
                    self._size += len(name) + len(value) + _OVERHEAD
                    self._shrink()
                    changed = True
            size += len(name) + len(value) + _OVERHEAD
            if size <= self._limit:
                fields[name] = value
        if changed:
            self._forget()
        if size > self._limit or len(fields) > MOST_FIELDS:
            raise TooLarge
        if not changed:
            self._remember(block, fields, end + size)
        return fields

    def _remember(self, block: bytes, fields: Fields, size: int) -> None:
        if size > _KNOWN_BLOCK:
            return
        if self._known_bytes + size > _KNOWN_BYTES:
            self._forget()  # blocks that never come again must not keep out those that do
        self._known[block] = fields
        self._known_bytes += size

    def _forget(self) -> None:
        self._known.clear()
        self._known_bytes = 0

    def _at(self, place: int) -> tuple[str, str]:
        if place >= _FIRST_DYNAMIC:
            return self._dynamic[place - _FIRST_DYNAMIC]
        if not place:
            raise BadBlock("there is no field 0")
        return STATIC[place]

    def _shrink(self) -> None:
        while self._size > self._room:
            name, value = self._dynamic.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


def _number(block: bytes, at: int, mask: int) -> tuple[int, int]:
    number = block[at] & mask
    at += 1
    if number < mask:
        return number, at
    for shift in (0, 7, 14, 21):
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise BadBlock("a number is too large")


def _text(block: bytes, at: int) -> tuple[str, int]:
    huffman = block[at] & 0x80
    length, at = _number(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise BadBlock("a text is longer than its block")
    raw = block[at:end]
    return (unfolded(raw) if huffman else raw).decode("latin-1"), end


def unfolded(raw: bytes) -> bytes:
    """A text in Huffman's code. Raises BadBlock."""
    table, state, whole = automaton(), 0, True
    found = bytearray()
    for byte in raw:
        for nibble in (byte >> 4, byte & 15):
            state, symbol, whole = table[state << 4 | nibble]
            if state < 0:
                raise BadBlock("a text has a code that means nothing")
            if symbol >= 0:
                found.append(symbol)
    if not whole:
        raise BadBlock("a text is not filled up as it must be")
    return bytes(found)


def literal(name: bytes, value: bytes) -> bytes:
    """A field that no table keeps, as it is."""
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(number: int) -> bytes:
    if number < 0x7F:
        return bytes((number,))
    number -= 0x7F
    found = bytearray(b"\x7f")
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
