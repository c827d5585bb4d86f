"""Secrets by reference, at every place that holds a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_gateway.config.errors import ConfigError
from model_gateway.config.load import Loaded, load

TEXT = """
providers:
  a:
    baseUrl: https://api.example.com/v1
    defaultModel: m
    apiKey: REF
    headers: {X-Team: REF}
cache: {redis: {password: REF, url: REF}}
keys:
  - {name: team, key: REF}
"""


def load_with(folder: Path, reference: str, environ: dict[str, str] | None = None) -> Loaded:
    (folder / "conf").mkdir(exist_ok=True)
    (folder / "conf" / "gateway.yaml").write_text(TEXT.replace("REF", reference))
    return load(Path("conf/gateway.yaml"), environ or {}, folder)


def secrets_of(loaded: Loaded) -> list[str]:
    provider, redis = loaded.config.providers["a"], loaded.config.cache.redis
    assert provider.api_key is not None
    assert redis.url is not None
    found = (provider.api_key, provider.headers["X-Team"], redis.password, redis.url, loaded.config.keys[0].key)
    return [secret.get_secret_value() for secret in found]


def test_a_variable(tmp_path: Path) -> None:
    assert secrets_of(load_with(tmp_path, "env:MY_KEY", {"MY_KEY": "s3cret"})) == ["s3cret"] * 5


def test_a_variable_of_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MY_KEY=from-file\n")
    assert secrets_of(load_with(tmp_path, "env:MY_KEY")) == ["from-file"] * 5
    assert secrets_of(load_with(tmp_path, "env:MY_KEY", {"MY_KEY": "real"})) == ["real"] * 5


@pytest.mark.parametrize("absolute", [False, True])
def test_a_file_beside_the_configuration(tmp_path: Path, absolute: bool) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "key.txt").write_text("s3cret\n")
    reference = f"file:{tmp_path / 'conf' / 'key.txt'}" if absolute else "file:key.txt"
    assert secrets_of(load_with(tmp_path, reference)) == ["s3cret"] * 5


def test_a_variable_may_refer_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text("sk-9")
    openai = load(None, {"OPENAI_API_KEY": "file:key.txt"}, tmp_path).config.providers["openai"]
    assert openai.api_key is not None
    assert openai.api_key.get_secret_value() == "sk-9"


def test_a_plain_secret_stays(tmp_path: Path) -> None:
    assert secrets_of(load_with(tmp_path, "plain-secret")) == ["plain-secret"] * 5


def test_secrets_are_masked_when_shown(tmp_path: Path) -> None:
    loaded = load_with(tmp_path, "env:MY_KEY", {"MY_KEY": "s3cret"})
    assert "s3cret" not in repr(loaded)
    assert "s3cret" not in loaded.config.model_dump_json()


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("env:MISSING", "env:MISSING: the environment variable MISSING is not set"),
        ("env:EMPTY", "env:EMPTY: the environment variable EMPTY is not set"),
        ("file:none.txt", "file:none.txt: FOLDER/none.txt cannot be read: No such file or directory"),
        ("file:empty.txt", "file:empty.txt: FOLDER/empty.txt is empty"),
        ("file:binary", "file:binary: FOLDER/binary cannot be read: not UTF-8 text"),
        ("file:two-lines.txt", "the secret has a line break or another control character inside"),
        ("vault:secret/key", "vault: references are not supported; use env:NAME or file:PATH"),
    ],
)
def test_unreadable_secrets_name_path_and_reference(tmp_path: Path, reference: str, problem: str) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "empty.txt").write_text("\n")
    (folder / "two-lines.txt").write_text("a\nb")
    (folder / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as caught:
        load_with(tmp_path, reference, {"EMPTY": ""})
    lines = caught.value.message.splitlines()
    expected = problem.replace("FOLDER", str(folder))
    assert lines[0].startswith(f"conf/gateway.yaml:6: providers.a.apiKey: {expected}")
    assert [line.split(": ")[1] for line in lines[:5]] == [
        "providers.a.apiKey",
        "providers.a.headers.X-Team",
        "cache.redis.password",
        "cache.redis.url",
        "keys[0].key",
    ]
