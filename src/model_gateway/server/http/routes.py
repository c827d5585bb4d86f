"""Which path leads to which handler. A plain dictionary: exact paths first, then prefixes."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping

from model_gateway.domain.errors import GatewayError, UnknownPath
from model_gateway.pipeline import Gateway
from model_gateway.server.http import gemini
from model_gateway.server.http.anthropic import DOOR as ANTHROPIC
from model_gateway.server.http.anthropic import AnthropicDialect, AnthropicModels, TokenCounter, is_anthropics
from model_gateway.server.http.door import JSON, ChatDoor, send_error
from model_gateway.server.http.embeddings import EmbeddingsDialect
from model_gateway.server.http.feedback import FeedbackDoor
from model_gateway.server.http.gemini import GeminiDoor
from model_gateway.server.http.openai import ModelList, OpenAIDialect
from model_gateway.server.http.protocol import Handler, HttpConnection
from model_gateway.server.http.request import Request
from model_gateway.server.http.responses import ResponsesDialect
from model_gateway.wire.openai import encode

_CHAT = "/v1/chat/completions"
_MODEL = "/v1/models/"


class Routes:
    """The data plane's HTTP handler."""

    def __init__(self, gateway: Gateway, started_at: int) -> None:
        self._openai = openai = OpenAIDialect()
        self._models = models = ModelList(gateway, started_at)
        self._chat = ChatDoor("http", gateway, openai)
        # These admit and record by themselves.
        self._posts: Mapping[str, Handler] = {
            _CHAT: self._chat,
            "/v1/responses": ChatDoor("responses", gateway, ResponsesDialect()),
            "/v1/embeddings": ChatDoor("embeddings", gateway, EmbeddingsDialect()),
            "/v1/messages": ChatDoor(ANTHROPIC, gateway, AnthropicDialect()),
            "/v1/messages/count_tokens": TokenCounter(gateway),
            "/v1/feedback": FeedbackDoor(gateway),
        }
        self._gemini = GeminiDoor(gateway)
        self._anthropic_models = AnthropicModels(gateway, started_at)
        self._gets: Mapping[str, Handler] = {"/v1/models": models.models, "/": self._index}
        names = [f"POST {path}" for path in self._posts]
        names += [f"POST {gemini.MODELS}/{{model}}:generateContent", "GET /v1/models", "GET /v1/models/{id}"]
        self._index_body = encode({"name": "model-gateway", "endpoints": names})

    def __call__(self, http: Request, connection: HttpConnection) -> Awaitable[None]:
        if http.target == _CHAT and http.method == "POST":
            return self._chat(http, connection)
        return self._elsewhere(http, connection)

    async def _elsewhere(self, http: Request, connection: HttpConnection) -> None:
        try:
            await self._other(http.target.partition("?")[0], http, connection)
        except GatewayError as error:
            send_error(error, self._openai, http, connection)

    async def _other(self, path: str, http: Request, connection: HttpConnection) -> None:
        if gemini.is_ours(http, path):
            await self._gemini(http, connection)
            return
        if http.method == "POST" and path in self._posts:
            await self._posts[path](http, connection)
            return
        if http.method not in ("GET", "HEAD"):
            if path in self._gets or path in self._posts or path.startswith(_MODEL):
                raise UnknownPath(f"{path} does not answer to {http.method}", method_not_allowed=True)
            raise self._unknown(path)
        listed = path == "/v1/models" or path.startswith(_MODEL)
        if listed and is_anthropics(http):
            await self._anthropic_models(http, connection)
            return
        handler = self._gets.get(path)
        if handler is None and listed:
            handler = self._models.model
        if handler is None:
            if path in self._posts:
                raise UnknownPath(f"{path} does not answer to {http.method}", method_not_allowed=True)
            raise self._unknown(path)
        await handler(http, connection)

    def _unknown(self, path: str) -> UnknownPath:
        return UnknownPath(f"no such path: {path}; try {', '.join(self._posts)} or GET /v1/models")

    async def _index(self, http: Request, connection: HttpConnection) -> None:
        connection.respond(200, JSON, self._index_body, http)
