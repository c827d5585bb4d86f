"""Every kind of mistake: one line that names the place as written, what is wrong, and the nearest valid option."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_gateway.config.errors import ConfigError
from model_gateway.config.load import load

PROVIDER = "base_url: http://127.0.0.1:1/v1, default_model: m"


def problems_of(folder: Path, text: str) -> list[str]:
    (folder / "gateway.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(None, {}, folder)
    assert caught.value.remedy
    return caught.value.message.splitlines()


MISTAKES = [
    # --- names ---
    ("server: {prot: 1}", "server.prot: unknown option; did you mean port?"),
    ("server: {httpprot: 1}", "server.httpprot: unknown option; did you mean httpPort?"),
    ("port: 1", "port: unknown option; did you mean server.port?"),
    ("keepaliveTime: 1", "keepaliveTime: unknown option; did you mean server.grpc.keepalive_time?"),
    ("servr: {}", "servr: unknown option; did you mean server?"),
    (
        "server: {host: 0.0.0.0}",
        "server.host: 0.0.0.0 is reached from elsewhere, and there are no `keys`: whoever gets there spends your "
        "providers' money. Set keys, or CALLER_KEY; server.require_keys: true and `keys create`; or "
        "server.allow_anonymous: true",
    ),
    ("budgets: {timezone: Mars}", "budgets.timezone: 'Mars' is no time zone here: write one such as Asia/Shanghai"),
    (
        "budgets: {limits: [{name: a, usd: 1, match: x}]}",
        "budgets.limits[0].match: there is only one gateway: remove it, or set another scope",
    ),
    (
        "budgets: {limits: [{name: a, usd: 1}, {name: a, usd: 2}]}",
        "budgets.limits[1].name: 'a' is already the name of budgets.limits[0]: give each its own",
    ),
    (
        "ledger: {enabled: false}\nbudgets: {limits: [{name: a, usd: 1}]}",
        "ledger.enabled: budgets are counted in the ledger: enable it, or remove budgets.limits",
    ),
    (
        "ledger: {zzz: 1}",
        "ledger.zzz: unknown option; options here: enabled, path, url, when_unavailable, flush_interval",
    ),
    (
        "server: {http_port: 1, httpPort: 1}",
        "server.httpPort: the same option as http_port, which is there too; keep one of them",
    ),
    ("complexity: {thresholds: {Low: 0.2}}", "complexity.thresholds.Low: unknown option; did you mean low?"),
    ("1: 2", "1: unknown option; options here: version, environment, server"),
    # --- types and limits ---
    ("version: 2", "version: the file is of version 2; this gateway"),
    ("version: one", "version: must be a whole number"),
    ("server: 5", "server: must be a section of options"),
    ("server: {httpPort: abc}", "server.httpPort: must be a whole number, not 'abc'"),
    ("server: {port: 1.5}", "server.port: must be a whole number, not 1.5"),
    ("server: {port: null}", "server.port: must be a whole number, not None"),
    ("server: {timeout: 0}", "server.timeout: must be greater than 0, not 0"),
    ("server: {timeout: yes}", "server.timeout: must not be true or false"),
    ("server: {host: 1}", "server.host: must be text; quote it, not 1"),
    ("cache: {enabled: maybe}", "cache.enabled: must be true or false, not 'maybe'"),
    ("cache: {type: reddis}", "cache.type: must be 'memory' or 'redis', not 'reddis'; did you mean redis?"),
    ("logging: {file: {maxSize: 10 MB}}", "logging.file.maxSize: must look like ^\\d+[kKmMgG]?$, not '10 MB'"),
    ("routing: {weights: {load: .inf}}", "routing.weights.load: must be a finite number, not inf"),
    ("routing: {weights: {load: .nan}}", "routing.weights.load: must be a finite number, not nan"),
    ("routing: {weights: {load: x}}", "routing.weights.load: must be a number, not 'x'"),
    ("providers: [a]", "providers: must be a mapping, name: value"),
    ("providers: {a: 1}", "providers.a: must be a section of options"),
    ("security: {sensitivePatterns: abc}", "security.sensitivePatterns: must be a list"),
    ("keys: [{key: abc}]", "keys[0].name: is required"),
    ("keys: [{name: '', key: abc}]", "keys[0].name: must not be empty, not ''"),
    ("complexity: {features: [lenght]}", "complexity.features[0]: must be 'length', 'vocabulary_diversity', "),
    (f"providers: {{a: {{{PROVIDER}, costEfficiency: 2}}}}", "providers.a.costEfficiency: must be at most 1, not 2"),
    (f"providers: {{a: {{{PROVIDER}, retryCount: 99}}}}", "providers.a.retryCount: must be at most 10, not 99"),
    (
        f"providers: {{a: {{{PROVIDER}, kind: opanai}}}}",
        "providers.a.kind: must be 'openai', 'responses', 'anthropic', 'gemini' or 'embedded', not",
    ),
    (
        f"providers: {{a: {{{PROVIDER}, tierModels: {{hybird: x}}}}}}",
        "providers.a.tierModels.hybird: must be 'local', ",
    ),
    # --- rules over several options ---
    ("server: {port: 8080}", "server.http_port: 8080 is also server.port; give each its own port, or 0"),
    ("server: {controlPort: 50051}", "server.controlPort: 50051 is also server.port; give each its own port"),
    ("complexity: {thresholds: {low: 0.8}}", "complexity.thresholds: low (0.8) must be less than high (0.7)"),
    ("complexity: {thresholds: {low: 0.7}}", "complexity.thresholds: low (0.7) must be less than high (0.7)"),
    ("complexity: {features: []}", "complexity.features: must name at least one feature"),
    ("complexity: {features: [length, length]}", "complexity.features: names a feature twice"),
    (
        "complexity: {features: [length], weights: {length: 0}}",
        "complexity.weights: the weights of all features in use are 0; at least one must be greater",
    ),
    (
        "routing: {weights: {load: 0, cost: 0, success: 0, speed: 0}}",
        "routing.weights: all weights are 0; at least one must be greater",
    ),
    ("security: {sensitivePatterns: [ok, '(']}", "security.sensitivePatterns[1]: missing ): ( (RE2 syntax"),
    ("security: {sensitivePatterns: ['/a/x']}", "security.sensitivePatterns[0]: unknown flags 'x' after the last /"),
    ("providers: {a: {default_model: m}}", "providers.a.base_url: is required; for example https://"),
    ("providers: {a: {baseUrl: http://127.0.0.1/v1}}", "providers.a: needs a model: set default_model, "),
    ("providers: {a: {kind: embedded}}", "providers.a: needs a model: set default_model, supported_models or"),
    ("providers: {a: {baseUrl: api.x.com, defaultModel: m}}", "providers.a.baseUrl: must begin with http://"),
    ("providers: {a: {baseUrl: 'http://[x', defaultModel: m}}", "providers.a.baseUrl: must be a web address"),
    ("providers: {a: {baseUrl: 'http://h:99999', defaultModel: m}}", "providers.a.baseUrl: must be a web address"),
    ("providers: {a: {baseUrl: 'http://u:p@h', defaultModel: m}}", "providers.a.baseUrl: must not hold a user name"),
    ("providers: {a: {baseUrl: 'http://h?key=1', defaultModel: m}}", "providers.a.baseUrl: must not hold a query"),
    (f"providers: {{'a b': {{{PROVIDER}}}}}", "providers.a b: a provider's name has 1 to 64 letters, digits"),
    (f"providers: {{{'x' * 65}: {{{PROVIDER}}}}}", f"providers.{'x' * 65}: a provider's name has 1 to 64 letters"),
    (
        f"providers: {{a: {{{PROVIDER}, tierModels: {{hybrid: x}}}}}}",
        "providers.a.tierModels.hybrid: supported_model_types does not name hybrid; add it there",
    ),
    (
        "providers: {a: {baseUrl: http://h, supportedModelTypes: [hybrid, remote], tierModels: {remote: m}}}",
        "providers.a.tierModels: no model for tier hybrid; add it, or set default_model",
    ),
    (f"providers: {{a: {{{PROVIDER}, headers: {{'a b': c}}}}}}", "providers.a.headers.a b: is not a valid HTTP header"),
    (f"providers: {{a: {{{PROVIDER}, headers: {{Host: c}}}}}}", "providers.a.headers.Host: is set by the gateway"),
    ("keys: [{name: a, key: x}, {name: a, key: y}]", "keys[1].name: 'a' is the name of another key too"),
    ("keys: [{name: a, key: x}, {name: b, key: x}]", "keys[1].key: is the same key as 'a'"),
    ("keys: [{name: a, key: ''}]", "keys[0].key: must not be empty"),
    (
        "keys: [{name: a, key: x, expires_at: 2027-01-31T00:00:00}]",
        "keys[0].expires_at: must have a zone, such as Z or +02:00 at its end",
    ),
    (
        "keys: [{name: a, key: x, expires_at: 1900000000}]",
        "keys[0].expires_at: must be a date and time with a zone, such as 2027-01-31T00:00:00Z, not 1900000000",
    ),
    (
        "keys: [{name: a, key: x, expires_at: soon}]",
        "keys[0].expires_at: must be a date and time with a zone, such as 2027-01-31T00:00:00Z, not 'soon'",
    ),
    ("keys: [{name: a, key: x, requests_per_minute: -1}]", "keys[0].requests_per_minute: must be at least 0, not -1"),
    ("limits: {max_concurrent: many}", "limits.max_concurrent: must be a whole number, not 'many'"),
    ("keys: [{name: a, key: x, doors: [ftp]}]", "keys[0].doors[0]: must be 'http', 'responses', 'anthropic'"),
    ("keys: [{name: a, key: x, tiers: [remote]}]", "keys[0].tiers[0]: no provider serves remote"),
    ("keys: [{name: a, key: x, models: ['gpt-*']}]", "keys[0].models[0]: matches no model, provider/model or alias"),
    (
        "keys: [{name: a, key: x, models: [smollm2-135m-instrukt]}]",
        "keys[0].models[0]: matches no model, provider/model or alias; did you mean smollm2-135m-instruct?",
    ),
    ("keys: [{name: a, key: x, models: [auto]}]", "keys[0].models[0]: every key may ask for auto; name the models"),
    (
        "keys: [{name: a, key: x, models: [m], tiers: [local]}]\n"
        "providers: {p: {base_url: 'http://localhost/v1', default_model: m}}",
        "keys[0].tiers: none of the key's models is of these tiers",
    ),
    ("keys: [{name: a, key: 'sha256:12'}]", "keys[0].key: sha256: must be followed by 64 hexadecimal digits"),
]


@pytest.mark.parametrize(("text", "problem"), MISTAKES, ids=[problem[:60] for _, problem in MISTAKES])
def test_mistake(tmp_path: Path, text: str, problem: str) -> None:
    problems = problems_of(tmp_path, text)
    place, _, rest = problems[0].partition(": ")
    assert place in ("gateway.yaml:1", "server.http_port")
    assert (rest if place == "gateway.yaml:1" else problems[0]).startswith(problem)
    assert len(problems) == 1


def test_all_mistakes_are_listed_each_with_its_line(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, "server:\n  prot: 1\n  httpPort: x\ncache:\n  ttl: -1\nkeys:\n  - key: a\n")
    assert [problem.partition(": ")[0] for problem in problems] == [
        "gateway.yaml:2",
        "gateway.yaml:3",
        "gateway.yaml:5",
        "gateway.yaml:7",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "providers: {a: {base_url: http://h, default_model: m, api_key: 987654}}",
        "providers: {a: {base_url: http://h, default_model: m, headers: {x: 987654}}}",
        "keys: [{name: a, key: [987654]}]",
        "cache: {redis: {password: 987654}}",
        "apiKey: 987654",
    ],
)
def test_a_secret_is_never_repeated(tmp_path: Path, text: str) -> None:
    assert "987654" not in "".join(problems_of(tmp_path, text))


def test_a_long_value_is_shortened(tmp_path: Path) -> None:
    assert len(problems_of(tmp_path, f"server: {{port: {'x' * 10_000}}}")[0]) < 120
