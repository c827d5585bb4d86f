"""`doctor`: the findings as lines or as JSON. Exit code 1 where one of them is an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec
import typer

from model_gateway.doctor.examination import examine
from model_gateway.doctor.finding import Finding

_MARKS: Final = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "error": typer.colors.RED}


def doctor(path: Path | None, *, as_json: bool) -> None:
    """Raises typer.Exit."""
    found = list[Finding]()
    for finding in examine(path, os.environ, Path.cwd()):
        found.append(finding)
        if not as_json:
            state = typer.style(f"{finding.state:<8}", fg=_MARKS[finding.state])
            typer.echo(f"{state} {finding.what:<22} {finding.detail}")
            if finding.remedy:
                typer.echo(f"{'':<8} {'':<22} → {finding.remedy}")
    bad = sum(finding.state == "error" for finding in found)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode({"healthy": not bad, "findings": found})).decode())
    else:
        typer.echo(f"{bad} errors, {sum(finding.state == 'warning' for finding in found)} warnings")
    if bad:
        raise typer.Exit(1)
