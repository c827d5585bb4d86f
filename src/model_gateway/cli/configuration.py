"""`config check` and `config show`: what a configuration says and where each value comes from. Secrets stay masked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import typer

from model_gateway.cli.output import warn
from model_gateway.config.load import load


def check(path: Path | None) -> None:
    """Raises ConfigError when the gateway would not start."""
    loaded = load(path, os.environ, Path.cwd())
    warn(loaded.warnings)
    providers = ", ".join(name for name, provider in loaded.config.providers.items() if provider.status == "online")
    typer.echo(f"ok: {loaded.source}; providers online: {providers or 'none'}")


def show(path: Path | None, *, as_json: bool) -> None:
    loaded = load(path, os.environ, Path.cwd())
    values = loaded.config.model_dump(mode="json")  # pydantic masks every SecretStr
    if as_json:
        shown = {
            "file": str(loaded.path) if loaded.path else None,
            "config": values,
            "sources": dict(loaded.sources),
            "warnings": loaded.warnings,
        }
        typer.echo(json.dumps(shown, ensure_ascii=False, indent=2))
        return
    warn(loaded.warnings)
    typer.echo(f"# {loaded.source}")
    rows = [(f"{path} = {json.dumps(value, ensure_ascii=False)}", path) for path, value in _leaves(values, "")]
    width = min(72, max(len(text) for text, _ in rows))
    for text, path_ in rows:
        typer.echo(f"{text:<{width}}  # {_source(path_, loaded.sources)}")


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for name, inner in cast("dict[str, object]", value).items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, inner in enumerate(cast("list[object]", value)):
            yield from _leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


def _source(path: str, sources: Mapping[str, str]) -> str:
    """Where a leaf was written; the entries of a mapping such as tier_models may be noted only as a whole."""
    if path in sources:
        return sources[path]
    parent = path.rpartition(".")[0]
    written_whole = parent.startswith("providers.") and parent.count(".") >= 2 and parent in sources
    return sources[parent] if written_whole else "default"
