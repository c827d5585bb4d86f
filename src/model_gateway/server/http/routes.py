"""Which path leads to which handler. A plain dictionary: exact paths first, then one prefix."""

from __future__ import annotations

from model_gateway.domain.errors import GatewayError, UnknownPath
from model_gateway.pipeline import Gateway
from model_gateway.server.http.openai import OpenAIDoor, send_error
from model_gateway.server.http.protocol import Handler, HttpConnection, Request

_INDEX = b'{"name":"model-gateway","endpoints":["POST /v1/chat/completions","GET /v1/models","GET /v1/models/{id}"]}'


class Routes:
    """The data plane's HTTP handler."""

    def __init__(self, gateway: Gateway, started_at: int) -> None:
        self._door = door = OpenAIDoor(gateway, started_at)
        self._chat = door.chat
        self._posts: dict[str, Handler] = {"/v1/chat/completions": door.chat}
        self._gets: dict[str, Handler] = {"/v1/models": door.models, "/": _index}

    async def __call__(self, http: Request, connection: HttpConnection) -> None:
        path = http.target
        if http.method == "POST" and path == "/v1/chat/completions":
            await self._chat(http, connection)
            return
        try:
            await self._other(path.partition("?")[0], http, connection)
        except GatewayError as error:
            send_error(error, http, connection)

    async def _other(self, path: str, http: Request, connection: HttpConnection) -> None:
        reads = http.method in ("GET", "HEAD")
        handler = (self._gets if reads else self._posts if http.method == "POST" else {}).get(path)
        if reads and handler is None and path.startswith("/v1/models/"):
            handler = self._door.model
        if handler is None:
            known = path in self._gets or path in self._posts or path.startswith("/v1/models/")
            if known:
                raise UnknownPath(f"{path} does not answer to {http.method}", method_not_allowed=True)
            raise UnknownPath(f"no such path: {path}; try POST /v1/chat/completions or GET /v1/models")
        if path != "/" and handler is not self._chat:
            self._door.admit(http)
        await handler(http, connection)


async def _index(http: Request, connection: HttpConnection) -> None:
    connection.respond(200, b"Content-Type: application/json\r\n", _INDEX, http)
