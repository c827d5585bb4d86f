"""Rules over several options, which no type can say, and warnings about a configuration that works but may surprise.

Decides on the validated configuration only; reads no file and no environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from model_gateway.config.callers import CallerKey
from model_gateway.config.cascades import cascade_problems, places
from model_gateway.config.certificates import certificate_problems
from model_gateway.config.document import Keys
from model_gateway.config.options import nearest
from model_gateway.config.patterns import compile_pattern
from model_gateway.config.presets import PRESETS, preset_name
from model_gateway.config.schema import GatewayConfig, ProviderConfig

_PROVIDER_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# As in routing/names.py, which this package must not know.
AUTOS: Final = ("auto", "auto:cheap", "auto:fast", "auto:best")
_KEY_HASH: Final = re.compile(r"sha256:[0-9a-fA-F]{64}")
_OWN_HEADERS: Final = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding"}
)

Problem = tuple[Keys, str]


def problems(config: GatewayConfig) -> Iterator[Problem]:
    """What is wrong, as (the option, the reason and the remedy)."""
    yield from _server(config)
    yield from certificate_problems(config)
    yield from _complexity(config)
    yield from _security(config)
    for name, provider in config.providers.items():
        yield from ((("providers", name, *keys), text) for keys, text in _provider(name, provider))
    yield from _keys(config)
    yield from _names(config)
    yield from _cascades(config)
    yield from _budgets(config)


def warnings(config: GatewayConfig, places: Mapping[Keys, object]) -> Iterator[str]:
    """What works but may not be what was meant; `places` knows what somebody wrote."""
    if config.cache.enabled and config.cache.type == "redis":
        yield "cache: this version caches in memory only; Redis counts the callers' limits, and keeps no answers"
    asks_for_keys = config.keys or config.server.require_keys or config.server.tls.client_ca
    if not asks_for_keys and not is_loopback(config.server.host):
        yield (
            f"server.host is {config.server.host} and there are no `keys`: "
            "whoever reaches the ports can spend your providers' money"
        )
    for name, provider in config.providers.items():
        public = provider.kind != "embedded" and provider.base_url and not is_loopback(_host(provider.base_url))
        if public and provider.status == "online" and provider.api_key is None and "local" not in _tiers(provider):
            yield f"providers.{name} has no api_key: calls go out without a credential"
        if public and provider.api_key is not None and str(provider.base_url).startswith("http:"):
            yield f"providers.{name}: its api_key travels unencrypted; use https in base_url"
    openai = config.providers.get("openai")
    if openai is None and ("providers", "openai", "base_url") in places:
        yield "OPENAI_BASE_URL is set, but OPENAI_API_KEY is not: the provider openai stays off"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. A name other than localhost counts as reachable."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _budgets(config: GatewayConfig) -> Iterator[Problem]:
    budgets = config.budgets
    try:
        ZoneInfo(budgets.timezone)
    except (ValueError, KeyError, OSError):
        yield ("budgets", "timezone"), f"{budgets.timezone!r} is no time zone here: write one such as Asia/Shanghai"
    if budgets.limits and not config.ledger.enabled:
        yield ("ledger", "enabled"), "budgets are counted in the ledger: enable it, or remove budgets.limits"
    seen: dict[str, int] = {}
    for index, budget in enumerate(budgets.limits):
        if budget.name in seen:
            yield (
                ("budgets", "limits", index, "name"),
                f"{budget.name!r} is already the name of budgets.limits[{seen[budget.name]}]: give each its own",
            )
        seen[budget.name] = index
        if budget.scope == "gateway" and budget.match:
            yield ("budgets", "limits", index, "match"), "there is only one gateway: remove it, or set another scope"


def _server(config: GatewayConfig) -> Iterator[Problem]:
    server = config.server
    # Whoever reaches the ports and has no certificate does not get in.
    open_to_all = not (config.keys or server.require_keys or server.allow_anonymous or server.tls.client_ca)
    if open_to_all and server.host.strip() and "/" not in server.host and not is_loopback(server.host):
        yield (
            ("server", "host"),
            f"{server.host} is reached from elsewhere, and there are no `keys`: whoever gets there spends your "
            "providers' money. Set keys, or CALLER_KEY; server.require_keys: true and `keys create`; or "
            "server.allow_anonymous: true",
        )
    taken: dict[int, str] = {}
    for option, port in (("port", server.port), ("http_port", server.http_port), ("control_port", server.control_port)):
        if port and port in taken:
            yield (
                ("server", option),
                f"{port} is also server.{taken[port]}; give each its own port, or 0 for a free one",
            )
        taken.setdefault(port, option)
    for option, host in (("host", server.host), ("control_host", server.control_host)):
        if not host.strip() or "/" in host:
            yield ("server", option), "must be an address such as 127.0.0.1 or 0.0.0.0"
    if _sums_to_zero(config.routing.weights):
        yield ("routing", "weights"), "all weights are 0; at least one must be greater"


def _complexity(config: GatewayConfig) -> Iterator[Problem]:
    complexity = config.complexity
    targets = (config.routing.target_quality, config.routing.target_cost)
    if complexity.model == "features" and targets != (None, None):
        yield ("complexity", "model"), "targetQuality and targetCost need a routing model; `shipped` is one"
    low, high = complexity.thresholds.low, complexity.thresholds.high
    if low >= high:
        yield ("complexity", "thresholds"), f"low ({low:g}) must be less than high ({high:g})"
    if not complexity.features:
        yield ("complexity", "features"), "must name at least one feature"
    elif len(set(complexity.features)) < len(complexity.features):
        yield ("complexity", "features"), "names a feature twice"
    elif not any(getattr(complexity.weights, feature) for feature in complexity.features):
        yield ("complexity", "weights"), "the weights of all features in use are 0; at least one must be greater"


def _security(config: GatewayConfig) -> Iterator[Problem]:
    for at, literal in enumerate(config.security.sensitive_patterns):
        try:
            compile_pattern(literal)
        except ValueError as error:
            yield ("security", "sensitive_patterns", at), str(error)


def _provider(name: str, provider: ProviderConfig) -> Iterator[Problem]:
    if provider.preset and not preset_name(name, {"preset": provider.preset}):
        meant = nearest(provider.preset, [*PRESETS])
        hint = f"did you mean {meant}?" if meant else f"there are {', '.join(PRESETS)}"
        yield ("preset",), f"{provider.preset!r} is not a preset; {hint}"
    if provider.embedding_models and provider.kind != "openai":
        yield ("embedding_models",), "only providers of kind openai answer /v1/embeddings here"
    if provider.api_key_header is not None and not _HEADER_NAME.fullmatch(provider.api_key_header):
        yield ("api_key_header",), "is not a valid HTTP header name"
    if not _PROVIDER_NAME.fullmatch(name):
        yield (), "a provider's name has 1 to 64 letters, digits, '_', '-' or '.'"
    if provider.kind != "embedded":
        yield from _base_url(provider.base_url)
    tiers = _tiers(provider)
    if not tiers and not provider.supported_models and not provider.default_model and not provider.embedding_models:
        yield ("supported_model_types",), "must name at least one tier: local, hybrid, remote"
    has_chat = provider.default_model or provider.supported_models or provider.tier_models
    if not has_chat and not (provider.embedding_models and not tiers):
        yield (), "needs a model: set default_model, supported_models or tier_models"
    for tier in provider.tier_models:
        if tier not in tiers:
            yield ("tier_models", tier), f"supported_model_types does not name {tier}; add it there"
    if provider.tier_models and not provider.default_model and not provider.supported_models:
        for tier in tiers:
            if tier not in provider.tier_models:
                yield ("tier_models",), f"no model for tier {tier}; add it, or set default_model"
    for option, model in (
        ("default_model", provider.default_model),
        *(("tier_models", m) for m in provider.tier_models.values()),
    ):
        if model is not None and not model.strip():
            yield (option,), "must not be empty"
    for header in provider.headers:
        if not _HEADER_NAME.fullmatch(header):
            yield ("headers", header), "is not a valid HTTP header name"
        elif header.lower() in _OWN_HEADERS:
            yield ("headers", header), "is set by the gateway itself; remove it"


def _base_url(url: str | None) -> Iterator[Problem]:
    example = "for example https://api.openai.com/v1"
    if not url:
        yield ("base_url",), f"is required; {example}"
        return
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        yield ("base_url",), f"must be a web address, {example}"
        return
    if not valid or any(letter.isspace() for letter in url):
        yield ("base_url",), f"must begin with http:// or https:// and a host, {example}"
    elif parts.username or parts.password:
        yield ("base_url",), "must not hold a user name or password: use api_key or headers"
    elif parts.query or parts.fragment:
        yield ("base_url",), "must not hold a query or fragment: use headers"


def _names(config: GatewayConfig) -> Iterator[Problem]:
    """Aliases, canary and shadow must lead to models that somebody offers."""
    offered = {name for provider, options in config.providers.items() for name in _offered(provider, options)}
    routing = config.routing
    for alias, written in routing.aliases.items():
        models = [written] if isinstance(written, str) else [*written]
        keys = ("routing", "aliases", alias)
        if not models:
            yield keys, "must name at least one model"
        if not isinstance(written, str) and (min(written.values(), default=1) < 0 or not any(written.values())):
            yield keys, "weights must not be negative, and at least one must be greater than 0"
        if alias in AUTOS:
            yield keys, "is a name of the gateway's own; choose another"
        for model in models:
            if model in AUTOS:
                if len(models) > 1:
                    yield keys, f"{model} cannot be one of several: it chooses by itself"
            elif model not in offered:
                yield keys, f"no provider offers {model!r}{_or_nearest(model, offered)}"
    for option, model in (("canary", routing.canary.model), ("shadow", routing.shadow.model)):
        if model and model not in offered:
            yield ("routing", option, "model"), f"no provider offers {model!r}{_or_nearest(model, offered)}"


def _cascades(config: GatewayConfig) -> Iterator[Problem]:
    if not config.routing.cascades:
        return
    taken = dict.fromkeys(AUTOS[1:], "is a name of the gateway's own; choose another, or auto itself")
    taken |= dict.fromkeys(config.routing.aliases, "is an alias too; choose another name")
    yield from cascade_problems(config.routing.cascades, taken, _kinds(config))


def _kinds(config: GatewayConfig) -> Mapping[str, frozenset[str]]:
    """By every place that a cascade may name, tier or model: of which kinds its providers are."""
    found: dict[str, set[str]] = {}
    for provider, options in config.providers.items():
        for place in (*_tiers(options), *_offered(provider, options)):
            found.setdefault(place, set()).add(options.kind)
    return {place: frozenset(kinds) for place, kinds in found.items()}


def _or_nearest(model: str, offered: set[str]) -> str:
    meant = nearest(model, sorted(offered))
    return f"; did you mean {meant}?" if meant else ""


def _offered(provider: str, options: ProviderConfig, *, embeddings: bool = False) -> Iterator[str]:
    default = (options.default_model,) if options.default_model else ()
    embedding = options.embedding_models if embeddings else ()
    for model in (*default, *options.tier_models.values(), *options.supported_models, *embedding):
        yield model
        yield f"{provider}/{model}"


def _keys(config: GatewayConfig) -> Iterator[Problem]:
    named: set[str] = set()
    holders: dict[str, str] = {}
    for at, key in enumerate(config.keys):
        if key.name in named:
            yield ("keys", at, "name"), f"{key.name!r} is the name of another key too"
        named.add(key.name)
        secret = key.key.get_secret_value()
        if not secret:
            if not key.certificate:
                yield (
                    ("keys", at, "key"),
                    "must not be empty; or set certificate, for callers who have a client's",
                )
        elif secret.startswith("sha256:") and not _KEY_HASH.fullmatch(secret):
            yield ("keys", at, "key"), "sha256: must be followed by 64 hexadecimal digits"
        elif holders.setdefault(secret, key.name) != key.name:
            yield ("keys", at, "key"), f"is the same key as {holders[secret]!r}"
        yield from ((("keys", at, *keys), text) for keys, text in _scope(key, config))


def _scope(key: CallerKey, config: GatewayConfig) -> Iterator[Problem]:
    """A key must be able to reach something: a pattern that leads nowhere would refuse without a word."""
    offered: dict[str, set[str]] = {}  # by every name that a model has: its providers
    for provider, options in config.providers.items():
        for name in _offered(provider, options, embeddings=True):
            offered.setdefault(name, set()).add(provider)
    for alias, written in config.routing.aliases.items():
        models = [written] if isinstance(written, str) else [*written]
        offered[alias] = {provider for model in models for provider in offered.get(model, ())}
    for name, steps in places(config.routing.cascades).items():
        if name not in AUTOS:
            offered[name] = {p for p, o in config.providers.items() if {*_tiers(o), *_offered(p, o)} & {*steps}}
    reached: set[str] = set() if key.models else {*config.providers}
    for at, pattern in enumerate(key.models):
        found = {provider for name, having in offered.items() if fnmatchcase(name, pattern) for provider in having}
        reached |= found
        if pattern in AUTOS:
            yield ("models", at), f"every key may ask for {pattern}; name the models that may answer it"
        elif not found:
            yield ("models", at), f"matches no model, provider/model or alias{_or_nearest(pattern, {*offered})}"
    served = {tier for provider in config.providers.values() for tier in _tiers(provider)}
    for at, tier in enumerate(key.tiers):
        if tier not in served:
            yield ("tiers", at), f"no provider serves {tier}; supported_model_types says who serves what"
    wanted = {*key.tiers} & served
    if wanted and reached and not any(wanted & {*_tiers(config.providers[name])} for name in reached):
        yield ("tiers",), "none of the key's models is of these tiers; add a tier, or a model"


def _tiers(provider: ProviderConfig) -> tuple[str, ...]:
    return provider.supported_model_types


def _sums_to_zero(weights: BaseModel) -> bool:
    return not any(value for _, value in weights)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
