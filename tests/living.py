"""Is a process there? For tests of children that must not outlive anybody."""

from __future__ import annotations

from pathlib import Path


def alive(pid: int) -> bool:
    """One that has ended and that nobody has asked about is not."""
    try:
        return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
