"""`config migrate`: the configuration file in this version's words, shown as a diff or written.

Decides where the old one is kept; what changes is decided in config/migrations.py.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import typer

from model_gateway.cli import auditing
from model_gateway.cli.output import CommandFailed, warn
from model_gateway.config.document import NO_FILE, parse, read_text
from model_gateway.config.errors import ConfigError
from model_gateway.config.history import replace
from model_gateway.config.load import FILE_NAME, find_file, load
from model_gateway.config.migrations import CURRENT, rewritten
from model_gateway.storage.audit import Act


def migrate(path: Path | None, *, write: bool) -> None:
    """Raises StartupError: no such file, one from the future, or one that is still wrong afterwards."""
    file = find_file(path, Path.cwd())
    if file is None or not file.exists():
        raise ConfigError(f"there is no {file or FILE_NAME} here", "name it with --config")
    text = read_text(file, file.name, NO_FILE)
    parse(text, file.name)  # what is no YAML is told so
    step = rewritten(text, file.name)
    if step.was == CURRENT:
        typer.echo(f"{file.name} is of version {CURRENT}, the current one: nothing to do")
        return
    for line in step.said:
        typer.echo(line, err=True)
    warn(step.lost)
    if not write:
        old, new = text.splitlines(keepends=True), step.text.splitlines(keepends=True)
        typer.echo("".join(difflib.unified_diff(old, new, file.name, f"{file.name} of version {CURRENT}")), nl=False)
        typer.echo("nothing is written: --write does it, and keeps the old file beside", err=True)
        return
    kept = _free(file, step.was)
    try:
        replace(kept, file.read_bytes())
        kept.chmod(file.stat().st_mode & 0o777)
        replace(file, step.text.encode())
    except OSError as error:
        raise CommandFailed(f"{file} cannot be written: {error.strerror}", "change its owner or its rights") from None
    typer.echo(f"{file} is of version {CURRENT} now; as it was: {kept}")
    loaded = load(path, os.environ, Path.cwd())  # what is still wrong is for its owner to mend
    auditing.note(loaded.config.ledger, Act("config.migrated", file.name, detail={"from": step.was, "to": CURRENT}))


def _free(file: Path, version: int) -> Path:
    names = (f"{file.name}.v{version}", *(f"{file.name}.v{version}-{number}" for number in range(2, 1000)))
    return next(path for name in names if not (path := file.with_name(name)).exists())
