"""The certificates in use: read at the start, looked at every second, replaced when their files have changed.

Decides which pair is used: the newest good one. A bad pair changes nothing but what `problem` says. Connections that
exist go on as they began; `current` is for new ones. Never runs on the event loop but to start and to tell.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final

import structlog

from model_gateway.config.errors import ConfigError
from model_gateway.config.tls import TlsFiles
from model_gateway.tls.material import Material, files_of, moment, read

LOOK_S: Final = 1.0
WARNING_S: Final = 14 * 86_400.0
_REMIND_S: Final = 86_400.0

_log = structlog.get_logger("model_gateway.tls")

_Files = tuple[tuple[int, ...] | None, ...]


class TlsDoor:
    """One section's files. Raises ConfigError when they cannot be used at the start."""

    def __init__(self, section: str, config: TlsFiles, wall_clock: Callable[[], float] = time.time) -> None:
        self.section = section
        self.config = config
        self.problem = ""
        self._looking = Lock()
        self._wall_clock = wall_clock
        # Before they are read: a later change is seen then.
        self._used: _Files = _state(config)
        self._failed: _Files = self._used
        self._reminded_at = 0.0
        self.current: Material = read(section, config, wall_clock())

    async def watch(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look)

    def look(self, *, settled: bool = False) -> None:
        """Read files that have changed. Blocks: for a thread. Never raises. `settled`: nobody is writing them now."""
        with self._looking:
            self._look(settled)

    def _look(self, settled: bool) -> None:
        state = _state(self.config)
        if state == self._used:
            self.problem = ""
        else:
            try:
                self._use(read(self.section, self.config, self._wall_clock()))
            except ConfigError as error:
                # Certificate and key are often written one after the other: only what stays wrong is a problem.
                if (settled or state == self._failed) and self.problem != error.message:
                    self.problem = error.message
                    _log.error(
                        "certificate refused, the last good one stays", reason=error.message, remedy=error.remedy
                    )
                self._failed = state
            else:
                self._used, self.problem = state, ""
        self._remind()

    def complaint(self) -> str:
        """What somebody should mend: "" where nothing."""
        return self.problem or self._expiry()

    def _use(self, found: Material) -> None:
        if not found.same_as(self.current):
            self.current = found
            self._reminded_at = 0.0
            _log.info("certificate renewed", option=self.section, expires_at=moment(found.valid.until))

    def _expiry(self) -> str:
        left_s = self.current.valid.until - self._wall_clock()
        if left_s > WARNING_S:
            return ""
        when = moment(self.current.valid.until)
        if left_s <= 0:
            return f"{self.section}.cert: {self.config.cert} expired at {when}: put a current certificate there"
        return f"{self.section}.cert: {self.config.cert} expires at {when}, in {left_s / 86_400:.1f} days: renew it"

    def _remind(self) -> None:
        """Once a day."""
        expiry, now = self._expiry(), self._wall_clock()
        if expiry and now - self._reminded_at >= _REMIND_S:
            self._reminded_at = now
            _log.warning("certificate expires", detail=expiry)


def door_of(section: str, config: TlsFiles) -> TlsDoor | None:
    """None where no certificate is configured. Raises ConfigError."""
    return TlsDoor(section, config) if config.cert else None


def _state(config: TlsFiles) -> _Files:
    """Changes with the files, also where a symbolic link on the way leads elsewhere, as Kubernetes swaps secrets."""
    return tuple(_stat(path) for path in files_of(config))


def _stat(path: str) -> tuple[int, ...] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
