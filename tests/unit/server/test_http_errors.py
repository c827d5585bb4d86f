from __future__ import annotations

import json

import pytest

from model_gateway.domain import errors
from model_gateway.domain.errors import ErrorKind, GatewayError, UnknownPath
from model_gateway.server.http.errors import STATUS, body_of, status_of
from model_gateway.server.http.heads import REASONS


def leaves(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]


def test_the_table_is_total_and_every_status_has_a_reason() -> None:
    assert set(STATUS) == set(ErrorKind)
    assert {shown.status for shown in STATUS.values()} | {405} <= set(REASONS)


@pytest.mark.parametrize("kind", leaves(GatewayError), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_a_body(kind: type[GatewayError]) -> None:
    error = kind("what and what to do")
    assert 400 <= status_of(error) <= 599
    shown = json.loads(body_of(error))["error"]
    assert shown["message"] == "what and what to do"
    assert shown["type"] and shown["code"]


def test_a_known_path_with_another_method_is_405() -> None:
    assert status_of(UnknownPath("x", method_not_allowed=True)) == 405
    assert errors.UnknownPath.kind == ErrorKind.UNKNOWN_PATH
