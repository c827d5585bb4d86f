"""The wire schemas by name: the one place that knows them all. Translates what a door or an adapter hands it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from model_gateway.domain.chat import OPENAI, ChatReply, ChatRequest
from model_gateway.domain.conversation import Answer, Conversation
from model_gateway.wire import (
    anthropic,
    anthropic_answer,
    anthropic_conversation,
    anthropic_request,
    gemini,
    gemini_answer,
    gemini_conversation,
    gemini_request,
    openai_answer,
    openai_conversation,
    openai_request,
    responses,
    responses_conversation,
    responses_request,
    responses_stream,
)
from model_gateway.wire.protocol import WireProtocol

_ALL = (
    WireProtocol(
        OPENAI,
        openai_request.FEATURES,
        openai_conversation.conversation,
        openai_request.request,
        openai_answer.answer,
        openai_answer.reply,
        openai_answer.Reader,
        openai_answer.Writer,
    ),
    WireProtocol(
        responses_conversation.PROTOCOL,
        responses_request.FEATURES,
        responses_conversation.conversation,
        responses_request.request,
        responses.answer,
        responses.reply,
        responses.Reader,
        responses_stream.Writer,
    ),
    WireProtocol(
        anthropic.NAME,
        anthropic_request.FEATURES,
        anthropic_conversation.conversation,
        anthropic_request.request,
        anthropic_answer.answer,
        anthropic_answer.reply,
        anthropic_answer.Reader,
        anthropic_answer.Writer,
    ),
    WireProtocol(
        gemini.NAME,
        gemini_request.FEATURES,
        gemini_conversation.conversation,
        gemini_request.request,
        gemini_answer.answer,
        gemini_answer.reply,
        gemini_answer.Reader,
        gemini_answer.Writer,
    ),
)
PROTOCOLS: Mapping[str, WireProtocol] = {protocol.name: protocol for protocol in _ALL}


def conversation_of(request: ChatRequest) -> Conversation:
    """The request in no schema: as its door read it, or read now. Raises InvalidRequest that names the field."""
    read = request.conversation
    if read is None:
        read = PROTOCOLS[request.protocol].conversation(request.body)
    if request.output_limit is not None:
        return msgspec.structs.replace(read, max_tokens=request.output_limit)
    return read


def answer_of(reply: ChatReply) -> Answer:
    return PROTOCOLS[reply.protocol].answer(reply.body)
