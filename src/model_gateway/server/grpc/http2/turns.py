"""Whose turn it is to send, among the calls of one connection that have more than its client takes.

A step sends a frame, or sets a call aside until its own window opens: a client that grants its windows byte by byte
never makes us look at thousands of calls for one of them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_gateway.server.grpc.http2.calls import Call
    from model_gateway.server.grpc.http2.connection import Connection


class Turns:
    """The calls that may have something to send."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, Call] = OrderedDict()

    def add(self, call: Call) -> None:
        """It has something to send, or its window has grown. Where it waits already, it keeps its place."""
        if call.unsent:
            self._waiting[call.stream] = call

    def drop(self, stream: int) -> None:
        self._waiting.pop(stream, None)

    def clear(self) -> None:
        self._waiting.clear()

    def send(self, connection: Connection) -> None:
        """In turn, a frame each, as far as windows reach and the connection is read."""
        waiting = self._waiting
        while waiting and connection.window > 0 and not connection.paused:
            stream, call = waiting.popitem(last=False)
            if call.send_some():
                if call.unsent:
                    waiting[stream] = call
                else:
                    call.sent()
