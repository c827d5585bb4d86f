"""The unit for systemd and the file for PM2: read by systemd itself, and by Node where it is there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model_gateway.config.load import load

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/model-gateway.service"
PM2 = ROOT / "deploy/pm2/ecosystem.config.js"
EXPOSURE = 20  # of 100, by systemd's own measure


def grace_s() -> float:
    return load(None, {}, ROOT / "docs").config.server.shutdown_grace / 1000


def test_systemd_accepts_the_unit_and_finds_it_locked_down(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    # systemd-analyze looks for the program, which this machine has elsewhere.
    command = str(Path(sys.executable).with_name("model-gateway"))
    unit.write_text(UNIT.read_text().replace("/opt/model-gateway/bin/model-gateway", command))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if UNIT.name in line]) == (0, [])
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", unit],
        capture_output=True,
        text=True,
    )
    assert rated.returncode == 0, rated.stdout[-500:]


def test_systemd_waits_longer_than_the_gateway_and_does_not_repeat_a_wrong_configuration() -> None:
    options = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#")
    assert float(options["TimeoutStopSec"]) > grace_s() + 10
    assert (options["Restart"], options["RestartPreventExitStatus"]) == ("on-failure", "2")


@pytest.mark.skipif(shutil.which("node") is None, reason="PM2 is Node's")
def test_pm2_runs_one_that_has_workers_itself(tmp_path: Path) -> None:
    shown = f"console.log(JSON.stringify(require({json.dumps(str(PM2))}).apps))"
    [app] = json.loads(subprocess.run(["node", "-e", shown], cwd=tmp_path, capture_output=True, check=True).stdout)
    assert (app["script"], app["args"]) == ("model-gateway", "serve --workers max")
    assert (app["interpreter"], app["exec_mode"], app["instances"]) == ("none", "fork", 1)
    assert app["kill_timeout"] > (grace_s() + 10) * 1000
    assert app["stop_exit_codes"] == [2] and app["treekill"] is False
