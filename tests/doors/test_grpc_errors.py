from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2

from model_gateway.domain.errors import CostLimitExceeded, ErrorKind, InvalidRequest, RateLimited
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.server.grpc.errors import STATUS, status_of
from model_gateway.server.grpc.http2.messages import Code


def test_the_table_is_total_and_calls_no_error_ok() -> None:
    assert set(STATUS) == set(ErrorKind)
    assert all(shown.status is not Code.OK and shown.code != pb.OK for shown in STATUS.values())


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (ErrorKind.INVALID_REQUEST, grpc.StatusCode.INVALID_ARGUMENT, pb.INVALID_REQUEST),
        (ErrorKind.UNSAFE_PROMPT, grpc.StatusCode.INVALID_ARGUMENT, pb.INVALID_REQUEST),
        (ErrorKind.MODEL_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, pb.MODEL_UNAVAILABLE),
        (ErrorKind.ASSESSMENT_FAILED, grpc.StatusCode.INTERNAL, pb.COMPLEXITY_EVALUATION_FAILED),
        (ErrorKind.COST_LIMIT_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED, pb.COST_LIMIT_EXCEEDED),
    ],
)
def test_the_contracts_codes(kind: ErrorKind, status: grpc.StatusCode, code: pb.ErrorCode) -> None:
    assert STATUS[kind] == (status.value[0], code)


def test_the_statuses_are_grpcs() -> None:
    assert {code.name: code.value for code in Code} == {code.name: code.value[0] for code in grpc.StatusCode}


def test_details_name_the_field_and_the_request() -> None:
    status = status_of(InvalidRequest("metadata.budget must be …", param="metadata.budget"), "req_1")
    info, response = error_details_pb2.ErrorInfo(), pb.ErrorResponse()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(response)
    assert status.code == 3
    assert (info.reason, info.domain) == ("INVALID_REQUEST", "model-gateway")
    assert dict(info.metadata) == {"param": "metadata.budget", "request_id": "req_1"}
    assert (response.code, response.message) == (pb.INVALID_REQUEST, "metadata.budget must be …")


def test_retry_after_is_in_seconds() -> None:
    info = error_details_pb2.ErrorInfo()
    status_of(RateLimited("too fast", retry_after_s=1.5), "").details[0].Unpack(info)
    assert dict(info.metadata) == {"retry_after": "1.5"}


def test_a_long_message_stays_below_what_clients_accept_as_trailers() -> None:
    status = status_of(CostLimitExceeded("钱" * 5000, param="p" * 5000), "i" * 128)
    assert status.message.endswith("钱…")
    percent_encoded = 3 * len(status.message.encode())
    base64_encoded = len(status.SerializeToString()) * 4 // 3
    assert percent_encoded + base64_encoded < 8192 - 1024
