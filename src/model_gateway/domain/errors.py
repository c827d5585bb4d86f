"""Every error the gateway may show a caller, as one tree.

    GatewayError
    ├── InvalidRequest            the caller's request is wrong: `param` names the field
    │   └── UnsafePrompt          the guard refused the text
    ├── Unauthenticated           no key, or an unknown one
    ├── PermissionDenied          a known key that may not do this
    ├── UnknownModel              nobody serves the model asked for
    ├── UnknownRequest            no request of the caller has the id that it rates
    ├── UnknownPath               no such route, or not with this method
    ├── RateLimited               the caller sends too much
    ├── Overloaded                the gateway has no room now
    ├── CostLimitExceeded         no target fits the budget
    ├── AssessmentFailed          the complexity could not be judged
    ├── DeadlineExceeded          the caller's own deadline passed
    ├── ModelUnavailable          every target was tried, none answered
    ├── InternalError             a fault of ours
    └── UpstreamError             one attempt at one target failed (seen by the dispatcher)
        ├── UpstreamConnectError  no connection (DNS, refused, TLS, address not allowed)
        ├── UpstreamTimeout       connect, first token, idle or total deadline
        ├── UpstreamProtocolError the answer is not what the protocol promises
        ├── UpstreamStatusError   the provider answered with an error status
        └── StreamBroken          a stream ended without its end marker

Decides nothing: doors map `kind` to their own status through two total tables (server/http/errors.py and
server/grpc/errors.py).
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class ErrorKind(StrEnum):
    """What went wrong, as a word that is stable in logs, metrics and the ledger."""

    INVALID_REQUEST = "invalid_request"
    UNSAFE_PROMPT = "unsafe_prompt"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission_denied"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_REQUEST = "unknown_request"
    UNKNOWN_PATH = "unknown_path"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    COST_LIMIT_EXCEEDED = "cost_limit_exceeded"
    ASSESSMENT_FAILED = "assessment_failed"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    MODEL_UNAVAILABLE = "model_unavailable"
    INTERNAL = "internal"
    UPSTREAM_CONNECT = "upstream_connect"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_PROTOCOL = "upstream_protocol"
    UPSTREAM_STATUS = "upstream_status"
    STREAM_BROKEN = "stream_broken"


class GatewayError(Exception):
    """Base of the tree. `message` is shown to the caller and may quote a provider, which may quote the prompt.

    `logged` is what log and ledger keep: never a key, a prompt or a provider's words.
    """

    kind: ClassVar[ErrorKind] = ErrorKind.INTERNAL

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float | None = None, logged: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.logged = logged or message
        self.param = param
        self.retry_after_s = retry_after_s


class InvalidRequest(GatewayError):
    kind = ErrorKind.INVALID_REQUEST


class UnsafePrompt(InvalidRequest):
    kind = ErrorKind.UNSAFE_PROMPT


class Unauthenticated(GatewayError):
    kind = ErrorKind.UNAUTHENTICATED


class PermissionDenied(GatewayError):
    kind = ErrorKind.PERMISSION_DENIED


class UnknownModel(GatewayError):
    kind = ErrorKind.UNKNOWN_MODEL


class UnknownRequest(GatewayError):
    kind = ErrorKind.UNKNOWN_REQUEST


class UnknownPath(GatewayError):
    kind = ErrorKind.UNKNOWN_PATH

    def __init__(self, message: str, *, method_not_allowed: bool = False) -> None:
        super().__init__(message)
        self.method_not_allowed = method_not_allowed


class RateLimited(GatewayError):
    kind = ErrorKind.RATE_LIMITED


class Overloaded(GatewayError):
    kind = ErrorKind.OVERLOADED


class CostLimitExceeded(GatewayError):
    kind = ErrorKind.COST_LIMIT_EXCEEDED


class AssessmentFailed(GatewayError):
    kind = ErrorKind.ASSESSMENT_FAILED


class DeadlineExceeded(GatewayError):
    kind = ErrorKind.DEADLINE_EXCEEDED


class ModelUnavailable(GatewayError):
    kind = ErrorKind.MODEL_UNAVAILABLE


class InternalError(GatewayError):
    kind = ErrorKind.INTERNAL


class UpstreamError(GatewayError):
    """One attempt failed. `retryable`: the same target may do better. `other_key`: with another key, at once."""

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        status: int = 0,
        retryable: bool = True,
        param: str | None = None,
        retry_after_s: float | None = None,
        logged: str = "",
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s, logged=logged)
        self.provider = provider
        self.status = status
        self.retryable = retryable
        self.other_key = False


class UpstreamConnectError(UpstreamError):
    kind = ErrorKind.UPSTREAM_CONNECT


class UpstreamTimeout(UpstreamError):
    kind = ErrorKind.UPSTREAM_TIMEOUT


class UpstreamProtocolError(UpstreamError):
    kind = ErrorKind.UPSTREAM_PROTOCOL


class UpstreamStatusError(UpstreamError):
    kind = ErrorKind.UPSTREAM_STATUS


class StreamBroken(UpstreamError):
    kind = ErrorKind.STREAM_BROKEN
