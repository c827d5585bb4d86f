"""How a supervisor and a worker speak: one socket, whole messages, questions that are answered.

Both ends are this program, and nobody else has the socket: messages are pickled. Decides nothing about what is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import struct
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Final

import structlog

from model_gateway.config.errors import StartupError

_LENGTH: Final = struct.Struct("<I")
_ASK, _TELL, _ANSWER, _REFUSE = range(4)

Handler = Callable[[str, Any], Awaitable[Any]]
"""What is asked or told, and with what → the answer. A StartupError goes to who has asked."""


_log = structlog.get_logger("model_gateway.workers")


class ChannelClosed(Exception):
    """The other end has gone, or does not answer."""


class Channel:
    """One end. `open` first; `run` reads until the other end has gone; `ask` and `tell` may be used meanwhile."""

    def __init__(self, end: socket.socket, handler: Handler) -> None:
        self._socket = end
        self._handler = handler
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)

    async def run(self) -> None:
        """Returns when the other end has closed, or died."""
        reader = self._reader
        if reader is None:
            raise ChannelClosed("it was not opened")
        try:
            while True:
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                self._received(*pickle.loads(await reader.readexactly(length)))  # noqa: S301 (our own other end)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ChannelClosed)
        self._asked.clear()

    async def ask(self, what: str, content: Any = None, timeout_s: float = 10.0) -> Any:
        """The answer. Raises ChannelClosed where none comes, and StartupError where that is the answer."""
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            self._send(_ASK, number, what, content)
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise ChannelClosed(f"no answer within {timeout_s:g} s") from None
        finally:
            self._asked.pop(number, None)

    def tell(self, what: str, content: Any = None) -> None:
        """Nobody answers, and nobody minds when the other end has gone."""
        with contextlib.suppress(ChannelClosed):
            self._send(_TELL, 0, what, content)

    def _refuse(self, kind: int, number: int, what: str, error: StartupError) -> None:
        if kind == _ASK:
            with contextlib.suppress(ChannelClosed):
                self._send(_REFUSE, number, what, (error.message, error.remedy))

    def _send(self, kind: int, number: int, what: str, content: Any) -> None:
        if self._writer is None:
            raise ChannelClosed
        data = pickle.dumps((kind, number, what, content))
        self._writer.write(_LENGTH.pack(len(data)) + data)

    def _received(self, kind: int, number: int, what: str, content: Any) -> None:
        if kind in (_ASK, _TELL):
            task = asyncio.get_running_loop().create_task(self._handle(kind, number, what, content))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return
        future = self._asked.get(number)
        if future is not None and not future.done():
            if kind == _ANSWER:
                future.set_result(content)
            else:
                future.set_exception(StartupError(*content))

    async def _handle(self, kind: int, number: int, what: str, content: Any) -> None:
        try:
            answer = await self._handler(what, content)
        except StartupError as error:
            self._refuse(kind, number, what, error)
            return
        except Exception as error:  # noqa: BLE001 (it must not wait for an answer for ever)
            _log.exception("a message could not be handled", what=what)
            self._refuse(kind, number, what, StartupError(f"{what}: {type(error).__name__}: {error}"))
            return
        if kind == _ASK:
            with contextlib.suppress(ChannelClosed):
                self._send(_ANSWER, number, what, answer)
