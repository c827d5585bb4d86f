"""POST /v1/feedback: what a caller thought of an answer. Reads and answers; what may be said is decided elsewhere."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import structlog

from model_gateway.budget.feedback import Rating
from model_gateway.domain.errors import GatewayError, InternalError, InvalidRequest
from model_gateway.pipeline import Gateway
from model_gateway.server.http.door import JSON, send_error
from model_gateway.server.http.openai import OpenAIDialect
from model_gateway.server.http.options import credential_of
from model_gateway.server.http.protocol import HttpConnection
from model_gateway.server.http.request import Request

_log = structlog.get_logger("model_gateway.http")


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    request_id: str
    score: float | None = None
    thumb: Literal["up", "down"] | None = None
    comment: str = ""
    labels: dict[str, str] = {}


_decode = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode


class FeedbackDoor:
    """Any key may, whatever doors it has; none is charged for it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._dialect = OpenAIDialect()

    async def __call__(self, http: Request, connection: HttpConnection) -> None:
        try:
            caller = self._gateway.check_key(credential_of(http))
            rating = _rating(http.body)
            await self._gateway.rate(rating, caller)
        except GatewayError as error:
            send_error(error, self._dialect, http, connection)
            return
        except Exception as error:  # noqa: BLE001 (the last line of defence, as in door.py)
            _log.exception("unexpected fault", error=type(error).__name__)
            fault = InternalError("an unexpected fault of the gateway; its log has the details")
            send_error(fault, self._dialect, http, connection)
            return
        connection.respond(200, JSON, _encode({"request_id": rating.request_id, "score": rating.score}), http)


def _rating(body: bytes) -> Rating:
    try:
        told = _decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the feedback cannot be read: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    if (told.score is None) == (told.thumb is None):
        raise InvalidRequest('send one of `score` (0 to 1) and `thumb` ("up" or "down")', param="score")
    score = told.score if told.score is not None else float(told.thumb == "up")
    return Rating(told.request_id, score if math.isfinite(score) else -1.0, told.comment, told.labels)
