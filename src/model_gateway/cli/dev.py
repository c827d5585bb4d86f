"""`dev`: `serve` as a child process, restarted when the package's source changes.

A changed configuration the gateway takes up by itself. Decides when that is not enough: where it has died, and where
ports or the ledger have changed. A configuration that does not load keeps the running gateway as it is.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import typer
from watchfiles import Change, watch

import model_gateway
from model_gateway.cli.output import report
from model_gateway.config.changes import pinned
from model_gateway.config.errors import ConfigError
from model_gateway.config.load import ENV_FILE_NAME, FILE_NAME, load
from model_gateway.config.schema import GatewayConfig

_SETTLE_MS = 200  # an editor writes a file in several steps
_STEP_MS = 50
_STOP_S = 2.0  # a developer who saves a file does not wait for open streams to end

_PACKAGE = Path(model_gateway.__file__).resolve().parent


def dev(config: Path | None) -> None:
    """Run until Ctrl-C or SIGTERM."""
    cwd = Path.cwd()
    watched = frozenset(((cwd / (config or FILE_NAME)).resolve(), (cwd / ENV_FILE_NAME).resolve()))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _setting(stop))
    # One watcher for the whole run: a change made while another is being handled is not lost.
    changes = _changes(watched, stop)
    running = _loaded(config, cwd)
    child = _start(config)
    alive = True
    try:
        for changed in changes:
            if changed:
                typer.echo(f"changed: {', '.join(sorted(path.name for path in changed))}", err=True)
                before, running = running, _loaded(config, cwd, or_else=running) if changed & watched else running
                if changed & watched and running is before:
                    continue
                if changed <= watched and child.poll() is None and not _needs_a_start(before, running):
                    continue
                _stop(child)
                child = _start(config)
                alive = True
            elif alive and child.poll() is not None and not stop.is_set():
                alive = False
                typer.echo(f"the gateway ended (exit code {child.returncode}); waiting for a change", err=True)
    finally:
        _stop(child)


def _setting(stop: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handler(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    return handler


def _changes(watched: frozenset[Path], stop: threading.Event) -> Iterator[set[Path]]:
    """The changed files that matter, as they change; an empty set now and then; ends when asked to stop."""

    def matters(_change: Change, name: str) -> bool:
        path = Path(name)
        return path in watched or (path.suffix == ".py" and path.is_relative_to(_PACKAGE))

    # Folders one by one, not recursively: beside the configuration may lie a virtual environment or a database.
    folders = {path.parent for path in watched} | {path.parent for path in _PACKAGE.rglob("*.py")}
    found = watch(
        *(folder for folder in folders if folder.is_dir()),
        watch_filter=matters,
        debounce=_SETTLE_MS,
        step=_STEP_MS,
        stop_event=stop,
        rust_timeout=500,
        yield_on_timeout=True,
        recursive=False,
        raise_interrupt=False,
    )
    return ({Path(name) for _, name in changes} for changes in found)


def _loaded(config: Path | None, cwd: Path, or_else: GatewayConfig | None = None) -> GatewayConfig | None:
    """The configuration of now; where it is wrong that is told, unless the gateway is about to, and `or_else` stays."""
    try:
        return load(config, os.environ, cwd).config
    except ConfigError as error:
        if or_else is not None:
            report(error)
            typer.echo("the gateway keeps running with the configuration it had", err=True)
        return or_else


def _needs_a_start(before: GatewayConfig | None, after: GatewayConfig | None) -> bool:
    if before is None or after is None:
        return True
    return bool(pinned(before, after)[1]) or not after.server.reload_on_change


def _start(config: Path | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "model_gateway.cli", "serve", "--text-logs"]
    if config is not None:
        command += ["--config", str(config)]
    return subprocess.Popen(command)  # noqa: S603 - our own interpreter and module


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
