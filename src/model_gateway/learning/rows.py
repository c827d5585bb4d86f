"""Reads labelled queries from CSV files: which of two models was right at each. Decides what a bad file is told.

Columns: `prompt`, `weak`, `strong` (0–1: how right the weak and the strong model were), and, optional, `domain`,
`language`, `weak_model`, `strong_model`.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

REQUIRED = ("prompt", "weak", "strong")
FEWEST = 50


class DataInvalid(ValueError):
    """A file that cannot be used: names the file, the line, the column and the remedy."""


class Row(msgspec.Struct, frozen=True):
    prompt: str
    weak: float
    strong: float
    domain: str = ""
    weak_model: str = ""
    source: str = ""


def read_rows(path: Path) -> list[Row]:
    """Raises DataInvalid. A file holds at least 50 rows."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise DataInvalid(f"{path}: no column `{missing[0]}`; the first line must name {', '.join(REQUIRED)}")
            rows = [_row(record, path, reader.line_num) for record in reader]
    except OSError as error:
        raise DataInvalid(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataInvalid(f"{path}: is not UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise DataInvalid(f"{path}: is no CSV: {error}") from None
    if len(rows) < FEWEST:
        raise DataInvalid(f"{path}: {len(rows)} rows are too few to say anything; at least {FEWEST}")
    return rows


def _row(record: dict[str, str | None], path: Path, line: int) -> Row:
    prompt = record.get("prompt") or ""
    if not prompt.strip():
        raise DataInvalid(f"{path}:{line}: `prompt` is empty; leave the row out")
    return Row(
        prompt,
        _score(record, "weak", path, line),
        _score(record, "strong", path, line),
        record.get("domain") or "",
        record.get("weak_model") or "",
        path.name,
    )


def _score(record: dict[str, str | None], name: str, path: Path, line: int) -> float:
    value = record.get(name)
    try:
        score = float(value or "")
    except ValueError:
        score = -1.0
    if not 0.0 <= score <= 1.0:
        raise DataInvalid(f"{path}:{line}: `{name}` is {(value or '')[:40]!r}; it must be a number from 0 to 1")
    return score


def drawn(rows: Sequence[Row], labels: int | None, seed: int) -> list[Row]:
    """`labels` of the rows by chance, the same for the same seed; all of them where None or more than there are."""
    if labels is None or labels >= len(rows):
        return list(rows)
    return random.Random(seed).sample(list(rows), labels)  # noqa: S311 (a sample, no secret)
