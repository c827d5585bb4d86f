"""A configuration of the Node.js gateway becomes ours, its comments kept; one from the future is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_gateway.cli.app import app
from model_gateway.config.document import parse
from model_gateway.config.errors import ConfigError
from model_gateway.config.load import load
from model_gateway.config.migrations import CURRENT, migrated, rewritten

NODE = r"""# our gateway, moved from Node
nodeEnv: process.env.NODE_ENV || 'production'   # where it runs
server:
  port: process.env.PORT || 50051
  httpPort: parseInt(process.env.HTTP_PORT, 10) || 8081
  host: '127.0.0.1'
providers:
  openai:
    apiKey: process.env.OPENAI_API_KEY  # never in the file
    baseUrl: https://api.openai.com/v1
    defaultModel: gpt-4
    timeout: 15 * 1000
  mine:
    api_key: "process.env['MY_KEY']"
    baseUrl: https://llm.example.com/v1
    default_model: 5 * 3
monitoring:
  alertThresholds:
    error: {rate: 0.1, interval: 5 * 60 * 1000}  # 5 minutes
security:
  sensitivePatterns: ['/exec\s*\(/i', 2 * 3]
"""
OURS = r"""# our gateway, moved from Node
version: 1
environment: production   # where it runs
server:
  port: 50051
  httpPort: 8081
  host: '127.0.0.1'
providers:
  openai:
    apiKey: env:OPENAI_API_KEY  # never in the file
    baseUrl: https://api.openai.com/v1
    defaultModel: gpt-4
    timeout: 15000
  mine:
    api_key: "env:MY_KEY"
    baseUrl: https://llm.example.com/v1
    default_model: 5 * 3
monitoring:
  alertThresholds:
    error: {rate: 0.1, interval: 300000}  # 5 minutes
security:
  sensitivePatterns: ['/exec\s*\(/i', 2 * 3]
"""
ENVIRON = {"OPENAI_API_KEY": "a", "MY_KEY": "b"}


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["config", *arguments], env=ENVIRON)
    assert "Traceback" not in done.output
    return done.exit_code, done.output


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "gateway.yaml"


def test_the_words_of_node_become_ours_and_all_else_stays() -> None:
    step = rewritten(NODE, "gateway.yaml")
    assert (step.was, step.text, step.lost) == (0, OURS, ())
    assert "providers.openai.api_key: process.env.OPENAI_API_KEY is env:OPENAI_API_KEY" in step.said
    assert rewritten(OURS, "gateway.yaml").was == CURRENT, "once is enough"
    assert migrated(NODE, "x").text.splitlines()[1:] == OURS.splitlines()[2:], "lines keep their numbers"


def test_it_works_before_it_is_migrated_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(NODE)
    old = load(None, ENVIRON, tmp_path)
    (warning, *_) = [each for each in old.warnings if "version 0" in each]
    assert "config migrate --write" in warning
    path.write_text(OURS)
    new = load(None, ENVIRON, tmp_path)
    assert new.config == old.config and new.config.environment == "production"
    assert new.config.monitoring.alert_thresholds.error.interval == 300_000
    assert not any("version" in each for each in new.warnings) and new.digest != old.digest


def test_a_diff_first_then_the_file_and_the_old_one_beside(file: Path) -> None:
    file.write_text(NODE)
    file.chmod(0o640)
    code, told = run("migrate")
    assert code == 0 and "+    apiKey: env:OPENAI_API_KEY  # never in the file" in told and "--write" in told
    assert file.read_text() == NODE
    code, told = run("migrate", "--write")
    assert code == 0 and "gateway.yaml.v0" in told
    assert file.read_text() == OURS and (file.parent / "gateway.yaml.v0").read_text() == NODE
    assert {path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {0o640}
    code, told = run("migrate", "--write")
    assert code == 0 and "nothing to do" in told and len(list(file.parent.iterdir())) == 2
    file.write_text(NODE)
    assert run("migrate", "--write")[0] == 0 and (file.parent / "gateway.yaml.v0-2").read_text() == NODE


def test_what_json_has_lost_is_said(file: Path) -> None:
    written = {
        "server": {"port": "process.env.PORT || 50052"},
        "cache": {"redis": {"url": "process.env.CACHE_URL"}},
        "security": {"sensitivePatterns": [{}], "maxQueryLength": "10 * 1000"},
        "logging": {"file": {"path": "process.env.LOGS"}},
    }
    file.write_text(json.dumps(written, indent=2))
    code, told = run("migrate", "--write")
    assert code == 2 and "JSON cannot hold a pattern" in told and "security.sensitivePatterns[0]" in told
    assert "logging.file.path: process.env.LOGS is JavaScript" in told
    document, _ = parse(file.read_text(), "x")
    assert document["version"] == 1 and document["server"] == {"port": 50052}
    assert document["cache"] == {"redis": {"url": "env:CACHE_URL"}}
    security = document["security"]
    assert isinstance(security, dict) and security["maxQueryLength"] == 10_000


@pytest.mark.parametrize(
    ("written", "code", "says"),
    [
        ("server:\n  port: 1\nversion: 2\n", 2, "gateway.yaml:3: version: the file is of version 2; this gateway"),
        ("version: next\n", 2, "gateway.yaml:1: version: must be a whole number"),
        ("version: [1]\n", 2, "must be a whole number"),
        ("version: 1\nnodeEnv: production\n", 0, "nothing to do"),
        ("server: {port: 1}\n", 0, "nothing to do"),
        ("", 0, "nothing to do"),
        ("server: {port: [\n", 2, "gateway.yaml:2: "),
        ("version: 0\n", 0, "of version 1"),
    ],
)
def test_versions(file: Path, written: str, code: int, says: str) -> None:
    file.write_text(written)
    found, told = run("migrate")
    assert (found, says in told) == (code, True), told
    assert file.read_text() == written


def test_one_from_the_future_is_refused_everywhere(file: Path) -> None:
    file.write_text("version: 9\n")
    with pytest.raises(ConfigError, match="version 9") as refused:
        load(None, {}, file.parent)
    assert "config history" in refused.value.remedy
    assert run("check")[0] == 2 and run("migrate", "--write")[0] == 2


def test_there_is_no_file(file: Path) -> None:
    assert run("migrate")[0] == 2
    code, told = run("migrate", "--config", "other.yaml")
    assert code == 2 and "other.yaml" in told
