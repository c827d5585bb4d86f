"""Requests share a cached answer only where nothing that could change it differs."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.cache.key import KEY_BYTES, cache_key
from model_gateway.domain.chat import ChatRequest, Message

BODY: dict[str, object] = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}


def ask(
    body: Mapping[str, object] = BODY,
    *,
    text: str = "hi",
    model: str = "auto",
    provider: str = "",
    capabilities: frozenset[str] = frozenset(),
) -> ChatRequest:
    return ChatRequest(
        request_id="any",
        model=model,
        messages=[Message(role="user", content=text)],
        body={name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()},
        preferred_provider=provider,
        required_capabilities=capabilities,
    )


def test_order_and_carriage_do_not_count() -> None:
    carried = {"stream": True, "stream_options": {"include_usage": True}}
    reversed_body = dict(reversed(list(BODY.items()))) | carried
    key = cache_key("t", ask())
    assert cache_key("t", ask(reversed_body)) == key
    assert len(key) == KEY_BYTES


@pytest.mark.parametrize(
    "other",
    [
        ask(BODY | {"temperature": 0.6}),
        ask(BODY | {"user": "u1"}),
        ask(BODY | {"seed": 1}),
        ask(BODY | {"messages": []}),
        ask({name: value for name, value in BODY.items() if name != "temperature"}),
        ask(model="gpt-4o"),
        ask(provider="openai"),
        ask(capabilities=frozenset({"vision"})),
    ],
)
def test_everything_else_counts(other: ChatRequest) -> None:
    assert cache_key("t", other) != cache_key("t", ask())


def test_tenants_never_share() -> None:
    assert cache_key("a", ask()) != cache_key("b", ask())


def test_without_messages_in_the_body_the_decoded_ones_count() -> None:
    assert cache_key("t", ask({}, text="one")) != cache_key("t", ask({}, text="two"))


fields = st.dictionaries(
    st.text("abc0123,;", max_size=5).filter(lambda name: name != "messages"), st.text("abc0123,;", max_size=5)
)
names = st.text("abc,;", max_size=4)


@given(names, fields, names, names, fields, names)
def test_no_two_different_requests_collide(
    tenant: str, one: dict[str, str], provider: str, tenant2: str, two: dict[str, str], provider2: str
) -> None:
    same = (tenant, one, provider) == (tenant2, two, provider2)
    equal = cache_key(tenant, ask(one, provider=provider)) == cache_key(tenant2, ask(two, provider=provider2))
    assert equal == same


def test_what_the_caller_may_be_routed_to_counts() -> None:
    keys = {cache_key("t", ask()), cache_key("t", ask(), b"one view"), cache_key("t", ask(), b"another")}
    assert len(keys) == 3
