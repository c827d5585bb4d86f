"""The verdict on an answer, reason by reason; a caller's schema can neither hang nor reach anything."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.cascade import formats
from model_gateway.cascade.check import Policy, Said, check, said_by
from model_gateway.config.cascades import CascadeCheck
from model_gateway.domain.conversation import Answer, Refusal, ResponseFormat, Text, ToolUse

JSON = ResponseFormat("json")


def schema(**fields: Any) -> ResponseFormat:
    return ResponseFormat("schema", schema=msgspec.Raw(json.dumps(fields).encode()))


AGE = schema(type="object", properties={"age": {"type": "integer"}}, required=["age"])


@pytest.mark.parametrize(
    ("said", "options", "reason"),
    [
        (Said("Paris."), {}, "passed"),
        (Said("Paris.", logprobs=[-0.1, -0.3]), {"logprob": -0.2}, "passed"),
        (Said("Paris.", logprobs=[-0.1, -0.4]), {"logprob": -0.2}, "logprob"),
        (Said("Paris."), {"logprob": -0.2}, "no_logprobs"),
        (Said("Paris.", logprobs=[]), {"logprob": -0.2}, "no_logprobs"),
        (Said("", logprobs=[-0.0]), {"logprob": -0.2}, "empty"),
        (Said("Par", finish_reason="length"), {}, "length"),
        (Said("", finish_reason="content_filter"), {}, "filtered"),
        (Said("x y " * 300_000), {}, "long"),
        (Said("No.", refusal=True), {"refusal": False}, "refusal"),
        (Said("I'm sorry, I can't help with that."), {}, "refusal"),
        (Said("I'm sorry, I can't help with that."), {"refusal": False}, "passed"),
        (Said("go on and " * 30), {}, "repetition"),
        (Said("go on and " * 30), {"repetition": False}, "passed"),
        (Said("two words"), {"min_words": 3}, "short"),
        (Said("***"), {}, "short"),
        (Said("***"), {"min_words": 0}, "passed"),
        (Said("{}"), {"format": "json", "min_words": 0}, "passed"),
        (Said("{'a': 1}"), {"format": "json"}, "json"),
        (Said('```json\n{"a": 1}\n```'), {"format": "json"}, "json"),
        (Said("[1, 2]", wanted=JSON), {}, "json"),
        (Said('{"a": 1}', wanted=JSON), {}, "passed"),
        (Said("free text", wanted=JSON), {"format": "any"}, "passed"),
        (Said('{"age": 3}', wanted=AGE), {}, "passed"),
        (Said('{"age": "3"}', wanted=AGE), {}, "schema"),
        (Said("age 3", wanted=AGE), {}, "json"),
        (Said("Yes, it is."), {"pattern": r"/\b(yes|no)\b/i"}, "passed"),
        (Said("Perhaps."), {"pattern": r"/\b(yes|no)\b/i"}, "pattern"),
        (Said("", finish_reason="tool_calls", calls=['{"city": "Oslo"}']), {"min_words": 5}, "passed"),
        (Said("", finish_reason="tool_calls", calls=[""]), {}, "passed"),
        (Said("", finish_reason="tool_calls", calls=['{"city": ']), {}, "call"),
    ],
)
def test_what_is_wrong_is_said_in_one_word(said: Said, options: dict[str, Any], reason: str) -> None:
    verdict = check(said, Policy(CascadeCheck(**options)))
    assert verdict.reason == reason and verdict.passed is (reason == "passed")


@given(st.lists(st.floats(-50, 0), min_size=1), st.floats(-50, 0))
def test_the_mean_decides(logprobs: list[float], threshold: float) -> None:
    verdict = check(Said("Paris.", logprobs=logprobs), Policy(CascadeCheck(logprob=threshold)))
    assert verdict.logprob is not None
    assert verdict.reason == ("logprob" if verdict.logprob < threshold else "passed")


@given(st.text(max_size=300), st.text(max_size=30))
def test_no_answer_is_too_odd(text: str, finish: str) -> None:
    policy = Policy(CascadeCheck(format="json", logprob=-1, pattern="a"))
    assert check(Said(text, finish, wanted=AGE), policy).reason


def test_said_by_reads_an_answer_in_no_schema() -> None:
    answer = Answer(parts=(Text("a"), ToolUse("1", "f", "{}"), Text("b"), Refusal("no")), finish_reason="stop")
    said = said_by(answer, "stop", [-1.0], JSON)
    assert said == Said("ab", "stop", ["{}"], True, [-1.0], JSON)


def test_a_schema_is_the_callers_and_reaches_nothing() -> None:
    # What cannot be read is not held against the answer: the model that was asked for it may know better.
    for given_schema in (
        b'{"$ref": "http://127.0.0.1:9/x.json"}',
        b'{"$ref": "file:///etc/passwd"}',
        b'{"type": 12}',
        b'{"pattern": "(?=a)b"}',
        b"not JSON",
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"description": "' + b"x" * 70_000 + b'"}',
    ):
        assert formats.fits("{}", given_schema)
    begun = time.process_time()
    assert not formats.fits(json.dumps("a" * 50_000 + "b"), b'{"type": "string", "pattern": "^(a+)+$"}')
    assert time.process_time() - begun < 1.0


def test_deep_json_is_no_fault_of_ours() -> None:
    assert not formats.is_json("[" * 100_000)
    assert not formats.is_json('{"a": 1} and more') and not formats.is_json("")
