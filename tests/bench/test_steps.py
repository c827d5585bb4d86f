"""The steps that are counted one by one are the gateway's own: they must follow it wherever it goes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "bench" / "steps.py"


@pytest.mark.parametrize("how", [[], ["--bare"], ["--targets", "3"]])
def test_each_step_can_be_taken(how: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--once", *how],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("         1  ")]
    assert {"reading the request's bytes", "judging", "route", "writing the reply", "closing: Ledger.append"} <= set(
        told
    )
