"""The annotated gateway.yaml, written from the schema: every option, its meaning and its default.

Decides layout only. Never holds an option or a default of its own: a new option appears here by existing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final, Literal, get_args, get_origin

import yaml
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from model_gateway.config.environment import VARIABLES
from model_gateway.config.options import Model, shape_of
from model_gateway.config.schema import GatewayConfig

_WIDTH: Final = 116

_HEAD: Final = f"""\
gateway.yaml: every option of model-gateway with its default. All are optional: keep the lines you change. \
`model-gateway config check` tells what is wrong with the file, `model-gateway config show` what is in effect.

Every option may also be written in camelCase (httpPort for http_port), one spelling per option. The variables \
{", ".join(VARIABLES)}, \
from the environment or from .env, win over this file. A secret may be a reference: env:NAME (a variable) or \
file:PATH (a file's content; relative to this file's folder).
"""

_PROVIDERS: Final = """\
By name. `embedded` (a small model inside the gateway, free) is there without being named: `status: offline` turns it \
off. The vendors of docs/providers.md (openai, anthropic, gemini, deepseek, qwen …) switch themselves on with their \
key in the environment, and are known by name here; options given here replace theirs one by one. The servers ollama, \
vllm, llama.cpp and lmstudio need a model. Any other OpenAI-compatible service needs a base_url and a model.
"""

_KEYS: Final = "When set, every caller needs one of these keys."

# What a commented example shows where the default is empty or missing.
_SAMPLES: Final[dict[str, object]] = {
    "preset": "deepseek",
    "base_url": "https://api.example.com/v1",
    "target_quality": 0.95,
    "target_cost": 0.3,
    "api_key_header": "api-key",
    "api_key": "env:MY_PROVIDER_KEY",
    "default_model": "my-model",
    "tier_models": {"remote": "my-large-model"},
    "supported_models": ["my-model", "my-large-model"],
    "headers": {"X-Team": "research"},
    "base_cost_per_query": 0.02,
    "max_cost_per_query": 0.5,
    "price_per_million_input": 2.0,
    "price_per_million_output": 8.0,
    "price_per_million_cached_input": 0.5,
    "price_per_million_cache_write": 2.5,
    "key_secret": "env:KEY_SECRET",
    "admin_token": "env:ADMIN_TOKEN",
    "RedisConfig.url": "env:REDIS_URL",
    "LedgerConfig.url": "env:DATABASE_URL",
    "CallerKey.name": "team-a",
    "CallerKey.key": "env:TEAM_A_KEY",
    "requests_per_minute": 60,
    "tokens_per_minute": 100_000,
    "max_concurrent": 10,
    "max_queue": 20,
    "budget": 20.0,
    "expires_at": "2099-01-01T00:00:00+00:00",
    "BudgetConfig.name": "a month of everything",
    "BudgetConfig.usd": 100.0,
    "CascadeConfig.first": "local",
    "CascadeConfig.then": "remote",
    "logprob": -0.4,
    "pattern": "/\\byes|no\\b/i",
}


def example() -> str:
    """The text of examples/gateway.yaml. It loads, and gives the defaults."""
    lines = [*_comment(_HEAD, 0)]
    for name, info in GatewayConfig.model_fields.items():
        shape, model = shape_of(info)
        if shape == "section" and model:
            lines += ["", f"{name}:", *_section(model, 2)]
        elif shape == "named sections" and model:
            lines += ["", *_comment(_PROVIDERS, 0), f"{name}:", *_sample("my-provider:", model)]
        elif shape == "listed sections" and model:
            lines += ["", *_comment(_KEYS, 0), f"{name}:", *_sample("-", model)]
        else:
            lines += ["", *_option(name, info, 0)]
    return "\n".join(lines) + "\n"


def _section(model: Model, indent: int, *, sample: bool = False) -> Iterator[str]:
    for name, info in model.model_fields.items():
        shape, inner = shape_of(info)
        if inner and shape in ("listed sections", "named sections"):
            yield from _comment(info.description or "", indent)
            yield f"{' ' * indent}{name}:"
            head = "-" if shape == "listed sections" else "my-name:"
            yield from (" " * indent + line for line in _sample(head, inner))
        elif inner:
            yield f"{' ' * indent}{name}:"
            yield from _section(inner, indent + 2, sample=sample)
        else:
            yield from _option(name, info, indent, model, sample=sample)


def _sample(head: str, model: Model) -> Iterator[str]:
    """A commented entry with every option, so that removing one `# ` from each line makes it real."""
    yield f"  # {head}"
    for line in _section(model, 2, sample=True):
        yield f"  # {line}"


def _option(
    name: str, info: FieldInfo, indent: int, model: Model | None = None, *, sample: bool = False
) -> Iterator[str]:
    """The meaning, then `name: default`; commented out where there is no default to write."""
    allowed = f"{_choices(info)}. " if _choices(info) else ""
    yield from _comment(f"{info.description}{f' {allowed}' if allowed else ''}".rstrip(), indent)
    default: object = info.get_default(call_default_factory=True, validated_data={})
    own = f"{model.__name__}.{name}" if model is not None else name
    key = own if own in _SAMPLES else name
    missing = default is None or default is PydanticUndefined or (sample and key in _SAMPLES)
    value = _SAMPLES[key] if missing else default
    yield f"{' ' * indent}{'# ' if missing and not sample else ''}{name}: {_written(value)}"


def _choices(info: FieldInfo) -> str:
    annotation: object = info.annotation
    if get_origin(annotation) is tuple:
        annotation = get_args(annotation)[0]
    words = get_args(annotation) if get_origin(annotation) is Literal else ()
    return f"One of {', '.join(words)}" if len(words) > 1 else ""


def _written(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        value = list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _comment(text: str, indent: int) -> Iterator[str]:
    for paragraph in text.splitlines():
        for line in textwrap.wrap(paragraph, _WIDTH - indent, break_on_hyphens=False) or [""]:
            yield f"{' ' * indent}# {line}".rstrip()
