"""Log-probabilities: read from a reply, and taken out of it without touching another byte."""

from __future__ import annotations

import json

import msgspec
import pytest

from model_gateway.wire.openai_logprobs import asks, logprobs_in, without_logprobs
from upstream import fixture

ODD = b'{ "choices" : [ {"index":0, "message":{"content":"say \\"logprobs\\":{\\"content\\":1}"},\n "logprobs" : '
TOLD = b'{"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -1.5}], "refusal": null}'
END = b' , "finish_reason":"stop"}], "x_unknown": 1.50 }'


def test_they_are_read_and_taken_out() -> None:
    body = ODD + TOLD + END
    assert logprobs_in(body) == [-0.5, -1.5]
    assert without_logprobs(body) == ODD + b"null" + END
    assert json.loads(without_logprobs(body))["choices"][0]["logprobs"] is None


@pytest.mark.parametrize(
    "told", [b"null", b"{}", b'{"content":null}', b'{"content":[]}', b'{"content":[{"token":"a"}]}', b"[]", b"7"]
)
def test_a_reply_without_any_has_none(told: bytes) -> None:
    assert logprobs_in(ODD + told + END) is None
    assert json.loads(without_logprobs(ODD + told + END))["choices"][0]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b'{"choices":[]}', b'{"choices":3}', fixture("reply.json")])
def test_other_bodies_stay_as_they_are(body: bytes) -> None:
    assert logprobs_in(body) is None and without_logprobs(body) == body


def test_every_choice_loses_them() -> None:
    choice = b'{"logprobs":' + TOLD + b"}"
    assert without_logprobs(b'{"choices":[' + choice + b"," + choice + b"]}") == (
        b'{"choices":[{"logprobs":null},{"logprobs":null}]}'
    )


def test_a_caller_may_want_them_itself() -> None:
    assert asks({"logprobs": msgspec.Raw(b"true")})
    assert not asks({"logprobs": msgspec.Raw(b"false")}) and not asks({})
