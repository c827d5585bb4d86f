"""The order of the sources, and what each may say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from model_gateway.config.errors import ConfigError
from model_gateway.config.load import Loaded, load


def load_text(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    (folder / "gateway.yaml").write_text(text, encoding="utf-8")
    return load(None, environ or {}, folder)


def test_nothing_at_all_is_a_valid_start(tmp_path: Path) -> None:
    loaded = load(None, {}, tmp_path)
    assert loaded.path is None
    assert loaded.warnings == ()
    assert list(loaded.config.providers) == ["embedded"]
    assert loaded.config.server.port == 50051


@pytest.mark.parametrize("text", ["", "# nothing\n", "server:\nproviders:\nkeys:\nsecurity:\n", "---\n"])
def test_empty_file_and_empty_sections_are_defaults(tmp_path: Path, text: str) -> None:
    loaded = load_text(tmp_path, text)
    assert loaded.config == load(None, {}, tmp_path / "elsewhere").config
    assert loaded.path == tmp_path / "gateway.yaml"


def test_each_source_wins_over_the_one_before(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HTTP_PORT=3002\nCONTROL_PORT=3003\n")
    loaded = load_text(
        tmp_path, "server: {port: 2001, http_port: 2002, control_port: 2003}", {"CONTROL_PORT": "4003", "HOST": "::1"}
    )
    server = loaded.config.server
    assert (server.port, server.http_port, server.control_port, server.host) == (2001, 3002, 4003, "::1")
    assert loaded.sources["server.port"] == "gateway.yaml:1"
    assert loaded.sources["server.http_port"] == "HTTP_PORT (.env)"
    assert loaded.sources["server.control_port"] == "CONTROL_PORT (environment)"
    assert loaded.sources["providers.embedded.default_model"] == "preset"
    assert "server.timeout" not in loaded.sources


@pytest.mark.parametrize(
    ("variable", "value", "path", "expected"),
    [
        ("PORT", "6001", "server.port", 6001),
        ("HTTP_PORT", "6002", "server.http_port", 6002),
        ("CONTROL_PORT", "0", "server.control_port", 0),
        ("HOST", "::1", "server.host", "::1"),
        ("GATEWAY_ENV", "production", "environment", "production"),
        ("NODE_ENV", "production", "environment", "production"),
        ("LOG_LEVEL", "WARN", "logging.level", "warn"),
        ("REDIS_URL", "redis://:pw@localhost:6379", "cache.redis.url", "redis://:pw@localhost:6379"),
        ("OPENAI_API_KEY", "sk-1", "providers.openai.api_key", "sk-1"),
        ("ANTHROPIC_API_KEY", "sk-2", "providers.anthropic.api_key", "sk-2"),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_variables(tmp_path: Path, variable: str, value: str, path: str, expected: object, in_file: bool) -> None:
    if in_file:
        (tmp_path / ".env").write_text(f"# a comment\nexport {variable}='{value}'\n")
    loaded = load(None, {} if in_file else {variable: value}, tmp_path)
    found: Any = loaded.config
    for name in path.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    assert (found.get_secret_value() if isinstance(found, SecretStr) else found) == expected
    assert loaded.sources[path] == f"{variable} ({'.env' if in_file else 'environment'})"


def test_canonical_environment_name_wins_over_its_alias(tmp_path: Path) -> None:
    assert load(None, {"NODE_ENV": "a", "GATEWAY_ENV": "b"}, tmp_path).config.environment == "b"


def test_real_environment_wins_over_env_file_even_when_empty(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-1\nPORT=\n")
    loaded = load(None, {"OPENAI_API_KEY": ""}, tmp_path)
    assert "openai" not in loaded.config.providers
    assert loaded.config.server.port == 50051


def test_given_path_is_read_instead_of_the_default(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("server: {port: 1}")
    (tmp_path / "other.yaml").write_text("\ufeffserver: {port: 2}", encoding="utf-8")
    assert load(Path("other.yaml"), {}, tmp_path).config.server.port == 2


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("PORT", "abc", "PORT (environment): must be a whole number, not 'abc'"),
        ("HTTP_PORT", "70000", "HTTP_PORT (environment): must be at most 65535, not '70000'"),
        ("CONTROL_PORT", "-1", "CONTROL_PORT (environment): must be at least 0, not '-1'"),
        (
            "LOG_LEVEL",
            "infos",
            "LOG_LEVEL (environment): must be 'debug', 'info', 'warn', 'warning' or 'error', not 'infos'; "
            "did you mean info?",
        ),
        ("HOST", "http://x", "HOST (environment): must be an address such as 127.0.0.1 or 0.0.0.0"),
    ],
)
def test_malformed_variable_is_named(tmp_path: Path, variable: str, value: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {variable: value}, tmp_path)
    assert caught.value.message == problem
    assert caught.value.exit_code == 2


def test_malformed_env_file_line_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1\nthis is not a variable\n")
    with pytest.raises(ConfigError, match=r"^\.env:2: not a NAME=value line$"):
        load(None, {}, tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server: {port: 1}\nserver: {port: 2}", "gateway.yaml:2: 'server' is here a second time (first on line 1)"),
        ("server:\n  port: 1\n  port: 1", "gateway.yaml:3: 'port' is here a second time (first on line 2)"),
        ("- a\n- b", "gateway.yaml: must hold sections such as `server:` and `providers:`"),
        ("server: [", "gateway.yaml:1: "),
        ("server: *x", "gateway.yaml:1: found undefined alias 'x'"),
        ("server: !!python/object:os.system {}", "gateway.yaml:1: could not determine a constructor"),
        ("a: 1\n---\nb: 2", "gateway.yaml:2: but found another document"),
        ("server: {port: 1\x00}", "gateway.yaml: not valid YAML: "),
    ],
)
def test_broken_yaml_is_one_line_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text)
    assert caught.value.message.startswith(problem)
    assert "\n" not in caught.value.message


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"environment: caf\xe9")
    (tmp_path / "folder.yaml").mkdir()
    for name, problem in (
        ("none.yaml", "none.yaml: no such file"),
        ("latin.yaml", "latin.yaml: not UTF-8 text (byte 16)"),
        ("folder.yaml", "folder.yaml: cannot be read: Is a directory"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(Path(name), {}, tmp_path)
        assert caught.value.message == problem
        assert caught.value.remedy


def test_aliases_and_merge_keys_work(tmp_path: Path) -> None:
    text = """
providers:
  a: &shared {base_url: "http://127.0.0.1:1/v1", default_model: m, retry_count: 0}
  b: {<<: *shared, retry_count: 3}
  c: *shared
"""
    providers = load_text(tmp_path, text).config.providers
    assert [providers[name].retry_count for name in "abc"] == [0, 3, 0]


def test_an_alias_to_itself_ends(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"headers\.x: must be text"):
        load_text(tmp_path, "providers: {a: {base_url: http://x/v1, default_model: m, headers: &h {x: *h}}}")


def test_a_callers_key_is_one_more_of_the_list(tmp_path: Path) -> None:
    assert [key.name for key in load(None, {"CALLER_KEY": "k"}, tmp_path).config.keys] == ["default"]
    keys = load_text(tmp_path, "keys: [{name: team, key: t}]", {"CALLER_KEY": "k"}).config.keys
    assert [(key.name, key.key.get_secret_value()) for key in keys] == [("team", "t"), ("default", "k")]
    (tmp_path / "secret").write_text("from a file\n")
    keys = load_text(tmp_path, "keys:\n", {"CALLER_KEY": "file:secret"}).config.keys
    assert keys[0].key.get_secret_value() == "from a file"
    with pytest.raises(ConfigError, match="'default' is the name of another key"):
        load_text(tmp_path, "keys: [{name: default, key: t}]", {"CALLER_KEY": "k"})
    with pytest.raises(ConfigError, match="keys"):
        load_text(tmp_path, "keys: nothing", {"CALLER_KEY": "k"})


EVERYWHERE = "0.0.0.0"  # noqa: S104 (nothing listens here)


def test_an_open_host_wants_keys_or_somebody_who_says_that_it_does_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"HOST \(environment\): 0.0.0.0 is reached from elsewhere.*CALLER_KEY"):
        load(None, {"HOST": EVERYWHERE}, tmp_path)
    assert load(None, {"HOST": EVERYWHERE, "REQUIRE_KEYS": "true"}, tmp_path).warnings == ()
    assert load(None, {"HOST": EVERYWHERE, "CALLER_KEY": "k"}, tmp_path).warnings == ()
    loaded = load(None, {"HOST": EVERYWHERE, "ALLOW_ANONYMOUS": "true"}, tmp_path)
    assert "whoever reaches the ports can spend" in loaded.warnings[0]
