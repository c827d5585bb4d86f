"""The house rules that a linter does not know: sizes, names, docstrings, and what no file may say."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
BANNED = {"utils", "helpers", "common", "misc", "base", "manager", "types"}
# Split, so that this file does not say them either.
REGISTRY_HOSTS = [
    "pypi" + ".org",
    "python" + "hosted.org",
    "npm" + "js.org",
    "npm" + "js.com",
    "deb." + "debian" + ".org",
]


def tracked(pattern: str = "") -> list[Path]:
    """Files git tracks or would track; in an unpacked archive without git, all of them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    else:
        paths = [Path(line) for line in listed.stdout.splitlines()]
    return [ROOT / path for path in paths if (ROOT / path).is_file() and path.name.endswith(pattern)]


SOURCES = [path for path in tracked(".py") if path.parent.name != "pb"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES, "split the file at its joint"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", [p for p in SOURCES if "src" in p.parts], ids=name_of)
def test_modules_say_what_they_decide_and_have_a_noun_for_a_name(path: Path) -> None:
    assert path.stem not in BANNED
    assert path.parent.name not in BANNED
    assert ast.get_docstring(ast.parse(path.read_text())), "a module's docstring says what it decides"


def test_no_file_names_a_registry_or_a_private_path() -> None:
    words = re.compile("|".join([re.escape(host) for host in REGISTRY_HOSTS] + ["/work" + "/main", "/root" + "/"]))
    found: list[str] = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{name_of(path)}: {match[0]}" for match in words.finditer(text)]
    assert found == []


def test_the_locks_hold_every_dependency_with_its_hash() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {
        "run": [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["local"]],
        "dev": project["dependency-groups"]["dev"],
        "build": project["build-system"]["requires"],
    }
    for lock, requirements in wanted.items():
        text = (ROOT / "locks" / f"{lock}.txt").read_text()
        pins = {entry.split("==")[0] for entry in re.findall(r"^\S+==\S+", text, re.MULTILINE)}
        entries = re.split(r"\n(?=\S)", text.strip())
        assert all("--hash=sha256:" in entry for entry in entries), f"locks/{lock}.txt has an entry without a hash"
        names = {re.split(r"[^\w.-]", requirement)[0].lower() for requirement in requirements}
        assert names <= pins, f"run `make lock`: locks/{lock}.txt lacks {names - pins}"


def test_nothing_that_starts_a_compiler_is_locked() -> None:
    for path in (ROOT / "locks").glob("*.txt"):
        assert "llama-cpp-python" not in path.read_text()
