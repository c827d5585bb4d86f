"""Every option of the gateway, its type, default, unit and meaning. Decides nothing and reads no file.

All models are frozen. Each option is accepted under its snake_case name and its camelCase alias; an unknown option is
an error (config/load.py turns it into one line). Times of the guide's options stay in milliseconds under both
spellings; where another unit is used the field says so.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from model_gateway.config.callers import CallerKey, LimitsConfig
from model_gateway.config.cascades import CascadeConfig
from model_gateway.config.complexity import ComplexityConfig
from model_gateway.config.redis import RedisConfig
from model_gateway.config.section import Millis, Period, Port, Ratio, Section, TierName, Workers
from model_gateway.config.session import SessionConfig
from model_gateway.config.tls import DoorTls, TlsFiles
from model_gateway.config.trials import CanaryConfig, SamplesConfig, ShadowConfig


class GrpcOptions(Section):
    keepalive_time: Millis = Field(default=10_000, description="Milliseconds between keepalive pings.")
    keepalive_timeout: Millis = Field(default=5_000, description="Milliseconds to wait for a ping's answer.")
    max_connection_age: int = Field(
        default=60_000, ge=0, description="Milliseconds after which a client is asked to connect anew. 0: never."
    )
    max_connection_age_grace: int = Field(
        default=0, ge=0, description="Milliseconds that calls under way then have to end. 0: as long as they take."
    )
    max_receive_message_length: int = Field(default=10 * 1024 * 1024, gt=0, description="Bytes of one request.")
    max_send_message_length: int = Field(default=10 * 1024 * 1024, gt=0, description="Bytes of one reply.")
    reflection: bool = Field(default=True, description="Serve gRPC reflection.")


class ServerConfig(Section):
    host: str = Field(default="127.0.0.1", description="Address of both doors. 0.0.0.0 listens on every interface.")
    allow_anonymous: bool = Field(
        default=False, description="Listen on other addresses than this machine's own without any `keys`."
    )
    require_keys: bool = Field(
        default=False, description="Every caller needs a key, even while there is none: those of `keys create` count."
    )
    port: Port = Field(default=50051, description="gRPC port. 0 picks a free one.")
    http_port: Port = Field(default=8080, description="HTTP port (OpenAI-compatible). 0 picks a free one.")
    control_host: str = Field(default="127.0.0.1", description="Address of the control plane.")
    admin_token: SecretStr | None = Field(
        default=None,
        description="Lets its bearer use the admin API; by default what is in admin.token beside the ledger.",
    )
    control_port: Port = Field(default=9090, description="Control plane: metrics, health, admin. 0 picks a free one.")
    timeout: Millis = Field(default=600_000, description="Milliseconds one request may take in all, retries included.")
    header_timeout: Millis = Field(default=10_000, description="Milliseconds a client may take to send its headers.")
    body_timeout: Millis = Field(default=30_000, description="Milliseconds a client may take to send its body.")
    idle_timeout: Millis = Field(default=75_000, description="Milliseconds an idle keep-alive connection stays open.")
    max_header_size: int = Field(default=32 * 1024, gt=0, description="Bytes of request line and headers.")
    max_body_size: int = Field(default=10 * 1024 * 1024, gt=0, description="Bytes of a request body.")
    max_connections: int = Field(default=10_000, gt=0, description="Open HTTP connections; more are refused with 503.")
    max_in_flight: int = Field(
        default=0, ge=0, description="Requests in the gateway at once, over all doors; more get 503. 0: no limit."
    )
    workers: Workers = Field(
        default=1, description="Processes that serve. max (or 0): one for each core this process may use."
    )
    reload_on_change: bool = Field(
        default=True, description="Take up a changed gateway.yaml, .env or secret file at once; a wrong one is refused."
    )
    shutdown_grace: Millis = Field(
        default=30_000, description="Milliseconds in-flight requests have to finish at shutdown."
    )
    grpc: GrpcOptions = GrpcOptions()
    tls: DoorTls = DoorTls()
    control_tls: TlsFiles = TlsFiles()


class RoutingWeights(Section):
    """How much each quality counts when targets of one tier are compared. Only the ratios matter."""

    load: float = Field(default=0.3, ge=0, description="Free room: fewer queries in flight is better.")
    cost: float = Field(default=0.3, ge=0, description="costEfficiency of the provider.")
    success: float = Field(default=0.25, ge=0, description="Share of recent calls that succeeded.")
    speed: float = Field(default=0.15, ge=0, description="Recent latency: lower is better.")


class HedgeConfig(Section):
    """Ask a second target when the first is slower than usual; the faster answer is used."""

    enabled: bool = Field(default=False, description="Both calls may cost money.")
    percentile: float = Field(
        default=95.0,
        gt=0,
        lt=100,
        description="The first target's time to its first token at which the second is asked.",
    )
    min_delay: Millis = Field(default=50, description="Milliseconds; never earlier than this.")


class RetryBudgetConfig(Section):
    """What retries and hedges of all requests together may add: they must not multiply a provider's trouble."""

    ratio: Ratio = Field(default=0.2, description="Retries per request, on average.")
    min_per_second: float = Field(default=1.0, ge=0, description="Retries that are always allowed.")


class RoutingConfig(Section):
    weights: RoutingWeights = RoutingWeights()
    fallback: bool = Field(
        default=True, description="Try another target when one fails: same tier, then cheaper tiers."
    )
    default_max_tokens: int = Field(
        default=512, gt=0, description="Output tokens assumed by an estimate when none are asked."
    )
    target_quality: Ratio | None = Field(
        default=None,
        description="Share of the strong tier's advantage to keep, 0–1: the routing model's curve then chooses the "
        "tier, in place of the thresholds.",
    )
    target_cost: Ratio | None = Field(
        default=None,
        description="Share of queries that may go to the strong tier, 0–1; beside targetQuality its limit.",
    )
    aliases: dict[str, str | dict[str, float]] = Field(
        default_factory=dict[str, str | dict[str, float]],
        description="Names of your own for models: `smart: openai/gpt-4.1`, or several with their weights.",
    )
    cascades: dict[str, CascadeConfig] = Field(
        default_factory=dict[str, CascadeConfig],
        description="By a name of your own, which callers ask for as `model`, or `auto`: a weaker model is asked first "
        "and its answer checked; a stronger one is asked where it fails (docs/routing.md).",
    )
    session: SessionConfig = SessionConfig()
    canary: CanaryConfig = CanaryConfig()
    shadow: ShadowConfig = ShadowConfig()
    shadow_model: str = Field(
        default="",
        description="File of a routing model that judges `auto` requests too, only to be compared (docs/learning.md).",
    )
    samples: SamplesConfig = SamplesConfig()
    hedge: HedgeConfig = HedgeConfig()
    retry_budget: RetryBudgetConfig = RetryBudgetConfig()


class BreakerConfig(Section):
    """When a target is left alone for a while. One per model of a provider."""

    enabled: bool = Field(default=True, description="Stop asking a target that keeps failing.")
    failures: int = Field(default=5, gt=0, description="Failures in a row that open the breaker.")
    failure_rate: Ratio = Field(
        default=0.5, description="Share of failures among the last `window` calls that opens it as well."
    )
    window: int = Field(default=20, gt=0, le=1000, description="Calls that failureRate looks at.")
    cooldown: Millis = Field(
        default=5_000, description="Milliseconds until one call tries again; doubles while that fails, up to 12 times."
    )


class ProviderConfig(Section):
    preset: str = Field(
        default="",
        description="Vendor or server whose values to start from (docs/providers.md); by default the provider's name.",
    )
    kind: Literal["openai", "responses", "anthropic", "gemini", "embedded"] = Field(
        default="openai",
        description="Protocol the provider speaks: openai is chat completions, which most vendors offer.",
    )
    status: Literal["online", "offline", "draining"] = Field(
        default="online", description="offline: never asked. draining: finishes what it has, gets nothing new."
    )
    api_key: SecretStr | None = Field(
        default=None, description="Sent as the protocol wants it. `env:NAME` and `file:PATH` are read."
    )
    api_keys: tuple[SecretStr, ...] = Field(
        default=(), description="Further keys: calls take turns, and pass over one that gets 429, 401 or 403."
    )
    base_url: str | None = Field(default=None, description="For example https://api.openai.com/v1")
    default_model: str | None = Field(default=None, description="Model used when routing chose this provider by tier.")
    tier_models: dict[TierName, str] = Field(
        default_factory=dict[TierName, str],
        description="Model per tier, where one provider serves several; else default_model.",
    )
    supported_models: tuple[str, ...] = Field(default=(), description="Models that callers may ask for by name.")
    supported_model_types: tuple[TierName, ...] = Field(default=("remote",), description="Tiers this provider serves.")
    api_key_header: str | None = Field(
        default=None, description="Header that carries the key; by default the protocol's own."
    )
    embedding_models: tuple[str, ...] = Field(default=(), description="Models that answer /v1/embeddings.")
    max_concurrent_queries: int = Field(
        default=50, gt=0, description="Queries in flight; more go to other providers, or wait."
    )
    queue_size: int = Field(default=100, ge=0, description="Queries that may wait for room when no provider has any.")
    queue_timeout: Millis = Field(default=5_000, description="Milliseconds a query may wait for room.")
    base_cost_per_query: float | None = Field(
        default=None, ge=0, description="USD; used where the token price is unknown."
    )
    max_cost_per_query: float | None = Field(default=None, gt=0, description="USD; ceiling of one query's estimate.")
    price_per_million_input: float | None = Field(
        default=None, ge=0, description="USD per million input tokens; replaces the published price."
    )
    price_per_million_output: float | None = Field(default=None, ge=0, description="USD per million output tokens.")
    price_per_million_cached_input: float | None = Field(
        default=None, ge=0, description="USD per million input tokens that the provider read from its cache."
    )
    price_per_million_cache_write: float | None = Field(
        default=None, ge=0, description="USD per million input tokens that the provider wrote to its cache."
    )
    service_tier_prices: dict[str, Annotated[float, Field(ge=0, le=100)]] = Field(
        default={"flex": 0.5, "batch": 0.5, "priority": 2.0},
        description="What part of the price is charged, or how many times it, where the provider says that it "
        "answered in such a service tier.",
    )
    timeout: Millis = Field(
        default=120_000,
        description="Milliseconds one attempt may take; a stream is bounded by idleTimeout and server.timeout instead.",
    )
    connect_timeout: Millis = Field(default=5_000, description="Milliseconds to connect, TLS included.")
    first_token_timeout: Millis = Field(default=30_000, description="Milliseconds to the first byte of the reply.")
    idle_timeout: Millis = Field(default=30_000, description="Milliseconds between two pieces of a stream.")
    retry_count: int = Field(default=1, ge=0, le=10, description="Further attempts at the same target.")
    retry_delay: int = Field(default=500, ge=0, description="Milliseconds before the first retry; doubles each time.")
    breaker: BreakerConfig = BreakerConfig()
    on_disconnect: Literal["cancel", "drain"] = Field(
        default="cancel",
        description="A caller has gone: cancel the call, or read it to its end (then its cost is exact, and paid).",
    )
    cost_efficiency: Ratio = Field(default=0.5, description="0–1, higher is preferred.")
    capabilities: tuple[str, ...] = Field(
        default=("text_generation",), description="What its models can do; tools, vision and audio restrict routing."
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Further headers of every call; `env:NAME` and `file:PATH` are read."
    )
    allow_private_network: bool = Field(
        default=False, description="Allow a public-looking host name that resolves to a private address."
    )


class ErrorAlert(Section):
    rate: Ratio = Field(default=0.1, description="Share of requests, 0–1; above it the alert fires.")
    interval: Millis = Field(default=300_000, description="Milliseconds looked back.")


class LatencyAlert(Section):
    threshold: Millis = Field(default=2_000, description="Milliseconds; above it the alert fires.")
    percentile: float = Field(default=95, gt=0, lt=100, description="Percentile compared with the threshold.")


class AlertThresholds(Section):
    error: ErrorAlert = ErrorAlert()
    latency: LatencyAlert = LatencyAlert()


class MonitoringConfig(Section):
    enabled: bool = Field(default=True, description="Collect metrics and serve /metrics.")
    metrics_interval: Millis = Field(default=1_000, description="Milliseconds between samples of gauges and alerts.")
    alert_thresholds: AlertThresholds = AlertThresholds()


class CacheConfig(Section):
    enabled: bool = Field(default=True, description="Answer the same request again without asking a provider.")
    type: Literal["memory", "redis"] = Field(default="memory", description="This version caches in memory only.")
    ttl: int = Field(default=3_600, gt=0, description="Seconds an answer is kept.")
    max_size: int = Field(default=1_000, gt=0, description="Entries kept in memory.")
    max_entry_size: int = Field(default=128 * 1024, gt=0, description="Bytes; larger replies are not cached.")
    redis: RedisConfig = RedisConfig()


class SecurityConfig(Section):
    enable_request_validation: bool = Field(default=True, description="Refuse messages beyond max_query_length.")
    enable_content_filtering: bool = Field(default=True, description="Refuse text that matches sensitive_patterns.")
    max_query_length: int = Field(default=10_000, gt=0, description="Characters of one message.")
    sensitive_patterns: tuple[str, ...] = Field(
        default=(r"/exec\s*\(/i", r"/eval\s*\(/i", r"/system\s*\(/i"),
        description="RE2 patterns, plain or as /…/i literals, matched against the NFKC-normalised text.",
    )


class LogFile(Section):
    path: str = Field(default="./logs/gateway.log", description="Its folder is created.")
    max_size: str = Field(default="10m", pattern=r"^\d+[kKmMgG]?$", description="Bytes, or with k, m, g.")
    max_files: int = Field(default=5, gt=0, description="Files kept, the current one included.")


class LoggingConfig(Section):
    level: Literal["debug", "info", "warn", "warning", "error"] = Field(
        default="info", description="The least important lines that are written; LOG_LEVEL sets it."
    )
    format: Literal["json", "text"] = Field(default="json", description="json for machines, text for people.")
    destination: Literal["console", "file"] = Field(default="console", description="console is stderr.")
    file: LogFile = LogFile()


class LedgerConfig(Section):
    enabled: bool = Field(default=True, description="Keep one row per request: what it asked for, got and cost.")
    path: str = Field(default="./data/ledger.db", description="SQLite file; its folder is created.")
    url: SecretStr | None = Field(
        default=None,
        description="postgresql://USER:PASSWORD@HOST/DATABASE in place of the file; `env:NAME`, `file:PATH` are read.",
    )
    when_unavailable: Literal["fail_open", "fail_closed"] = Field(
        default="fail_open",
        description="Requests that cannot even be journaled (full disk): answer them all the same, or refuse them.",
    )
    flush_interval: Millis = Field(default=200, description="Milliseconds between two batches of rows.")
    idempotency_ttl: int = Field(
        default=86_400, gt=0, description="Seconds that the answer to a request with an Idempotency-Key is kept."
    )


class BudgetConfig(Section):
    name: str = Field(min_length=1, description="Shown in errors, alerts and reports.")
    scope: Literal["gateway", "team", "key", "provider", "model"] = Field(
        default="gateway",
        description="Whose spending it limits: all of it, or each team's, key's, provider's, model's.",
    )
    match: str = Field(
        default="", description="Only the team, key, provider or model of this name; empty: each its own."
    )
    usd: float = Field(gt=0, le=1e9, description="USD per period.")
    per: Period = Field(default="month", description="Periods begin at midnight of `timezone`.")
    mode: Literal["hard", "soft"] = Field(
        default="hard", description="hard: never more is spent. soft: nothing is refused; alerts only."
    )
    alert_at: Ratio = Field(
        default=0.8, description="Part of it at which an alert is logged; another one at all of it."
    )
    on_limit: Literal["refuse", "step_down"] = Field(
        default="refuse", description="What a hard one does: refuse, or first try cheaper models that still fit."
    )


class BudgetsConfig(Section):
    limits: tuple[BudgetConfig, ...] = Field(default=(), description="Budgets; a request must fit all that concern it.")
    max_tokens: int = Field(
        default=4_096,
        gt=0,
        description="Output tokens of a request that sets no limit itself, where a hard budget concerns it.",
    )
    wait: Millis = Field(
        default=5_000, description="Milliseconds a request may wait while others hold money that they may not need."
    )
    timezone: str = Field(default="UTC", description="Where days and months begin, such as Asia/Shanghai.")
    when_unavailable: Literal["fail_open", "fail_closed", "local_share"] = Field(
        default="fail_closed",
        description="The database is away: refuse what a budget limits, let it pass, or let each gateway spend its "
        "part of what was left.",
    )
    instances: int = Field(
        default=1, ge=1, le=10_000, description="Gateways that share the budgets, for local_share: processes count."
    )


class GatewayConfig(Section):
    version: Literal[1] = Field(default=1, description="Version of this file's format.")
    environment: str = Field(
        default="development", description="development or production; GATEWAY_ENV or NODE_ENV set it."
    )
    server: ServerConfig = ServerConfig()
    routing: RoutingConfig = RoutingConfig()
    providers: dict[str, ProviderConfig] = Field(default_factory=dict)
    complexity: ComplexityConfig = ComplexityConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    cache: CacheConfig = CacheConfig()
    security: SecurityConfig = SecurityConfig()
    logging: LoggingConfig = LoggingConfig()
    ledger: LedgerConfig = LedgerConfig()
    budgets: BudgetsConfig = BudgetsConfig()
    key_secret: SecretStr | None = Field(
        default=None,
        description="Seals the keys that `model-gateway keys create` makes; by default a file beside the ledger.",
    )
    limits: LimitsConfig = LimitsConfig()
    keys: tuple[CallerKey, ...] = Field(default=(), description="When set, every caller needs one of these keys.")
