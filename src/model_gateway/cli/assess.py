"""`assess`: a query's score by the configured features, without a server. Decides nothing: the assessor scores."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import typer

from model_gateway.assess.features import FeatureAssessor
from model_gateway.cli.output import factor_lines
from model_gateway.config.load import load


def assess(text: str, config: Path | None, *, as_json: bool) -> None:
    loaded = load(config, os.environ, Path.cwd())
    assessment = FeatureAssessor(loaded.config.complexity).assess(text)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(assessment), ensure_ascii=False, indent=2))
        return
    typer.echo(f"score  {assessment.score:.3f}")
    typer.echo(f"tier   {assessment.tier}")
    factors = ((factor.name, factor.value, factor.contribution, factor.detail) for factor in assessment.factors)
    for line in factor_lines(factors):
        typer.echo(f"  {line}")
