"""Connections to PostgreSQL that give up. A server that is frozen, or whose cable was pulled, says nothing at all: not
even that it has gone. The driver would wait for ever, and whoever needs the database with it.

Decides how long an answer is waited for; what is done without one is for whoever asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Engine, event

PATIENCE_S: Final = 4.0
"""For the answer to one statement. Those of the gateway touch a few rows by their keys."""


class _Own(threading.local):
    """This thread's, where it has said so."""

    seconds: float | None = None


_own = _Own()


@contextmanager
def patience(seconds: float) -> Generator[None]:
    """Statements of this thread may take so long: for reports over many rows."""
    before = _own.seconds
    _own.seconds = seconds
    try:
        yield
    finally:
        _own.seconds = before


def make_patient(engine: Engine) -> None:
    """From now on its new connections give up. SQLite's do by themselves."""
    if engine.dialect.name == "postgresql" and engine.dialect.driver == "psycopg":
        engine.dispose()
        event.listen(engine, "do_connect", _connection_class())


def _connection_class() -> Callable[..., Any]:
    from psycopg import Connection, OperationalError  # an extra: only who uses PostgreSQL has it

    class PatientConnection(Connection[Any]):
        def wait(self, gen: Any, *options: Any, **named: Any) -> Any:  # what all its statements wait in
            seconds = PATIENCE_S if _own.seconds is None else _own.seconds
            try:
                return super().wait(_until(gen, time.monotonic() + seconds), *options, **named)
            except _GivenUp:
                self.pgconn.finish()  # the answer may still come: nobody must take it for that to another question
                raise OperationalError(f"the server does not answer within {seconds:g} s") from None

    def connect(_dialect: Any, _record: Any, arguments: Any, named: Any) -> Any:
        return PatientConnection.connect(*arguments, **named)

    return connect


class _GivenUp(Exception):
    pass


def _until(gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
    """The driver's own generator, which is asked every 0.1 s while nothing comes."""
    try:
        wanted = next(gen)
        while True:
            came = yield wanted
            if not came and time.monotonic() >= deadline:
                gen.close()
                raise _GivenUp
            wanted = gen.send(came)
    except StopIteration as end:
        return end.value
