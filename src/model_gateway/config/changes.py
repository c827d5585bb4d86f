"""What differs between two configurations, and which of it a running gateway can take up. Pure; tells no value.

Ports, the ledger's place and what belongs to them are bound at the start: `pinned` keeps them as they run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, cast

from pydantic import BaseModel

from model_gateway.config.schema import GatewayConfig

AT_START: Final = (
    "server.host",
    "server.port",
    "server.http_port",
    "server.control_host",
    "server.control_port",
    "server.admin_token",
    "server.workers",
    "server.grpc",
    "server.tls",
    "server.control_tls",
    "ledger",
    "key_secret",
    "limits.store",
    "limits.when_unavailable",
    "limits.instances",
    "cache.redis",
    "monitoring.enabled",
)
"""Options and sections that count from the next start on."""


def changes(before: BaseModel, after: BaseModel, path: str = "") -> Iterator[str]:
    """The names of the options that differ, such as `routing.weights.cost`; a list is one option."""
    for name in type(before).model_fields:
        yield from _between(getattr(before, name), getattr(after, name), f"{path}{name}")


def _between(before: object, after: object, path: str) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, BaseModel) and isinstance(after, BaseModel) and type(before) is type(after):
        yield from changes(before, after, f"{path}.")
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        old, new = cast("Mapping[str, object]", before), cast("Mapping[str, object]", after)
        for name in sorted({*old, *new}):
            yield from _between(old.get(name), new.get(name), f"{path}.{name}")
    else:
        yield path


def pinned(running: GatewayConfig, wanted: GatewayConfig) -> tuple[GatewayConfig, list[str]]:
    """`wanted` with what only a start can change as it is in `running`, and the names of what was kept so."""
    kept: list[str] = []
    for path in AT_START:
        section, _, option = path.partition(".")
        holder = getattr(wanted, section) if option else wanted
        name = option or section
        was = getattr(getattr(running, section) if option else running, name)
        if getattr(holder, name) == was:
            continue
        kept += _between(was, getattr(holder, name), path)
        holder = holder.model_copy(update={name: was})
        wanted = wanted.model_copy(update={section: holder}) if option else holder
    return wanted, kept
