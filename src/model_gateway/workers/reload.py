"""Reload: a changed configuration is read, checked, compared and put to work; a wrong one changes nothing.

Decides when to look (on a signal, on the admin API's word, when a file has changed) and what is told of it. What it
means to put a configuration to work is the target's: one process, or all workers together.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

from model_gateway.config.changes import changes, pinned
from model_gateway.config.errors import StartupError
from model_gateway.config.history import history_beside
from model_gateway.config.load import Loaded, load
from model_gateway.config.schema import GatewayConfig
from model_gateway.control.health import Configuration, Reloaded
from model_gateway.storage.audit import GATEWAY, Act, Actor

LOOK_S: Final = 0.3
"""Between two looks at the files. What has changed is read once two looks have found it the same."""

_log = structlog.get_logger("model_gateway.reload")

Stamp = tuple[tuple[int, int, int], ...]


class Reloadable(Protocol):
    """Something that serves by a configuration. `configuration` is what it tells of it."""

    configuration: Configuration

    @property
    def config(self) -> GatewayConfig: ...

    async def apply(self, config: GatewayConfig) -> None:
        """All of it, at once. Raises StartupError, and then nothing has changed."""
        ...

    async def note(self, by: Actor, *acts: Act) -> None:
        """In the audit log."""
        ...


class Reloader:
    """`loaded` is what `target` was started with, read by `load(path, environ, cwd)`."""

    def __init__(
        self, target: Reloadable, loaded: Loaded, path: Path | None, environ: Mapping[str, str], cwd: Path
    ) -> None:
        self._target = target
        self._path = path
        self._environ = environ
        self._cwd = cwd
        self._files = loaded.files
        self._seen: Stamp = ()  # looked at once more: a file may have changed while the gateway started
        self._lock = asyncio.Lock()
        self._warnings = loaded.warnings
        self._name = loaded.path.name if loaded.path else ""
        self._keep(loaded)

    async def reload(self, reason: str, by: Actor = GATEWAY) -> Reloaded:
        """Read everything anew and put it to work. Raises StartupError, and then what was there goes on."""
        async with self._lock:
            before, running = self._target.configuration, self._target.config
            try:
                done = await self._reload(before.generation)
            except StartupError as error:
                self._target.configuration = msgspec.structs.replace(
                    before, error=error.message, refused=before.refused + 1
                )
                _log.error("configuration refused", reason=reason, error=error.message, remedy=error.remedy)
                detail = {"reason": reason, "error": error.message}
                await self._target.note(by, Act("config.refused", self._name, "refused", detail))
                raise
            if done.changed:
                _log.info("configuration reloaded", reason=reason, **msgspec.structs.asdict(done))
                await self._target.note(by, *self._acts(reason, done, running))
            elif before.error:
                _log.info("configuration as it was", reason=reason, generation=done.generation)
            return done

    async def _reload(self, generation: int) -> Reloaded:
        target = self._target
        seen = _stamp(self._files)
        loaded = await asyncio.to_thread(load, self._path, self._environ, self._cwd)
        self._seen = seen if loaded.files == self._files else _stamp(loaded.files)
        self._files = loaded.files
        running = target.config
        config, kept = pinned(running, loaded.config)
        changed = list(changes(running, config))
        if changed:
            generation += 1
            await target.apply(config)
            self._keep(loaded)
        for warning in loaded.warnings:
            if warning not in self._warnings:
                _log.warning(warning)
        self._warnings = loaded.warnings
        target.configuration = msgspec.structs.replace(
            target.configuration,
            generation=generation,
            loaded_at=time.time() if changed else target.configuration.loaded_at,
            error="",
            waiting=tuple(kept),
        )
        return Reloaded(generation=generation, changed=tuple(changed), after_restart=tuple(kept))

    def _acts(self, reason: str, done: Reloaded, before: GatewayConfig) -> Iterator[Act]:
        detail = {"reason": reason, "generation": done.generation, "changed": done.changed}
        yield Act("config.reloaded", self._name, detail=detail)
        after = self._target.config
        if before.budgets != after.budgets:
            yield Act("budgets.changed", self._name, detail={"before": _told(before), "after": _told(after)})

    async def watch(self) -> None:
        """Reload whenever one of the files has changed, for as long as this runs."""
        last = self._seen
        while True:
            await asyncio.sleep(LOOK_S)
            now = _stamp(self._files)
            settled, last = now == last, now
            if now == self._seen or not settled or not self._target.config.server.reload_on_change:
                continue
            self._seen = now  # whatever comes of it: what is refused is not read again and again
            with contextlib.suppress(StartupError):  # told
                await self.reload("a file has changed")

    def _keep(self, loaded: Loaded) -> None:
        """For `config rollback`. Without it everything works as well."""
        if loaded.path is None:
            return
        with contextlib.suppress(OSError):
            history_beside(self._target.config.ledger.path).keep(loaded.path.read_bytes(), datetime.now(UTC))


def _told(config: GatewayConfig) -> list[str]:
    return [
        f"{each.name}: {each.usd:g} USD per {each.per}, {each.mode}, {each.scope} {each.match}".rstrip()
        for each in config.budgets.limits
    ]


def _stamp(files: tuple[Path, ...]) -> Stamp:
    """Changes whenever a file does, appears, goes, or is another behind a link (as Kubernetes replaces secrets)."""
    found: list[tuple[int, int, int]] = []
    for file in files:
        try:
            facts = file.stat()
            found.append((facts.st_mtime_ns, facts.st_ino, facts.st_size))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)
