"""What is wrong with a cascade is said where it is written, with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_gateway.config.errors import ConfigError
from model_gateway.config.load import load

PROVIDERS = """
providers:
  strong: {base_url: "https://s.example/v1", default_model: big, api_key: k}
  claude: {kind: anthropic, base_url: "https://a.example/v1", default_model: sonnet, api_key: k}
"""


def loaded(folder: Path, cascade: str, name: str = "smart", more: str = "") -> object:
    (folder / "gateway.yaml").write_text(f"{PROVIDERS}\nrouting:\n{more}  cascades:\n    {name}: {cascade}\n")
    return load(None, {}, folder).config.routing.cascades[name]


def test_both_spellings_work(tmp_path: Path) -> None:
    snake = loaded(tmp_path, "{first: local, then: strong/big, check: {min_words: 2, logprob: -0.4}, below: 0.5}")
    camel = loaded(tmp_path, "{first: local, then: strong/big, check: {minWords: 2, logprob: -0.4}, below: 0.5}")
    assert snake == camel


def test_auto_may_cascade(tmp_path: Path) -> None:
    assert loaded(tmp_path, "{first: local, then: remote, above: 0.2, below: 0.5}", "auto")


@pytest.mark.parametrize(
    ("cascade", "name", "more", "told"),
    [
        ("{first: lokal, then: big}", "smart", "", "smart.first: 'lokal' is no tier (local, hybrid, remote)"),
        ("{first: local, then: hybrid}", "smart", "", "smart.then: no provider serves hybrid"),
        ("{first: big, then: big}", "smart", "", "smart.then: is big like `first`"),
        ("{first: local}", "smart", "", "smart.then: is required"),
        ("{first: local, then: big, above: 0.5, below: 0.5}", "smart", "", "above (0.5) must be less than below (0.5)"),
        ("{first: local, then: big}", "auto:fast", "", "is a name of the gateway's own"),
        ("{first: local, then: big}", "smart", "  aliases: {smart: big}\n", "is an alias too"),
        ("{first: claude/sonnet, then: big, check: {logprob: -1}}", "smart", "", "gives no log-probabilities"),
        ("{first: local, then: big, check: {logprob: 0.5}}", "smart", "", "check.logprob: must be at most 0"),
        ("{first: local, then: big, check: {pattern: '('}}", "smart", "", "check.pattern: "),
        ("{first: local, then: big, check: {pattern: 'a*'}}", "smart", "", "it matches every text"),
        ("{first: local, then: big, check: {logprobs: -1}}", "smart", "", "did you mean logprob?"),
        ("{first: local, then: big, check: {format: yaml}}", "smart", "", "check.format: "),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, cascade: str, name: str, more: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, cascade, name, more)
    assert told in str(error.value) and "gateway.yaml:" in str(error.value), str(error.value)
