"""A request's record from its opening to its one closing, and what ended it. Knows no step in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from model_gateway.domain.errors import GatewayError, InternalError
from model_gateway.domain.record import Record


class Records(Protocol):
    """Who counts the open records and closes them: the gateway."""

    in_flight: int

    def close_record(self, record: Record) -> None: ...


class Journal:
    """Closes its record exactly once, whatever happened inside the `with`, and never hides an error."""

    __slots__ = ("_begun", "_clock", "_gateway", "record")

    def __init__(self, gateway: Records, record: Record, clock: Callable[[], float]) -> None:
        self._gateway = gateway
        self._clock = clock
        self._begun = clock()
        self.record = record

    def __enter__(self) -> Record:
        self._gateway.in_flight += 1
        return self.record

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gateway, record = self._gateway, self.record
        gateway.in_flight -= 1
        record.duration_s = self._clock() - self._begun
        if error is not None:
            note_failure(record, error)
        if not record.pending:
            gateway.close_record(record)


def note_failure(record: Record, error: BaseException) -> None:
    """What ended the request, as the record's status."""
    if isinstance(error, GatewayError):
        record.status = error.kind
        record.error = error.logged
    elif isinstance(error, asyncio.CancelledError | GeneratorExit):
        record.status = "cancelled"
    else:
        record.status = InternalError.kind
        record.error = type(error).__name__
