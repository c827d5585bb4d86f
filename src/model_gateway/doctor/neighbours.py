"""What a gateway talks to: database, Redis, providers. A free question to each; nothing is written, nothing is paid."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from model_gateway.admission.keys import KeyRing
from model_gateway.config.checks import is_loopback
from model_gateway.config.errors import StartupError
from model_gateway.config.schema import GatewayConfig, ProviderConfig
from model_gateway.doctor.finding import Finding, error, ok, warning
from model_gateway.providers import embedded
from model_gateway.providers.adapters import headers_of
from model_gateway.storage import keys
from model_gateway.storage.database import HEAD, engine_of, version_of

PROBE_S: Final = 5.0
CLOCK_S: Final = 30.0
SOON_S: Final = 7 * 86_400.0


def database(config: GatewayConfig) -> Iterator[Finding]:
    """Its layout and its health; and what is stored of callers' keys."""
    ledger = config.ledger
    if not ledger.enabled:
        yield warning("database", "ledger.enabled is false: no rows, budgets, stored keys", "set it to true")
        return
    if ledger.url is None and not Path(ledger.path).exists():
        yield ok("database", f"{ledger.path} will be made at the start")
        yield from _callers(config, 0)
        return
    try:
        engine = engine_of(ledger)
        with engine.connect() as connection:
            version = version_of(connection)
            kind = connection.dialect.name
            broken = connection.execute(text("PRAGMA quick_check")).scalar() if kind == "sqlite" else "ok"
            stored = keys.every(connection) if version == HEAD else ()
        engine.dispose()
    except StartupError as problem:
        yield error("database", problem.message, problem.remedy)
        return
    except DBAPIError as problem:
        yield error("database", str(problem.orig), "check ledger.url or ledger.path, and that the database runs")
        return
    if broken != "ok":
        yield error("database", f"{ledger.path} is damaged: {broken}", "model-gateway restore from the last backup")
    elif version is not None and version > HEAD:
        yield error(
            "database",
            f"it has layout {version}, this version knows {HEAD}: a newer gateway has written it",
            f"run that version, or have it go back first: model-gateway ledger downgrade {HEAD}",
        )
    elif version != HEAD:
        yield ok("database", f"{kind}, layout {version or 'none yet'}: brought to {HEAD} at the start")
    else:
        yield ok("database", f"{kind}, layout {version}")
    now = time.time()
    for key in stored:
        if key.state(now) == "active" and key.expires_at is not None and key.expires_at - now < SOON_S:
            days = (key.expires_at - now) / 86_400
            yield warning("keys", f"{key.name} expires in {days:.1f} days", f"model-gateway keys rotate {key.name}")
    yield from _callers(config, sum(key.state(now) == "active" for key in stored))


def _callers(config: GatewayConfig, stored: int) -> Iterator[Finding]:
    try:
        KeyRing(config.keys, config.limits)
    except StartupError as problem:
        yield error("keys", problem.message, problem.remedy)
        return
    count = len(config.keys) + stored
    if count or is_loopback(config.server.host) or config.server.tls.client_ca:
        yield ok("keys", f"{count} callers' keys" if count else "no keys: whoever reaches the ports is let in")
    else:
        remedy = "model-gateway keys create NAME"
        yield warning("keys", f"no keys, and {config.server.host} is reachable from other machines", remedy)


def redis(config: GatewayConfig) -> Iterator[Finding]:
    options = config.cache.redis
    if config.limits.store == "memory" or (config.limits.store == "auto" and options.url is None):
        return
    try:
        from redis import Redis
        from redis.exceptions import RedisError
    except ImportError:
        return  # told with the versions
    remedy = "check cache.redis (REDIS_URL); meanwhile limits.whenUnavailable holds"
    try:
        with closing(Redis.from_url(options.address, socket_timeout=PROBE_S, socket_connect_timeout=PROBE_S)) as client:  # pyright: ignore[reportUnknownMemberType]
            client.ping()  # pyright: ignore[reportUnknownMemberType]
    except (RedisError, OSError, ValueError) as problem:
        yield error("redis", str(problem), remedy)
    else:
        yield ok("redis", "answers")


def providers(config: GatewayConfig) -> Iterator[Finding]:
    """Each is asked for its list of models, which costs nothing. What time it is there tells whether ours is right."""
    offsets: list[float] = []
    for name, options in config.providers.items():
        what = f"provider {name}"
        if options.status != "online":
            yield ok(what, f"configured {options.status}")
        elif options.kind == "embedded":
            there, reason = embedded.available()
            remedy = "model-gateway model install, or set its status to offline"
            yield ok(what, "installed") if there else warning(what, reason, remedy)
        else:
            yield _asked(what, options, offsets)
    if not offsets:
        yield ok("clock", "no provider has told its time")
    elif min(abs(offset) for offset in offsets) > CLOCK_S:
        detail = f"this machine's clock differs by {min(offsets, key=abs):+.0f} s from the providers'"
        yield warning("clock", detail, "switch time synchronisation on: budgets and leases go by it")
    else:
        yield ok("clock", "agrees with the providers'")


def _asked(what: str, options: ProviderConfig, offsets: list[float]) -> Finding:
    url = urlsplit(options.base_url or "")
    keys_ = [options.api_key] if options.api_key is not None else list(options.api_keys)
    headers = headers_of(options, keys_[0].get_secret_value() if keys_ else "")
    secure = url.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    try:
        with closing(kind(url.hostname or "", url.port, timeout=PROBE_S)) as connection:
            connection.request("GET", f"{url.path.rstrip('/')}/models", headers=dict(headers))
            response = connection.getresponse()
            status, date = response.status, response.headers.get("date")
    except ssl.SSLError as problem:
        return error(what, f"TLS with {url.hostname}: {problem}", "check base_url, and who stands in between")
    except (OSError, http.client.HTTPException, ValueError) as problem:
        return error(what, f"{url.hostname} does not answer: {problem}", "check base_url, the network, a proxy")
    if date:
        with suppress(ValueError):
            offsets.append(time.time() - parsedate_to_datetime(date).timestamp())
    if status in (401, 403):
        return error(what, f"it refuses the key (status {status})", "set api_key anew")
    if status >= 500:
        return warning(what, f"it answers with status {status}", "ask its operator, or wait")
    return ok(what, "answers" if status == 200 else f"answers (its list of models: status {status})")
