"""All examinations, in the order in which one looks for a fault. Decides nothing but that order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from model_gateway.config.errors import StartupError
from model_gateway.config.load import load
from model_gateway.doctor import machine, neighbours
from model_gateway.doctor.finding import Finding, error, ok, warning


def examine(path: Path | None, environ: Mapping[str, str], cwd: Path) -> Iterator[Finding]:
    """What there is to say of the gateway of this configuration, whether it runs or not. May take some seconds."""
    try:
        loaded = load(path, environ, cwd)
    except StartupError as problem:
        yield error("config", problem.message, problem.remedy)
        return
    config = loaded.config
    yield ok("config", str(loaded.path) if loaded.path else "no file: defaults")
    for text in loaded.warnings:
        yield warning("config", text, "see docs, or leave it if it is meant so")
    yield from machine.versions(config)
    yield from machine.ports(config)
    yield from machine.disk(config)
    yield from machine.permissions(loaded)
    yield from machine.certificates(config)
    yield from neighbours.database(config)
    yield from neighbours.redis(config)
    yield from neighbours.providers(config)
