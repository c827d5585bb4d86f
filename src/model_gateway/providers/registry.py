"""Providers of one configuration, ready to be called: adapter, endpoint, credentials, deadlines.

Chooses nothing: the router chooses, the dispatcher tries, a `Provider` carries out one attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

from model_gateway.config.errors import ConfigError
from model_gateway.config.schema import GatewayConfig, ProviderConfig
from model_gateway.domain.chat import ChatChunk, ChatReply
from model_gateway.domain.errors import StreamBroken, UpstreamError, UpstreamProtocolError
from model_gateway.providers import embedded
from model_gateway.providers.adapter import StreamDecoder, WireRequest
from model_gateway.providers.adapters import PROTOCOL_OF, adapter_of, headers_of
from model_gateway.providers.connection import UpstreamConnection
from model_gateway.providers.keys import Keys
from model_gateway.providers.upstream import Deadlines, Endpoint, Upstream
from model_gateway.wire.sse import EventTooLarge, SseParser

_MAX_ERROR_BYTES = 64 * 1024
_LAST_BYTES_S = 0.1


class Provider:
    """One configured provider. `status` may differ from the configured one: an embedded model may be missing."""

    def __init__(
        self,
        name: str,
        config: ProviderConfig,
        upstream: Upstream,
        server: embedded.EmbeddedModel | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.config = config
        self.status: str = config.status
        self.status_reason = "" if config.status == "online" else f"configured {config.status}"
        self.protocol = PROTOCOL_OF[config.kind]
        self.timeout_s = config.timeout / 1000
        self.retry_count = config.retry_count
        self.retry_delay_s = config.retry_delay / 1000
        self.queue_timeout_s = config.queue_timeout / 1000
        self._clock = clock
        self._upstream = upstream
        self._server = server
        self._adapter = adapter_of(config)
        self.encode = self._adapter.encode
        self._keys = Keys([] if server else _endpoints_of(name, config))
        for endpoint in self._keys.endpoints:
            upstream.kept(endpoint)  # before a provider that this one follows lets go of them
        self._whole = self._deadlines(self.timeout_s, stream=False)
        self._embedded: Endpoint | None = None
        self._embedded_address: tuple[int, str] | None = None
        if server is not None:
            available, reason = embedded.available()
            if not available and config.status == "online":
                self.status, self.status_reason = "offline", reason

    def retire(self) -> None:
        """No call will come any more, and none is under way: close the connections that were kept for them."""
        for endpoint in self._keys.endpoints:
            self._upstream.forget(endpoint)
        if self._embedded is not None:
            self._upstream.forget(self._embedded)

    def rest_s(self, now: float) -> float:
        """Seconds for which the provider has asked to be left alone, with every key there is; 0: ask."""
        return self._keys.rest_s(now)

    async def complete(self, wire: WireRequest, total_s: float) -> ChatReply:
        """One attempt. Raises an UpstreamError."""
        endpoint = await self._endpoint(total_s) if self._server is not None else self._keys.take(self._clock())
        deadlines = self._whole if total_s >= self.timeout_s else self._deadlines(total_s, stream=False)
        connection = await self._upstream.post(endpoint, wire.path, wire.body, deadlines, wire.headers)
        try:
            body = connection.whole()
            if body is None:
                body = await connection.read_all()
        finally:
            self._upstream.release(endpoint, connection)
        if connection.status != 200:
            raise self._refusal(endpoint, connection, body)
        return self._adapter.decode(body, embeds=wire.embeds)

    async def stream(self, wire: WireRequest, total_s: float) -> ProviderStream:
        """One attempt at a stream: resolves once the provider has accepted it. Raises an UpstreamError."""
        endpoint = await self._endpoint(total_s)
        deadlines = self._deadlines(total_s, stream=True)
        connection = await self._upstream.post(endpoint, wire.path, wire.body, deadlines, wire.headers)
        if connection.status == 200 and "text/event-stream" in connection.headers.get("content-type", ""):
            return ProviderStream(self._upstream, endpoint, connection, self._adapter.stream_decoder())
        try:
            body = await connection.read_all()
        finally:
            self._upstream.release(endpoint, connection)
        if connection.status != 200:
            raise self._refusal(endpoint, connection, body)
        kind = connection.headers.get("content-type", "nothing")
        raise UpstreamProtocolError(f"the provider answered a stream request with {kind}")

    def _refusal(self, endpoint: Endpoint, connection: UpstreamConnection, body: bytes) -> UpstreamError:
        error = self._adapter.decode_error(connection.status, connection.headers, body[:_MAX_ERROR_BYTES])
        if self._server is None:
            self._keys.failed(endpoint, error, self._clock())
        return error

    async def _endpoint(self, total_s: float) -> Endpoint:
        if self._server is None:
            return self._keys.take(self._clock())
        return await self._embedded_endpoint(self._server, total_s)

    def _deadlines(self, total_s: float, *, stream: bool) -> Deadlines:
        config = self.config
        first_s = config.first_token_timeout / 1000
        total_s = total_s if stream else min(total_s, self.timeout_s)
        return Deadlines(
            connect_s=config.connect_timeout / 1000,
            # A whole reply's first byte comes when all of it is generated: only the total bounds it.
            first_token_s=first_s if stream else total_s,
            idle_s=config.idle_timeout / 1000,
            total_s=total_s,
        )

    async def _embedded_endpoint(self, server: embedded.EmbeddedModel, total_s: float) -> Endpoint:
        """The embedded server's address; it is started on first need and has a new port and key after a restart."""
        address = await server.ensure_ready(total_s)
        endpoint = self._embedded
        if endpoint is None or address != self._embedded_address:
            if endpoint is not None:
                self._upstream.forget(endpoint)
            port, key = address
            endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", {"Authorization": f"Bearer {key}"})
            self._embedded, self._embedded_address = endpoint, address
        return endpoint


class ProviderStream:
    """The chunks of one accepted stream. Ends with [] after the end marker; anything else raises an UpstreamError."""

    __slots__ = ("_connection", "_decoder", "_endpoint", "_parser", "_released", "_upstream")

    def __init__(
        self, upstream: Upstream, endpoint: Endpoint, connection: UpstreamConnection, decoder: StreamDecoder
    ) -> None:
        self._upstream = upstream
        self._endpoint = endpoint
        self._connection = connection
        self._decoder = decoder
        self._parser = SseParser()
        self._released = False

    async def next(self) -> list[ChatChunk]:
        """The next chunks, at least one; [] at the end."""
        decoder = self._decoder
        while not decoder.done:
            data = await self._connection.read_some()
            if not data:
                self._check_end()
                return []
            chunks = self._chunks_in(data)
            if chunks:
                return chunks
        return []

    async def flow(self, give: Callable[[list[ChatChunk]], bool]) -> bool:
        """Call `give` with chunks the moment they come, until it says False (then this is True) or the end (False).

        Raises as `next`, and what `give` raises.
        """
        decoder = self._decoder

        def take(data: bytes) -> bool:
            chunks = self._chunks_in(data)
            return (not chunks or give(chunks)) and not decoder.done

        while not decoder.done:
            stopped = await self._connection.flow(take)
            if not stopped:
                self._check_end()
                return False
            if not decoder.done:
                return True
        return False

    def _chunks_in(self, data: bytes) -> list[ChatChunk]:
        decoder = self._decoder
        try:
            events = self._parser.feed(data)
        except EventTooLarge as error:
            raise UpstreamProtocolError(str(error)) from None
        chunks: list[ChatChunk] = []
        for event in events:
            chunk = decoder.feed(event)
            if chunk is not None:
                chunks.append(chunk)
            if decoder.done:
                break
        return chunks

    def _check_end(self) -> None:
        """The body is over: so must the stream be."""
        if self._decoder.done:
            return
        if self._parser.pending:
            raise StreamBroken("the stream ended in the middle of an event")
        self._decoder.finish()

    async def close(self) -> None:
        """Give the connection back, or drop it when the stream was not read to its end."""
        if self._released:
            return
        self._released = True
        connection = self._connection
        try:
            if self._decoder.done and not connection.reusable and connection.error is None:
                # The body's last framing bytes may come one packet after [DONE]: worth a moment, to keep it.
                with contextlib.suppress(UpstreamError, TimeoutError):
                    async with asyncio.timeout(_LAST_BYTES_S):
                        await connection.read_some()
        finally:
            self._upstream.release(self._endpoint, connection)

    def abort(self) -> None:
        """Drop the connection at once: the client has gone, or the stream failed."""
        if not self._released:
            self._released = True
            self._upstream.release(self._endpoint, self._connection)


class Registry:
    """All providers by name, over one upstream client and one embedded server.

    `before`: the registry that this one follows. A provider whose options are the same is the same: it goes on with its
    connections, and with what it knows of its keys.
    """

    def __init__(
        self,
        config: GatewayConfig,
        upstream: Upstream,
        server: embedded.EmbeddedModel,
        before: Registry | None = None,
    ) -> None:
        known: Mapping[str, Provider] = {} if before is None else before.providers
        providers: dict[str, Provider] = {}
        for name, options in config.providers.items():
            provider = known.get(name)
            if provider is None or provider.config != options:
                provider = Provider(name, options, upstream, server if options.kind == "embedded" else None)
            providers[name] = provider
        self.providers: Mapping[str, Provider] = providers

    def retire(self, after: Registry) -> None:
        """Nobody asks these providers any more, but for those that `after` has too."""
        for name, provider in self.providers.items():
            if after.providers.get(name) is not provider:
                provider.retire()


def _endpoints_of(name: str, config: ProviderConfig) -> list[Endpoint]:
    """One for each key; one without a credential where there is none."""
    secrets = [*([config.api_key] if config.api_key is not None else []), *config.api_keys]
    keys = list(dict.fromkeys(value for secret in secrets if (value := secret.get_secret_value()))) or [""]
    private = config.allow_private_network or "local" in config.supported_model_types
    try:
        return [Endpoint(config.base_url or "", headers_of(config, key), private_allowed=private) for key in keys]
    except ValueError as error:
        raise ConfigError(f"providers.{name}: {error}") from None
