"""The memory cache against a plain model of what LRU with a time to live means."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from model_gateway.cache.memory import MemoryCache
from model_gateway.config.schema import CacheConfig
from model_gateway.domain.chat import ChatReply

TTL_S = 10
LIMIT = 3
LARGEST = 100
MOST = 150


def reply(text: str) -> ChatReply:
    return ChatReply(text=text, finish_reason="stop", usage=None, body=text.encode())


steps = st.lists(
    st.one_of(
        st.tuples(st.just("get"), st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), st.just(0)),
        st.tuples(st.just("put"), st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), st.sampled_from([1, 100, 101])),
        st.tuples(st.just("wait"), st.just(b""), st.integers(0, 12)),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(steps)
def test_it_behaves_like_the_model(actions: list[tuple[str, bytes, int]]) -> None:
    now = 0.0
    cache = MemoryCache(CacheConfig(ttl=TTL_S, max_size=LIMIT, max_entry_size=LARGEST, max_bytes=MOST), lambda: now)
    model: list[tuple[bytes, float, ChatReply, int]] = []  # least recently used first
    hits = misses = 0
    for number, (action, key, argument) in enumerate(actions):
        kept = next((entry for entry in model if entry[0] == key), None)
        if action == "wait":
            now += argument
        elif action == "put":
            if kept:
                model.remove(kept)
            fresh = reply(str(number))
            assert cache.put(key, fresh, argument) == (argument <= LARGEST)
            if argument <= LARGEST:
                model = [*model, (key, now + TTL_S, fresh, argument)][-LIMIT:]
                while sum(entry[3] for entry in model) > MOST:
                    del model[0]
        elif kept and now < kept[1]:
            model.remove(kept)
            model.append(kept)
            assert cache.get(key) is kept[2]
            hits += 1
        else:
            if kept:
                model.remove(kept)
            assert cache.get(key) is None
            misses += 1
        assert len(cache) == len(model) <= LIMIT
        assert cache.bytes == sum(entry[3] for entry in model) <= MOST
    assert (cache.hits, cache.misses) == (hits, misses)
