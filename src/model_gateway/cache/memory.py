"""Answers kept in this process: decides what stays (least recently used goes first) and for how long.

Never computes a key, never copies or changes a reply, and is not thread-safe: it belongs to one event loop.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from model_gateway.config.schema import CacheConfig
from model_gateway.domain.chat import ChatReply


class MemoryCache:
    """LRU with a time to live. `clock` gives seconds and never runs backwards (time.monotonic)."""

    def __init__(self, config: CacheConfig, clock: Callable[[], float]) -> None:
        self._ttl_s = float(config.ttl)
        self._max_entries = config.max_size
        self._max_entry_bytes = config.max_entry_size
        self._clock = clock
        self._max_bytes = config.max_bytes
        self._entries: OrderedDict[bytes, tuple[float, ChatReply, int]] = OrderedDict()
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> ChatReply | None:
        """The reply stored under `key`, or None; an expired one is forgotten."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        expires_at, reply, _ = entry
        if self._clock() >= expires_at:
            self._forget(key)
            self.misses += 1
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        return reply

    def put(self, key: bytes, reply: ChatReply, size: int) -> bool:
        """Keep `reply` (`size` bytes), and as many of the others as there is room for.

        False: larger than cache.maxEntrySize or cache.maxBytes, not kept.
        """
        entries = self._entries
        self._forget(key)
        if size > self._max_entry_bytes or size > self._max_bytes:
            return False
        entries[key] = (self._clock() + self._ttl_s, reply, size)
        self.bytes += size
        while len(entries) > self._max_entries or self.bytes > self._max_bytes:
            self._forget(next(iter(entries)))
        return True

    def _forget(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry[2]
