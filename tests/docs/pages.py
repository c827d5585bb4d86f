"""Markdown pages and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = ROOT / "bench" / "build"
"""What `make bench-peers` has installed there has pages of its own."""
SKIPPED = re.compile(r"<!-- (?:not run|不运行)[:：] *(.+?) *-->\s*$")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """`skipped`: why it is not run, "" where it is."""

    language: str
    text: str
    line: int
    skipped: str


def markdown() -> list[Path]:
    """Every page of the project, whatever has been installed beside them."""
    folders = [ROOT, *(ROOT / name for name in ("docs", "bench", "deploy", "examples"))]
    found = [*ROOT.glob("*.md"), *(page for folder in folders[1:] for page in folder.rglob("*.md"))]
    return sorted(page for page in found if INSTALLED not in page.parents)


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        if match[1] in languages:
            before = text[: match.start()]
            marker = SKIPPED.search(before.rstrip("\n"))
            found.append(Block(match[1], match[2], before.count("\n") + 1, marker[1] if marker else ""))
    return found
