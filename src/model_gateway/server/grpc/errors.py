"""GatewayError → gRPC status, `google.rpc.ErrorInfo` and the contract's `ErrorResponse`. One total table."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from model_gateway.domain.errors import ErrorKind, GatewayError
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.server.grpc.http2.calls import Call
from model_gateway.server.grpc.http2.messages import Code

DOMAIN = "model-gateway"
DETAILS_KEY = "grpc-status-details-bin"  # where gRPC clients look for a google.rpc.Status
# The text travels three times in the trailers (details, Status, ErrorResponse), once of it percent-encoded, and
# clients refuse trailers above 8 KiB by default.
MAX_MESSAGE_BYTES = 900
MAX_PARAM_CHARACTERS = 128


class Shown(NamedTuple):
    """gRPC status, and the code that clients of the contract look at."""

    status: Code
    code: pb.ErrorCode


# UNAVAILABLE invites a client to retry: only where that can help. No code of the contract means "wait" or "a fault of
# ours": MODEL_UNAVAILABLE is the nearest, since clients already handle it by trying again later.
STATUS: dict[ErrorKind, Shown] = {
    ErrorKind.INVALID_REQUEST: Shown(Code.INVALID_ARGUMENT, pb.INVALID_REQUEST),
    ErrorKind.UNSAFE_PROMPT: Shown(Code.INVALID_ARGUMENT, pb.INVALID_REQUEST),
    ErrorKind.UNAUTHENTICATED: Shown(Code.UNAUTHENTICATED, pb.INVALID_REQUEST),
    ErrorKind.PERMISSION_DENIED: Shown(Code.PERMISSION_DENIED, pb.INVALID_REQUEST),
    ErrorKind.UNKNOWN_MODEL: Shown(Code.NOT_FOUND, pb.INVALID_REQUEST),
    ErrorKind.UNKNOWN_REQUEST: Shown(Code.NOT_FOUND, pb.INVALID_REQUEST),
    ErrorKind.UNKNOWN_PATH: Shown(Code.UNIMPLEMENTED, pb.INVALID_REQUEST),
    ErrorKind.RATE_LIMITED: Shown(Code.RESOURCE_EXHAUSTED, pb.MODEL_UNAVAILABLE),
    ErrorKind.OVERLOADED: Shown(Code.UNAVAILABLE, pb.MODEL_UNAVAILABLE),
    ErrorKind.COST_LIMIT_EXCEEDED: Shown(Code.RESOURCE_EXHAUSTED, pb.COST_LIMIT_EXCEEDED),
    ErrorKind.ASSESSMENT_FAILED: Shown(Code.INTERNAL, pb.COMPLEXITY_EVALUATION_FAILED),
    ErrorKind.DEADLINE_EXCEEDED: Shown(Code.DEADLINE_EXCEEDED, pb.MODEL_UNAVAILABLE),
    ErrorKind.MODEL_UNAVAILABLE: Shown(Code.UNAVAILABLE, pb.MODEL_UNAVAILABLE),
    ErrorKind.INTERNAL: Shown(Code.INTERNAL, pb.MODEL_UNAVAILABLE),
    ErrorKind.UPSTREAM_CONNECT: Shown(Code.UNAVAILABLE, pb.MODEL_UNAVAILABLE),
    ErrorKind.UPSTREAM_TIMEOUT: Shown(Code.UNAVAILABLE, pb.MODEL_UNAVAILABLE),
    ErrorKind.UPSTREAM_PROTOCOL: Shown(Code.UNAVAILABLE, pb.MODEL_UNAVAILABLE),
    ErrorKind.UPSTREAM_STATUS: Shown(Code.UNAVAILABLE, pb.MODEL_UNAVAILABLE),
    ErrorKind.STREAM_BROKEN: Shown(Code.UNAVAILABLE, pb.MODEL_UNAVAILABLE),
}


def status_of(error: GatewayError, request_id: str) -> status_pb2.Status:
    """The rich status of any error of ours. `retry_after` is in seconds."""
    shown = STATUS[error.kind]
    message = _shortened(error.message)
    facts: dict[str, str] = {}
    if request_id:
        facts["request_id"] = request_id
    if error.param:
        facts["param"] = error.param[:MAX_PARAM_CHARACTERS]
    if error.retry_after_s is not None:
        facts["retry_after"] = f"{error.retry_after_s:g}"
    info, response = AnyMessage(), AnyMessage()
    info.Pack(error_details_pb2.ErrorInfo(reason=error.kind.upper(), domain=DOMAIN, metadata=facts))
    response.Pack(pb.ErrorResponse(code=shown.code, message=message))
    return status_pb2.Status(code=int(shown.status), message=message, details=[info, response])


async def abort(context: Call, error: GatewayError, request_id: str) -> NoReturn:
    """End the call with the error's status. Raises what its call waits for: nothing may run after it."""
    status = status_of(error, request_id)
    trailers = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(STATUS[error.kind].status, status.message, trailers)


def _shortened(message: str) -> str:
    encoded = message.encode(errors="replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return message
    return encoded[:MAX_MESSAGE_BYTES].decode(errors="ignore") + "…"
