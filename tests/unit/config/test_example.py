"""The annotated example is complete, fresh, and loads."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from model_gateway.config.environment import VARIABLES
from model_gateway.config.example import example
from model_gateway.config.load import load
from model_gateway.config.options import dotted, options

FILE = Path(__file__).parents[3] / "examples" / "gateway.yaml"

SECRETS = ("cache.redis.url", "ledger.url", "key_secret", "server.admin_token")


def test_every_option_is_described() -> None:
    assert [dotted(option.keys) for option in options() if not option.info.description] == []


def test_the_file_is_fresh() -> None:
    assert FILE.read_text(encoding="utf-8") == example(), "run: model-gateway config example > examples/gateway.yaml"


def test_it_loads_without_a_warning_and_gives_the_defaults(tmp_path: Path) -> None:
    loaded = load(FILE, {}, tmp_path)
    assert loaded.config == load(None, {}, tmp_path).config
    assert loaded.warnings == ()


def test_its_commented_entries_hold_every_option_and_load(tmp_path: Path) -> None:
    text = re.sub(r"^( *)# ((my-provider:|my-name:|-|  +# .*|  +[a-z_]+:.*)$)", r"\1\2", example(), flags=re.MULTILINE)
    (tmp_path / "gateway.yaml").write_text(text, encoding="utf-8")
    loaded = load(None, {"MY_PROVIDER_KEY": "k", "TEAM_A_KEY": "t"}, tmp_path)
    assert loaded.config.providers["my-provider"].default_model == "my-model"
    assert loaded.config.keys[0].name == "team-a"
    written = yaml.safe_load(text)
    for option in options():
        value = written
        for key in option.keys[:-1]:
            value = value[("my-provider" if "my-provider" in value else "my-name") if key == "*" else key]
        assert option.keys[-1] in value or dotted(option.keys) in (
            "cache.redis.url",
            "ledger.url",
            "key_secret",
            "server.admin_token",
            "routing.target_quality",
            "routing.target_cost",
        )


def test_env_example_loads_without_a_warning_and_names_every_variable(tmp_path: Path) -> None:
    text = (FILE.parents[1] / ".env.example").read_text(encoding="utf-8")
    (tmp_path / ".env").write_text(text, encoding="utf-8")
    loaded = load(None, {}, tmp_path)
    assert loaded.config == load(None, {}, tmp_path / "elsewhere").config
    assert loaded.warnings == ()
    assert [name for name in VARIABLES if name != "NODE_ENV" and f"\n{name}=" not in text.replace("\n# ", "\n")] == []
