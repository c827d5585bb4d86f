"""What is told beside the counts of requests. Plain data: who oversees a process, or several, fills it in."""

from __future__ import annotations

import msgspec


class WorkerFigures(msgspec.Struct, frozen=True):
    """One of several processes. `slot`: its number, which its successor has after it."""

    slot: int
    connections: int
    resident_bytes: int
    open_fds: int
    cpu_s: float


class CertificateFigures(msgspec.Struct, frozen=True):
    """Of one door's certificate in use. `expires_at`: epoch seconds; `refused`: newer files are there and are bad."""

    door: str
    expires_at: float
    refused: bool


class Around(msgspec.Struct, frozen=True):
    """What is told beside the requests. `refused`: configurations; `restarts`: of workers that had died."""

    generation: int = 1
    refused: int = 0
    workers: tuple[WorkerFigures, ...] = ()
    restarts: int | None = None
    certificates: tuple[CertificateFigures, ...] = ()
