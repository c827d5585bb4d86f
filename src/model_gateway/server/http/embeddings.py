"""OpenAI's embeddings as a dialect: texts in, vectors out, by models that `embedding_models` names. Never a stream."""

from __future__ import annotations

from model_gateway.domain.chat import ChatRequest, Message, Part
from model_gateway.domain.errors import InvalidRequest
from model_gateway.server.http.openai import OpenAIDialect
from model_gateway.server.http.options import with_options
from model_gateway.server.http.request import Request
from model_gateway.wire import openai as wire


class EmbeddingsDialect(OpenAIDialect):
    """POST /v1/embeddings. Errors and headers are those of chat completions."""

    def decode(self, http: Request, request_id: str) -> ChatRequest:
        body, fields = wire.decode_embeddings_body(http.body)
        if not body.input:
            raise InvalidRequest("`input` must not be empty", param="input")
        texts = [body.input] if isinstance(body.input, str) else [text for text in body.input if isinstance(text, str)]
        # What comes as tokens already has no text that anybody here could read.
        contents: list[str | list[Part]] = [*texts] or [[Part(type="tokens")]]
        request = ChatRequest(
            request_id=request_id,
            model=body.model,
            messages=[Message(role="user", content=content) for content in contents],
            body=fields,
            embeds=True,
        )
        return with_options(request, http)
