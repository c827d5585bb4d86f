"""`assess`: a query's score by the configured features, without a server. Decides nothing: the assessor scores."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import typer

from model_gateway.assess.assessor import Assessor
from model_gateway.assess.embedding import EmbeddingAssessor
from model_gateway.assess.trained import TrainedAssessor
from model_gateway.assessing import assessor_of
from model_gateway.cli.output import factor_lines, warn
from model_gateway.config.load import load
from model_gateway.config.schema import GatewayConfig
from model_gateway.vectors.engine import REMEDY, Engine, prepared, unusable


def assess(text: str, config: Path | None, *, as_json: bool) -> None:
    loaded = load(config, os.environ, Path.cwd())
    assessment = _assessor(loaded.config, text).assess(text)
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


def _assessor(config: GatewayConfig, text: str) -> Assessor:
    """With the text's embedding, where the routing model has use for it: a command has the time."""
    words = assessor_of(config.complexity, config.routing)
    part = words.model.header.embedding if isinstance(words, TrainedAssessor) else None
    if not isinstance(words, TrainedAssessor) or part is None or not config.complexity.embeddings.timeout:
        return words
    why = unusable(part.engine)
    if why:
        warn([f"the routing model's embedding part is left out: {why}; {REMEDY}"])
        return words
    found: dict[str, list[float]] = {}
    assessor = EmbeddingAssessor(words, config.routing, found.get)
    if assessor.wants(text):
        begin = assessor.begin(text)
        found[begin] = Engine().embed([prepared(begin)])[0].astype(float).tolist()
    return assessor
