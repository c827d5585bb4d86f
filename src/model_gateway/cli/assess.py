"""`assess`: a query's score by the configured features, without a server. Decides nothing: the assessor scores."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import typer

from model_gateway.assessing import assessor_of
from model_gateway.cli.output import factor_lines
from model_gateway.config.load import load


def assess(text: str, config: Path | None, *, as_json: bool) -> None:
    loaded = load(config, os.environ, Path.cwd())
    assessment = assessor_of(loaded.config.complexity, loaded.config.routing).assess(text)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(assessment), ensure_ascii=False, indent=2))
        return
    typer.echo(f"score  {assessment.score:.3f}")
    typer.echo(f"tier   {assessment.tier}")
    factors = ((factor.name, factor.value, factor.contribution, factor.detail) for factor in assessment.factors)
    if assessment.abstained:
        typer.echo(f"abstained: {assessment.abstained}")
    for line in factor_lines(factors):
        typer.echo(f"  {line}")
