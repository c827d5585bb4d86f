"""The compiled wheel (`make compiled`): it is built, holds what it should, and tests of what it holds pass on it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMPILER = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
HEADER = Path(sysconfig.get_path("include")) / "Python.h"
TESTS = ("unit/assess", "unit/routing", "unit/dispatch", "unit/guard", "unit/cache", "pipeline/test_records.py")

pytestmark = [
    pytest.mark.skipif(
        "CI" not in os.environ and not (shutil.which(COMPILER) and HEADER.exists()),
        reason=f"needs a C compiler ({COMPILER}) and {HEADER}",
    ),
    pytest.mark.timeout(900),  # on one busy core
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the modules of the wheel, as `make compiled-test` makes it."""
    folder = tmp_path_factory.mktemp("compiled")
    build = [BIN / "hatchling", "build", "-t", "wheel", "-d", folder]
    done = subprocess.run(
        build, cwd=ROOT, env={**os.environ, "HATCH_BUILD_HOOK_ENABLE_CUSTOM": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    assert not wheel.name.endswith("-none-any.whl")
    target = folder / "modules"
    uv = [BIN / "uv", "pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
    subprocess.run([*uv, "--target", target, wheel], check=True, timeout=120)
    return target


def test_every_hot_module_is_machine_code_and_no_other(installed: Path) -> None:
    ask = "from scripts.compiled import MODULES; print('\\n'.join(MODULES))"
    listed = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    package = installed / "model_gateway"
    libraries = [path.relative_to(package) for path in package.rglob("*") if path.suffix in (".so", ".pyd")]
    assert sorted(str(path.with_name(path.name.split(".")[0] + ".py")) for path in libraries) == listed.stdout.split()


def test_the_same_tests_pass_on_it(installed: Path, tmp_path: Path) -> None:
    asked = "import model_gateway.assess.features as a; print(a.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    taken = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert Path(taken.stdout.strip()).parent == installed / "model_gateway" / "assess"
    assert not taken.stdout.strip().endswith(".py")
    # The profile: the same examples each time, and no complaint of a slow machine.
    command = [BIN / "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci"]
    command.append(f"--basetemp={tmp_path / 'inner'}")
    done = subprocess.run(
        [*command, *(f"tests/{name}" for name in TESTS)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-10_000:]
