"""What the pages tell a newcomer to type is typed, in order, in a fresh clone, with nothing changed.

Each page has a clone of its own. The packages are installed once: what `make run` would download is the same for all.
`git clone` of the public address is led to a repository of the present tree; `make run` and `serve` go on in the
background once they are ready; everything happens in a network of its own, where the default ports are free.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from namespace import Namespace
from pages import ROOT, Block, blocks

pytestmark = pytest.mark.timeout(600)  # installs, and starts a Python for each command: a busy machine takes its time

PAGES = {
    "README.md": "README.zh-CN.md",
    "docs/quick-start.md": "docs/zh/quick-start.md",
    "docs/deployment.md": "docs/zh/deployment.md",
}
"""Each with its translation."""

ADDRESS = "https://github.com/your-org/model-gateway.git"
STARTS = re.compile(r"^(make run|(\S*/)?model-gateway (serve|dev)).*$", re.MULTILINE)
SAYS_SOMETHING = re.compile(r"\b(ask|curl|assess|costs)\b")
BOUNDED_S = 200


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The present tree, committed: what a clone of the public address gives."""
    folder = tmp_path_factory.mktemp("published") / "model-gateway"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert names, "the tests of the pages need the project's git"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]
    for arguments in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-q", "-m", "tree"], ["tag", "v0.1.0"]):
        subprocess.run([*git, *arguments], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def installed(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .venv as `make run` makes it."""
    folder = tmp_path_factory.mktemp("installed") / "model-gateway"
    subprocess.run(["git", "clone", "-q", str(repository), str(folder)], check=True)
    subprocess.run(["make", ".venv/.run"], cwd=folder, check=True, timeout=400, env=clean())
    return folder / ".venv"


@pytest.fixture(scope="module")
def network() -> Iterator[Namespace]:
    with Namespace() as namespace:
        yield namespace


def clean() -> dict[str, str]:
    """The environment of somebody who has no keys and has set nothing."""
    unwanted = ("_API_KEY", "PORT", "HOST", "PYTHONPATH", "VIRTUAL_ENV", "WORKERS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    return {name: value for name, value in os.environ.items() if not name.endswith(unwanted)} | {"NO_COLOR": "1"}


class Reader:
    """Somebody who follows one page, from an empty folder on."""

    def __init__(self, folder: Path, repository: Path, installed: Path, network: Namespace) -> None:
        self.folder = folder
        self._installed = installed
        self._network = network
        self._running = ExitStack()
        self._environment = clean() | {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{repository}.insteadOf",
            "GIT_CONFIG_VALUE_0": ADDRESS,
        }

    def follow(self, block: Block) -> None:
        if block.language == "python":
            self._said(self._run([sys.executable, "-c", block.text], block), block)
            return
        at = 0
        for start in STARTS.finditer(block.text):
            self._type(block.text[at : start.start()], block)
            self._start(start[0], block)
            at = start.end() + 1
        self._type(block.text[at:], block)

    def leave(self) -> None:
        self._running.close()

    def _type(self, text: str, block: Block) -> None:
        if not text.strip():
            return
        where = self.folder / ".where"
        where.unlink(missing_ok=True)
        done = self._run(["bash", "-euo", "pipefail", "-c", f"{text}\npwd > {where}"], block)
        self.folder = Path(where.read_text().strip())
        where.unlink()
        if (self.folder / "Makefile").exists() and not (self.folder / ".venv").exists():
            (self.folder / ".venv").symlink_to(self._installed)
            for stamp in (".uv", ".run"):
                (self._installed / stamp).touch()
        if SAYS_SOMETHING.search(text):
            self._said(done, block)

    def _run(self, arguments: list[str], block: Block) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self._network.within(arguments),
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=BOUNDED_S,
        )
        assert done.returncode == 0, f"line {block.line}:\n{block.text}\n{done.stdout}{done.stderr}"
        return done

    def _said(self, done: subprocess.CompletedProcess[str], block: Block) -> None:
        assert len(done.stdout.split()) >= 1, f"line {block.line} says nothing:\n{block.text}\n{done.stderr}"

    def _start(self, command: str, block: Block) -> None:
        """Go on in the background. One at a time: what ran before is stopped."""
        self.leave()
        process = subprocess.Popen(
            self._network.within(["bash", "-c", f"exec {command}"]),
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        self._running.callback(_stop, process)
        seen: list[str] = []
        for line in process.stdout:
            seen.append(line)
            if line.startswith("try:"):
                return
        raise AssertionError(f"line {block.line}: `{command}` has ended:\n{''.join(seen)}")


def _stop(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=40)


@pytest.mark.parametrize("name", PAGES)
def test_the_page_can_be_followed(
    name: str, repository: Path, installed: Path, network: Namespace, tmp_path: Path
) -> None:
    found = blocks(ROOT / name, "bash", "sh", "python")
    followed = [block for block in found if not block.skipped]
    assert followed, "the page has no command that can be run"
    for block in found:
        if block.skipped:
            print(f"{name}:{block.line} is not run: {block.skipped}")
    reader = Reader(tmp_path, repository, installed, network)
    try:
        for block in followed:
            reader.follow(block)
    finally:
        reader.leave()


@pytest.mark.parametrize("name", PAGES)
def test_the_translation_tells_to_type_the_same(name: str) -> None:
    """So that what is true of the one page is true of the other. It may leave out, not add."""
    said = [commands(block) for block in blocks(ROOT / name, "bash", "sh", "python")]
    translated = [commands(block) for block in blocks(ROOT / PAGES[name], "bash", "sh", "python")]
    assert translated
    assert [text for text in translated if text not in said] == []


def commands(block: Block) -> str:
    """Without comments, which are translated, and with whether it is run at all."""
    return re.sub(r"[ \t]*(^|[ \t])#(?!!).*$", "", block.text, flags=re.MULTILINE) + str(bool(block.skipped))
