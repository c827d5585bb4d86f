"""`costs`: what was spent, on what, and what routing and cache have saved; as a table, CSV or JSON."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from model_gateway.budget.report import GROUPS, Line, as_row
from model_gateway.budget.report import costs as read
from model_gateway.cli.output import CommandFailed
from model_gateway.config.load import load
from model_gateway.domain.usage import NANO_PER_USD
from model_gateway.storage.database import open_database

_NUMBERS = ("requests", "answered", "estimated", "cache hits", "input tokens", "output tokens")
_MONEY = ("cost", "strongest model", "saved by routing", "saved by cache")


def costs(path: Path | None, by: str, since: str | None, until: str | None, form: str) -> None:
    """Raises CommandFailed for a group, a date or a form that is not known, and where there is no ledger."""
    names = [name.strip() for name in by.split(",") if name.strip()]
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        raise CommandFailed(f"--by {unknown[0]}: not known", f"one or several of {', '.join(GROUPS)}")
    if form not in ("table", "csv", "json"):
        raise CommandFailed(f"--format {form}: not known", "table, csv or json")
    first = _day("--since", since, datetime(1970, 1, 1, tzinfo=UTC).date())
    last = _day("--until", until, datetime.now(UTC).date())
    config = load(path, os.environ, Path.cwd()).config.ledger
    if config.url is None and not Path(config.path).exists():
        raise CommandFailed(f"there is no ledger at {config.path}", "start the gateway once, or pass --config")
    begin = datetime.combine(first, time(), UTC).timestamp()
    end = datetime.combine(last + timedelta(days=1), time(), UTC).timestamp()
    engine = open_database(config)
    try:
        with engine.begin() as connection:
            lines = read(connection, names, begin, end)
            total = read(connection, [], begin, end) if len(names) else []
    finally:
        engine.dispose()
    if form == "table":
        _print_table(names, lines, total)
    else:
        rows = [as_row(names, line) for line in lines]
        if form == "json":
            typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        elif rows:
            writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def _day(option: str, text: str | None, default: date) -> date:
    try:
        return default if text is None else date.fromisoformat(text)
    except ValueError:
        raise CommandFailed(f"{option} {text}: not a day", "write it as 2026-11-23 (UTC)") from None


def _print_table(names: Sequence[str], lines: Sequence[Line], total: Sequence[Line]) -> None:
    table = Table(box=None, pad_edge=False, show_footer=bool(total))
    footer = _cells(total[0]) if total else [""] * (len(_NUMBERS) + len(_MONEY))
    for index, name in enumerate(names):
        table.add_column(name, footer="all" if index == 0 else "")
    for name, foot in zip((*_NUMBERS, *_MONEY), footer, strict=True):
        table.add_column(name, justify="right", footer=foot)
    for line in lines:
        table.add_row(*(part or "-" for part in line.group), *_cells(line))
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(
        "money in USD; saved: against the strongest model, had it read and written the same tokens", style="dim"
    )


def _cells(line: Line) -> list[str]:
    counts = (
        line.requests, line.answered, line.estimated, line.cache_hits, line.input_tokens, line.output_tokens,
    )  # fmt: skip
    money = (line.cost_nano, line.baseline_nano, line.saved_by_routing_nano, line.saved_by_cache_nano)
    return [f"{count:,}" for count in counts] + [f"{nano / NANO_PER_USD:,.6f}" for nano in money]
