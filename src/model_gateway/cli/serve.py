"""`serve`: one gateway, of one process or several, from configuration to graceful stop; a banner says what runs.

Decides nothing about requests; app.py and workers/supervisor.py wire and stop the parts.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import model_gateway.lean  # noqa: F401 # pyright: ignore[reportUnusedImport]  before what imports structlog
from model_gateway import __version__
from model_gateway.cli.output import client_host, echo, warn
from model_gateway.config.checks import is_loopback
from model_gateway.config.load import Loaded, load
from model_gateway.config.schema import GatewayConfig
from model_gateway.config.vendors import KEY_VARIABLES
from model_gateway.control.health import Health
from model_gateway.storage.audit import GATEWAY, Act
from model_gateway.workers.count import several_possible, workers_of
from model_gateway.workers.reload import Reloader

if TYPE_CHECKING:
    from model_gateway.app import App
    from model_gateway.workers.supervisor import Supervisor

if sys.platform == "win32":
    from winloop import new_event_loop
else:
    from uvloop import new_event_loop

_QUESTION = "Explain what a black hole is in one sentence"


def serve(path: Path | None, *, text_logs: bool, workers: str | None = None) -> None:
    """Serve until a signal; `workers` replaces the configured number. Raises StartupError."""
    started_s = time.monotonic()
    environ = os.environ if workers is None else {**os.environ, "WORKERS": workers}
    loaded = load(path, environ, Path.cwd())
    warn([*loaded.warnings, *_unreachable(loaded.config, environ)])
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_run(loaded, path, environ, text_logs=text_logs, started_s=started_s))
    except KeyboardInterrupt:  # Ctrl-C before the application listens for it, and always on Windows
        echo("stopped", err=True)


async def _run(
    loaded: Loaded, path: Path | None, environ: Mapping[str, str], *, text_logs: bool, started_s: float
) -> None:
    async with _gateway_of(loaded, text_logs=text_logs) as gateway:
        gateway.heed_signals()
        reloader = Reloader(gateway.operations, loaded, path, environ, Path.cwd())
        gateway.operations.reload = reloader.reload
        started = {"version": __version__, "configuration": loaded.digest[:16]}
        await gateway.operations.note(GATEWAY, Act("gateway.started", loaded.source, detail=started))
        watching = asyncio.create_task(reloader.watch(), name="reload")
        echo("\n".join(banner(gateway, loaded, time.monotonic() - started_s)))
        sys.stdout.flush()
        await gateway.run_until_signal()
        watching.cancel()


def _unreachable(config: GatewayConfig, environ: Mapping[str, str]) -> Iterator[str]:
    """A container's own loopback is nobody else's. `container`: set by images, ours and others."""
    if environ.get("container") and is_loopback(config.server.host):
        yield f"server.host is {config.server.host}: nobody outside this container reaches it; remove HOST, or 0.0.0.0"


def _gateway_of(loaded: Loaded, *, text_logs: bool) -> App | Supervisor:
    workers = workers_of(loaded.config)
    if workers > 1 and not several_possible():
        warn(["server.workers: several processes can share their ports on Linux only; one process serves"])
        workers = 1
    # Imported here: a supervisor answers no request, and what does is 25 MB; who serves alone oversees nobody.
    if workers > 1:
        from model_gateway.workers.supervisor import Supervisor

        return Supervisor(loaded.config, workers, text_logs=text_logs)
    from model_gateway.app import App

    return App(loaded.config, text_logs=text_logs)


def banner(app: App | Supervisor, loaded: Loaded, startup_s: float) -> Iterator[str]:
    """The lines shown once the gateway is ready."""
    server = loaded.config.server
    http = f"{'https' if server.tls.cert else 'http'}://{client_host(server.host)}:{app.http_port}"
    control = (
        f"{'https' if server.control_tls.cert else 'http'}://{client_host(server.control_host)}:{app.control_port}"
    )
    yield f"{_bold(f'model-gateway {__version__} is ready')} after {startup_s:.1f} s"
    yield f"  gRPC     {client_host(server.host)}:{app.grpc_port}{'  (TLS)' if server.tls.cert else ''}"
    yield f"  HTTP     {http}/v1  (OpenAI-compatible)"
    yield f"  control  {control}/metrics  {control}/health"
    yield f"  config   {loaded.source}"
    if server.tls.client_ca:
        yield f"  clients  need a certificate of {server.tls.client_ca}"
    if server.require_keys and not loaded.config.keys:
        yield "  callers  need a key: CALLER_KEY, or one of those that `model-gateway keys create NAME` makes"
    health = app.health()
    if health.workers:
        yield f"  workers  {sum(worker.state == 'serving' for worker in health.workers)} processes"
    yield "  providers"
    yield from _providers(loaded.config, health)
    off = [f"{name} ({KEY_VARIABLES[name][0]})" for name in KEY_VARIABLES if name not in loaded.config.providers]
    if off:
        yield f"    switched on by a key: {', '.join(off[:2])}{' and others' if len(off) > 2 else ''}"
    url = "" if app.http_port == 8080 else f" --url {http}"
    yield f'try: {command()} ask "{_QUESTION}"{url}'


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() and sys.platform != "win32" else text


def command() -> str:
    """How this program is called from this folder: its name where the PATH knows it, else the way it was called."""
    name = "model-gateway"
    called = Path(sys.argv[0])
    found = shutil.which(name)
    if called.name != name or (found and Path(found).resolve() == called.resolve()):
        return name
    return str(called)


def _providers(config: GatewayConfig, health: Health) -> Iterator[str]:
    for name, provider in health.providers.items():
        options = config.providers[name]
        models = [*options.tier_models.values(), *([options.default_model] if options.default_model else [])]
        tiers = ", ".join(options.supported_model_types)
        shown = ", ".join(dict.fromkeys(models or options.supported_models))
        reason = f"  ({provider.reason})" if provider.reason else ""
        yield f"    {name:<12} {provider.status:<9} {tiers:<15} {shown}{reason}"
