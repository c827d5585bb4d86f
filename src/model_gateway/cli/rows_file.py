"""The CSV that labelling writes and learning reads: a row at a time, each on the disk before the next.

Decides the columns, which prompts come from a file, and what is done with a row that a power cut has torn.
"""

from __future__ import annotations

import csv
import io
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_gateway.cli.output import CommandFailed

COLUMNS = ("prompt", "weak", "strong", "domain", "language", "weak_model", "strong_model")


@dataclass(frozen=True, slots=True)
class Prompt:
    text: str
    reference: str = ""
    domain: str = ""
    language: str = ""


class RowsFile:
    """`done`: the prompts of the rows that are there already. Safe for threads. Raises CommandFailed."""

    def __init__(self, path: Path) -> None:
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        self._lock = threading.Lock()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            self.done = self._take_up(path)
        except OSError as error:
            raise CommandFailed(f"--out: {path}: {error.strerror}", "choose a file that can be written") from None

    def append(self, row: Mapping[str, object]) -> None:
        line = io.StringIO()
        csv.writer(line).writerow([row[name] for name in COLUMNS])
        with self._lock:
            os.write(self._file, line.getvalue().encode())
            os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def _take_up(self, path: Path) -> set[str]:
        data = path.read_bytes()
        whole = _whole_rows(data)
        os.ftruncate(self._file, whole)
        os.lseek(self._file, 0, os.SEEK_END)
        if not whole:
            os.write(self._file, (",".join(COLUMNS) + "\r\n").encode())
            return set()
        try:
            reader = csv.DictReader(io.StringIO(data[:whole].decode("utf-8-sig"), newline=""))
        except UnicodeDecodeError:
            raise CommandFailed(f"--out: {path} is not UTF-8", "name a new file") from None
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise CommandFailed(f"--out: {path} has other columns than {','.join(COLUMNS)}", "name a new file")
        return {row["prompt"] for row in reader}


def _whole_rows(data: bytes) -> int:
    """Bytes up to the end of the last whole row: a line end outside of quotes."""
    end = data.rfind(b"\n") + 1
    while end and data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


def read_prompts(path: Path, references: str | None) -> Sequence[Prompt]:
    """Of a CSV file its column `prompt`; of any other file its lines. Each once. Raises CommandFailed."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CommandFailed(f"--data: {path}: {error.strerror}", "a text file, a CSV file, or `samples`") from None
    except UnicodeDecodeError:
        raise CommandFailed(f"--data: {path} is not UTF-8", "save it as UTF-8") from None
    if path.suffix.lower() != ".csv":
        if references:
            raise CommandFailed("--references needs a CSV file", "give --data a .csv with that column")
        return [Prompt(line) for line in dict.fromkeys(line.strip() for line in text.splitlines()) if line]
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for column in ("prompt", *((references,) if references else ())):
        if column not in (reader.fieldnames or ()):
            raise CommandFailed(f"--data: {path} has no column `{column}`", "name it in the first line")
    found: dict[str, Prompt] = {}
    for row in reader:
        prompt = row["prompt"] or ""
        if prompt.strip():
            right = (row[references] or "") if references else ""
            found.setdefault(prompt, Prompt(prompt, right, row.get("domain") or "", row.get("language") or ""))
    return list(found.values())
