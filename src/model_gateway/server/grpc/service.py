"""The RPCs of `ModelGatewayService`: messages in, `Gateway` calls, messages out. Decides nothing about models.

Every failure leaves as a status with details (server/grpc/errors.py); a fault of ours shows no detail, only the log
does. Cancelling a call, or its deadline, cancels what the gateway does for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from model_gateway.budget.feedback import Rating
from model_gateway.budget.once import checked_key
from model_gateway.domain.chat import ChatReply, ChatRequest
from model_gateway.domain.errors import GatewayError, InternalError, InvalidRequest
from model_gateway.domain.record import Record
from model_gateway.domain.route import Assessment, Factor
from model_gateway.domain.usage import usd_from_nano
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.server.grpc.errors import abort
from model_gateway.server.grpc.http2.calls import Call, Ended
from model_gateway.server.grpc.metadata import checked_query, decode_request, given_id, in_callers_words
from model_gateway.server.grpc.peer import credential_of

if TYPE_CHECKING:
    from model_gateway.pipeline import Gateway

DOOR = "grpc"
# Judging is linear in the text and runs on the event loop: this is about 30 pages, which takes milliseconds.
MAX_ASSESSED_CHARACTERS = 100_000

_log = structlog.get_logger("model_gateway.grpc")


class GatewayService:
    """Named as grpc wants it: one method per RPC. `in_flight` counts the calls that wait for a model."""

    def __init__(self, gateway: Gateway) -> None:
        self.in_flight = 0
        self._gateway = gateway

    def adopt(self, gateway: Gateway) -> None:
        """This one answers from the next call on."""
        self._gateway = gateway

    async def ProcessQuery(self, request: pb.ModelRequest, context: Call) -> pb.ModelResponse:  # noqa: N802
        record: Record | None = None
        self.in_flight += 1
        try:
            with self._gateway.journal(DOOR, _usable_id(request.request_id)) as record:
                caller = self._gateway.admit(credential_of(context), record)
                given_id(request.request_id)
                chat = self._decoded(request, record, context)
                reply = await self._gateway.complete(chat, caller, record)
                return self._response(request.query, record, reply.finish_reason, reply)
        except Exception as error:  # noqa: BLE001 (the last line of defence: told apart in _shown)
            await abort(context, _shown(error, record, request), record.request_id if record else "")
        finally:
            self.in_flight -= 1

    async def ProcessQueryStream(self, request: pb.ModelRequest, context: Call) -> None:  # noqa: N802
        record: Record | None = None
        self.in_flight += 1
        try:
            with self._gateway.journal(DOOR, _usable_id(request.request_id)) as record:
                caller = self._gateway.admit(credential_of(context), record)
                given_id(request.request_id)
                chat = self._decoded(request, record, context, stream=True)
                stream = await self._gateway.stream(chat, caller, record)
                finish_reason = ""
                try:
                    async for chunks in stream:
                        for chunk in chunks:
                            finish_reason = chunk.finish_reason or finish_reason
                        delta = "".join([chunk.text for chunk in chunks])
                        if delta:
                            await context.write(pb.ModelResponseChunk(delta=delta))
                except BaseException as error:
                    stream.abandon(error)
                    raise
                result = self._response(request.query, record, finish_reason or "stop")
                await context.write(pb.ModelResponseChunk(result=result))
        except Ended:
            raise  # a reply was too large to be sent: the call has its status
        except Exception as error:  # noqa: BLE001 (as above)
            await abort(context, _shown(error, record, request), record.request_id if record else "")
        finally:
            self.in_flight -= 1

    async def GetModelCapabilities(  # noqa: N802
        self, _request: pb.Empty, context: Call
    ) -> pb.ModelCapabilitiesResponse:
        try:
            caller = self._gateway.check_key(credential_of(context), DOOR)
            offered: dict[str, set[str]] = {}
            for target in self._gateway.online_targets(caller):
                offered.setdefault(target.provider, set()).update(target.capabilities)
            return pb.ModelCapabilitiesResponse(
                capabilities=sorted(set[str]().union(*offered.values())),
                providers=[
                    pb.ModelProviderInfo(provider_name=name, capabilities=sorted(capabilities))
                    for name, capabilities in offered.items()
                ],
            )
        except Exception as error:  # noqa: BLE001 (as above)
            await abort(context, _shown(error), "")

    async def EvaluateComplexity(  # noqa: N802
        self, request: pb.ComplexityEvaluationRequest, context: Call
    ) -> pb.ComplexityEvaluationResponse:
        try:
            self._gateway.check_key(credential_of(context), DOOR)
            assessment = await self._assess(checked_query(request.query), request.features)
            return pb.ComplexityEvaluationResponse(
                complexity_score=assessment.score,
                complexity_factors=_lines(assessment.factors),
                tier=assessment.tier,
            )
        except Exception as error:  # noqa: BLE001 (as above)
            await abort(context, _shown(error), "")

    async def GiveFeedback(self, request: pb.FeedbackRequest, context: Call) -> pb.FeedbackResponse:  # noqa: N802
        try:
            caller = self._gateway.check_key(credential_of(context))
            rating = Rating(request.request_id, _score(request), request.comment, dict(request.labels))
            await self._gateway.rate(rating, caller)
            return pb.FeedbackResponse(request_id=rating.request_id, score=rating.score)
        except Exception as error:  # noqa: BLE001 (as above)
            await abort(context, _shown(error), "")

    def _decoded(self, request: pb.ModelRequest, record: Record, context: Call, *, stream: bool = False) -> ChatRequest:
        return decode_request(
            request,
            record.request_id,
            stream=stream,
            deadline_s=context.time_remaining(),
            idempotency_key=idempotency_key_of(context),
        )

    async def _assess(self, query: str, features: Iterable[str]) -> Assessment:
        if len(query) > MAX_ASSESSED_CHARACTERS:
            raise InvalidRequest(
                f"query has {len(query)} characters; at most {MAX_ASSESSED_CHARACTERS} are judged", param="query"
            )
        return await self._gateway.evaluate(query, tuple(features))

    def _response(
        self, query: str, record: Record, finish_reason: str, reply: ChatReply | None = None
    ) -> pb.ModelResponse:
        """The record's facts in the contract's words."""
        score, factors, text = record.score, record.factors, reply.text if reply is not None else ""
        if score < 0 and reply is not None and reply.factors:
            score, factors = reply.score, reply.factors
        if score < 0:
            # The cache answered, so that nobody had to judge; clients of the contract count on a score all the same.
            assessment = self._gateway.assess(query)
            score, factors = assessment.score, assessment.factors
        usage = record.usage
        told = pb.ModelResponse(
            request_id=record.request_id,
            response=text,
            complexity_score=score,
            model_used=record.provider,
            cost=usd_from_nano(record.cost_nano),
            model=record.model,
            tier=record.tier,
            complexity_factors=_lines(factors),
            finish_reason=finish_reason,
            route_reason=record.route_reason,
        )
        if usage is not None:
            told.input_tokens, told.output_tokens = usage.input_tokens, usage.output_tokens
        if record.cache in ("hit", "repeated"):
            told.cached = True
        if record.cascade is not None:
            told.cascade = record.cascade.told()
        return told


def idempotency_key_of(context: Call) -> str:
    """The call's metadata `idempotency-key`. Raises InvalidRequest."""
    key = context.metadata.get("idempotency-key")
    return "" if key is None else checked_key(key)


def _score(request: pb.FeedbackRequest) -> float:
    scored = request.HasField("score")
    if scored and not request.thumb:
        return request.score
    if scored or request.thumb not in (pb.UP, pb.DOWN):
        raise InvalidRequest("send one of `score` (0 to 1) and `thumb` (UP or DOWN)", param="score")
    return float(request.thumb == pb.UP)


def _usable_id(request_id: str) -> str:
    """The journal opens before anything may refuse: an id that will be refused is not written into it."""
    try:
        return given_id(request_id)
    except InvalidRequest:
        return ""


def _lines(factors: Sequence[Factor]) -> list[str]:
    return [_line(factor) for factor in factors]


def _line(factor: Factor) -> str:
    # One % takes two thirds of what the same f-strings do, and a reply has ten such lines.
    name, value, contribution, detail = factor.name, factor.value, factor.contribution, factor.detail
    if not detail:
        return "%s=%.2f (%+.2f)" % (name, value, contribution)  # noqa: UP031
    return "%s=%.2f (%+.2f): %s" % (name, value, contribution, detail)  # noqa: UP031


def _shown(error: Exception, record: Record | None = None, request: pb.ModelRequest | None = None) -> GatewayError:
    if isinstance(error, InvalidRequest) and request is not None:
        return in_callers_words(error, request)
    if isinstance(error, GatewayError):
        return error
    _log.exception("unexpected fault", request_id=record.request_id if record else "", error=type(error).__name__)
    return InternalError("an unexpected fault of the gateway; its log has the details")
