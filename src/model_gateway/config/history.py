"""The configuration files that have worked: the last KEEP of them, so that any can come back.

Each is a copy of gateway.yaml in a folder beside the ledger, readable by its owner alone, since it may hold secrets.
Decides which are kept; never what is in force.
"""

from __future__ import annotations

import contextlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from model_gateway.config.errors import ConfigError

KEEP: Final = 20
HISTORY: Final = "config-history"
_NAME: Final = re.compile(r"(\d{6})-(\d{8}T\d{6})Z\.yaml")


class Version(NamedTuple):
    """`number` counts from 1; `at`: when it was first in force."""

    number: int
    at: datetime
    path: Path

    @property
    def text(self) -> bytes:
        return self.path.read_bytes()


class History:
    """`folder` is made when something is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def versions(self) -> list[Version]:
        """Oldest first."""
        found: list[Version] = []
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                match = _NAME.fullmatch(path.name)
                if match:
                    at = datetime.strptime(match[2], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
                    found.append(Version(int(match[1]), at, path))
        return sorted(found)

    def keep(self, text: bytes, now: datetime) -> bool:
        """Note a text that works. False: it is the newest already. Raises OSError."""
        known = self.versions()
        if known and known[-1].text == text:
            return False
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = known[-1].number + 1 if known else 1
        _write(self._folder / f"{number:06}-{now.astimezone(UTC):%Y%m%dT%H%M%S}Z.yaml", text)
        for old in known[: max(0, len(known) + 1 - KEEP)]:
            old.path.unlink(missing_ok=True)
        return True

    def find(self, number: int | None, current: bytes) -> Version:
        """The version of that number; None: the newest that differs from `current`. Raises ConfigError."""
        known = self.versions()
        for version in reversed(known):
            if version.number == number or (number is None and version.text != current):
                return version
        wanted = "an earlier version" if number is None else f"version {number}"
        have = f"{known[0].number} to {known[-1].number} are there" if known else "none was kept yet"
        raise ConfigError(f"{wanted} is not in {self._folder}: {have}", "`model-gateway config history` lists them")


def history_beside(ledger: str) -> History:
    return History(Path(ledger).parent / HISTORY)


def replace(path: Path, text: bytes) -> None:
    """Put `text` in the place of the file, at once and with the same rights. Raises OSError."""
    target = path.resolve()  # a link stays one
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    _write(target, text, mode)


def _write(path: Path, text: bytes, mode: int = 0o600) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
