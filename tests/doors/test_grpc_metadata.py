from __future__ import annotations

from typing import Any

import msgspec
import pytest

from model_gateway.domain.errors import InvalidRequest
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.server.grpc import metadata as m


def wire(query: str = "why?", **metadata: str) -> pb.ModelRequest:
    return pb.ModelRequest(query=query, metadata=metadata)


def test_every_key_takes_effect() -> None:
    request = m.decode_request(
        wire(
            "为什么天空是蓝的？",
            budget="0.05",
            maxTokens="256",
            temperature="0.7",
            systemMessage="be short",
            preferredProvider="tiny",
            timeout="1500",
            user_id="u1",
            session_id="s1",
        ),
        "req_1",
    )
    assert request.request_id == "req_1"
    assert request.model == "auto"
    assert [(message.role, message.content) for message in request.messages] == [
        ("system", "be short"),
        ("user", "为什么天空是蓝的？"),
    ]
    assert request.query() == "为什么天空是蓝的？"
    assert request.budget_nano == 50_000_000
    assert (request.max_tokens, request.timeout_s, request.preferred_provider) == (256, 1.5, "tiny")
    assert request.labels == {"user_id": "u1", "session_id": "s1"}
    assert not request.stream
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(request.body))
    assert body == {
        "messages": [
            {"role": "system", "content": "be short"},
            {"role": "user", "content": "为什么天空是蓝的？"},
        ],
        "max_tokens": 256,
        "temperature": 0.7,
    }


def test_nothing_said_means_none() -> None:
    request = m.decode_request(wire(), "req_1", stream=True)
    assert (request.budget_nano, request.max_tokens, request.timeout_s) == (None, None, None)
    assert request.preferred_provider == ""
    assert list(request.body) == ["messages"]
    assert request.labels == {}
    assert request.stream


@pytest.mark.parametrize(
    ("text", "nano"),
    [("0", 0), ("1", 10**9), ("0.000000001", 1), ("1e-7", 100), ("2.5E2", 250 * 10**9), ("1000000", 10**15)],
)
def test_budget_is_exact(text: str, nano: int) -> None:
    assert m.decode_request(wire(budget=text), "r").budget_nano == nano


@pytest.mark.parametrize(
    ("key", "texts"),
    [
        ("budget", ("", "free", "-1", "NaN", "inf", "1_0", "1000000.1", "0,5", "$1", "1e99", " 1", "٣", "9" * 5000)),
        ("maxTokens", ("", "0", "-1", "1.5", "1e3", "many", "2147483648", "²", "9" * 5000)),
        ("temperature", ("", "-0.1", "2.01", "hot", "nan", "1_0")),
        ("timeout", ("", "0", "-5", "1.5", "30s", "86400001")),
    ],
)
def test_a_malformed_value_names_its_key(key: str, texts: tuple[str, ...]) -> None:
    for text in texts:
        with pytest.raises(InvalidRequest, match=rf"^metadata\.{key} must be .*such as") as caught:
            m.decode_request(wire(**{key: text}), "r")
        assert caught.value.param == f"metadata.{key}"


@pytest.mark.parametrize("temperature", ["0", "2", "2.0", "1e0"])
def test_temperature_includes_its_ends(temperature: str) -> None:
    body = m.decode_request(wire(temperature=temperature), "r").body
    assert float(bytes(body["temperature"])) == float(temperature)


@pytest.mark.parametrize("query", ["", "  \n\t", "\u3000"])
def test_an_empty_query_is_refused(query: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        m.decode_request(wire(query), "r")
    assert caught.value.param == "query"


@pytest.mark.parametrize(
    ("deadline_s", "timeout", "expected"),
    [(None, "2000", 2.0), (1.0, "2000", 1.0), (3.0, "2000", 2.0), (-0.5, "2000", 0.0)],
)
def test_the_nearer_deadline_counts(deadline_s: float | None, timeout: str, expected: float) -> None:
    assert m.decode_request(wire(timeout=timeout), "r", deadline_s=deadline_s).timeout_s == expected


def test_the_calls_deadline_counts_alone() -> None:
    assert m.decode_request(wire(), "r", deadline_s=4.0).timeout_s == 4.0


@pytest.mark.parametrize("given", ["", "a", "x" * 128, "请求-1"])
def test_an_id_is_echoed(given: str) -> None:
    assert m.given_id(given) == given


@pytest.mark.parametrize("given", ["x" * 129, "a\nb", "\x00", "a\u2028b"])
def test_an_unusable_id_is_refused(given: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        m.given_id(given)
    assert caught.value.param == "request_id"


def test_labels_are_limited() -> None:
    assert len(m.decode_request(wire(**{f"k{i}": "v" for i in range(64)}), "r").labels) == 64
    with pytest.raises(InvalidRequest, match="65 labels"):
        m.decode_request(wire(**{f"k{i}": "v" for i in range(65)}), "r")
    with pytest.raises(InvalidRequest) as caught:
        m.decode_request(wire(note="x" * 1021), "r")
    assert caught.value.param == "metadata.note"


@pytest.mark.parametrize(
    ("system", "index", "field"),
    [("", 0, "query"), ("be kind", 0, "metadata.systemMessage"), ("be kind", 1, "query")],
)
def test_the_guards_words_become_the_callers(system: str, index: int, field: str) -> None:
    ours = f"messages[{index}].content"
    shown = m.in_callers_words(InvalidRequest(f"{ours} is blank", param=ours), wire(systemMessage=system))
    assert (shown.message, shown.param) == (f"{field} is blank", field)
