"""A configuration without its secrets: nothing that is secret stays, everything else does."""

from __future__ import annotations

import pytest
import yaml

from model_gateway.config.errors import ConfigError
from model_gateway.config.masking import masked

KEY = "sk-0123456789abcdef"
TEXT = """\
# by hand
server: {adminToken: tok-0123456789abcdef, httpPort: 81}  # kept
providers:
  p:
    base_url: https://h/v1
    api_key: "sk-0123456789abcdef"   # the key
    api_keys:
      - env:SECOND
      - third-key-of-p
    headers: {X-A: 'a header', X-B: "file:x"}
  q: {apiKey: env:Q_KEY, headers: {}}
cache: {redis: {password: pw, url: redis://u:pw@h}}
ledger:
  url: postgresql://u:pw@h/d
key_secret: >-
  folded
  secret
keys:
- name: team
  key: plain-key-of-team
- {name: other, key: 'sha256:00'}
"""


def test_secrets_go_and_the_rest_stays() -> None:
    text, names = masked(TEXT, "gateway.yaml")
    assert names == [
        "server.admin_token", "providers.p.api_key", "providers.p.api_keys[1]", "providers.p.headers.X-A",
        "cache.redis.password", "cache.redis.url", "ledger.url", "key_secret", "keys[0].key",
    ]  # fmt: skip
    for secret in ("tok-", "sk-", "third", "a header", "pw", "folded", "plain-key"):
        assert secret not in text
    for kept in ("# by hand", "# kept", "# the key", "env:SECOND", "file:x", "env:Q_KEY", "sha256:00", "httpPort: 81"):
        assert kept in text
    values = yaml.safe_load(text)
    assert values["key_secret"] == "***" and values["keys"][0] == {"name": "team", "key": "***"}
    assert values["providers"]["p"]["api_keys"] == ["env:SECOND", "***"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "server: {port: 1}\n", "providers:\n", "keys: []\nservr: 1\n"])
def test_without_secrets_it_stays_as_it_is(text: str) -> None:
    assert masked(text, "gateway.yaml") == (text, [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"# was {KEY}\nproviders: {{p: {{api_key: {KEY}}}}}", r"gateway.yaml:1: the secret of providers.p.api_key"),
        (f"providers: {{p: {{api_key: {KEY}, default_model: {KEY}}}}}", "is written here too"),
        (f"providers: {{p: {{api_key: &k {KEY}}}, q: {{api_key: *k}}}}", "providers.p.api_key cannot be masked"),
    ],
)
def test_a_secret_that_would_stay_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        masked(text, "gateway.yaml")
    assert KEY not in refused.value.message and "--with-secrets" in refused.value.remedy


def test_a_block_keeps_the_lines_after_it() -> None:
    text, names = masked("key_secret: |\n  one\n  two\nenvironment: production\n", "f")
    assert yaml.safe_load(text) == {"key_secret": "***", "environment": "production"} and names == ["key_secret"]
