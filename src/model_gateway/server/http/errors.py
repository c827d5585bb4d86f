"""GatewayError → HTTP status and OpenAI's error object. One total table; decides nothing else."""

from __future__ import annotations

from typing import NamedTuple

from model_gateway.domain.errors import ErrorKind, GatewayError, UnknownPath
from model_gateway.wire.openai import error_body


class Shown(NamedTuple):
    """HTTP status and the `type` that OpenAI's SDKs expect beside it."""

    status: int
    type: str


STATUS: dict[ErrorKind, Shown] = {
    ErrorKind.INVALID_REQUEST: Shown(400, "invalid_request_error"),
    ErrorKind.UNSAFE_PROMPT: Shown(400, "invalid_request_error"),
    ErrorKind.UNAUTHENTICATED: Shown(401, "authentication_error"),
    ErrorKind.PERMISSION_DENIED: Shown(403, "permission_error"),
    ErrorKind.UNKNOWN_MODEL: Shown(404, "invalid_request_error"),
    ErrorKind.UNKNOWN_REQUEST: Shown(404, "invalid_request_error"),
    ErrorKind.UNKNOWN_PATH: Shown(404, "invalid_request_error"),
    ErrorKind.RATE_LIMITED: Shown(429, "rate_limit_error"),
    ErrorKind.OVERLOADED: Shown(503, "overloaded_error"),
    ErrorKind.COST_LIMIT_EXCEEDED: Shown(402, "cost_limit_error"),
    ErrorKind.ASSESSMENT_FAILED: Shown(500, "server_error"),
    ErrorKind.DEADLINE_EXCEEDED: Shown(504, "timeout_error"),
    ErrorKind.MODEL_UNAVAILABLE: Shown(503, "model_unavailable_error"),
    ErrorKind.INTERNAL: Shown(500, "server_error"),
    ErrorKind.UPSTREAM_CONNECT: Shown(502, "upstream_error"),
    ErrorKind.UPSTREAM_TIMEOUT: Shown(504, "upstream_error"),
    ErrorKind.UPSTREAM_PROTOCOL: Shown(502, "upstream_error"),
    ErrorKind.UPSTREAM_STATUS: Shown(502, "upstream_error"),
    ErrorKind.STREAM_BROKEN: Shown(502, "upstream_error"),
}

# The code an OpenAI client would look for, where it has a name of its own there.
_CODES = {ErrorKind.UNKNOWN_MODEL: "model_not_found", ErrorKind.UNAUTHENTICATED: "invalid_api_key"}


def status_of(error: GatewayError) -> int:
    if isinstance(error, UnknownPath) and error.method_not_allowed:
        return 405
    return STATUS[error.kind].status


class Named(NamedTuple):
    """OpenAI's `type` and `code` for an error."""

    type: str
    code: str


def shown(error: GatewayError) -> Named:
    return Named(STATUS[error.kind].type, _CODES.get(error.kind, error.kind.value))


def body_of(error: GatewayError) -> bytes:
    """OpenAI's error object for any error of ours."""
    named = shown(error)
    return error_body(error.message, named.type, named.code, error.param)


def refusal(error: GatewayError, status: int) -> bytes:  # noqa: ARG001 (the protocol has chosen the status already)
    """For requests the protocol layer itself refuses."""
    return body_of(error)
