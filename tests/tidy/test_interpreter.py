"""Which interpreter `make` takes for .venv: an optimised one before others, without venv last, none too old or new."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "python.sh"


def chosen(path: str) -> str:
    done = subprocess.run(["/bin/sh", str(SCRIPT)], env={"PATH": path}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr
    return done.stdout.strip()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script, with nothing of this machine's: interpreters are what stands in the folder."""
    copy = tmp_path / "python.sh"
    copy.write_text(SCRIPT.read_text().replace("/usr/bin/", f"{tmp_path}/usr-bin/"))
    return copy


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"python3": "plain", "python3.12": "optimised"}, "python3.12"),
        ({"python3": "optimised", "python3.13": "optimised"}, "python3"),
        ({"python3": "plain", "python3.12": "bare"}, "python3"),
        ({"python3": "bare", "python3.11": "plain"}, "python3.11"),
        ({"python3": "", "python3.13": "bare"}, "python3.13"),
        ({"python3": "plain", "usr-bin/python3": "optimised"}, "usr-bin/python3"),
        ({"python3": "plain", "usr-bin/python3": "bare"}, "python3"),
        ({"python3": "", "python3.14": "optimised"}, "python3.14"),
        ({"python3": ""}, ""),
        ({}, ""),
    ],
)
def test_the_best_one_is_chosen(script: Path, found: dict[str, str], expected: str) -> None:
    """`found`: interpreters, and what each says of itself; "" is one that is too old, or too new."""
    for name, kind in found.items():
        program = script.parent / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho {kind}\n")
        program.chmod(0o755)
    done = subprocess.run(["/bin/sh", str(script)], env={"PATH": str(script.parent)}, capture_output=True, text=True)
    assert done.stdout.strip().removeprefix(f"{script.parent}/") == expected


@pytest.mark.parametrize(
    ("version", "said"), [((3, 10, 9), ""), ((3, 11), "optimised"), ((3, 14, 8), "optimised"), ((3, 15, 0), "")]
)
def test_it_is_neither_too_old_nor_too_new(version: tuple[int, ...], said: str) -> None:
    probe = SCRIPT.read_text().split("probe='", 1)[1].split("'", 1)[0]
    run = f"import sys; sys.version_info = {version}; sys.base_prefix = '/usr'\nexec({probe!r})"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == said, done.stderr


def test_what_is_chosen_here_is_new_enough() -> None:
    python = chosen(f"{sys.base_prefix}/bin:/usr/bin:/bin")
    code = "import sys; sys.exit(sys.version_info < (3, 11))"
    assert subprocess.run([python, "-c", code], timeout=60).returncode == 0
