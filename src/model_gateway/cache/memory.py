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
        self._entries: OrderedDict[bytes, tuple[float, ChatReply]] = OrderedDict()
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
        expires_at, reply = entry
        if self._clock() >= expires_at:
            del self._entries[key]
            self.misses += 1
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        return reply

    def put(self, key: bytes, reply: ChatReply, size: int) -> bool:
        """Keep `reply` (`size` bytes). False: larger than cache.maxEntrySize, not kept."""
        entries = self._entries
        if size > self._max_entry_bytes:
            entries.pop(key, None)
            return False
        entries[key] = (self._clock() + self._ttl_s, reply)
        entries.move_to_end(key)
        if len(entries) > self._max_entries:
            entries.popitem(last=False)
        return True
