"""This machine: versions, ports, disk, who may read which file, certificates. Looks only; changes nothing."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import platform
import shutil
import ssl
import stat
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from model_gateway import __version__
from model_gateway.assess import features
from model_gateway.budget.journal import folder_of
from model_gateway.config.errors import StartupError
from model_gateway.config.history import HISTORY
from model_gateway.config.load import Loaded
from model_gateway.config.schema import GatewayConfig, ServerConfig
from model_gateway.doctor.finding import Finding, error, ok, warning
from model_gateway.server.http.server import listen
from model_gateway.storage.keys import secret_path
from model_gateway.tls.material import moment, read

DISK_WARNING: Final = 1024**3
DISK_ERROR: Final = 100 * 1024**2
EXPIRY_WARNING_S: Final = 14 * 86_400.0
PROBE_S: Final = 3.0


def versions(config: GatewayConfig) -> Iterator[Finding]:
    detail = (
        f"model-gateway {__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    )
    if not (features.__file__ or "").endswith(".py"):
        detail += ", hot modules compiled"
    # Windows' and macOS' installers tell nothing here, Debian's tells of another build; all of them are optimised.
    args = sysconfig.get_config_var("CONFIG_ARGS") or "--enable-optimizations"
    if sys.base_prefix != "/usr" and "--enable-optimizations" not in args:
        detail += "; this Python was built without --enable-optimizations: one with them takes a quarter less CPU"
    yield ok("versions", detail)
    wanted = {
        "redis": ("redis", config.limits.store == "redis" or config.cache.redis.url is not None),
        "psycopg": ("postgres", config.ledger.url is not None),
    }
    for package, (extra, needed) in wanted.items():
        if needed and importlib.util.find_spec(package) is None:
            yield error("versions", f"the package {package} is not installed", f"pip install 'model-gateway[{extra}]'")


def ports(config: GatewayConfig) -> Iterator[Finding]:
    """Free, or this gateway's own."""
    server = config.server
    ours = running(server)
    for what, host, port, option in (
        ("gRPC", server.host, server.port, "PORT"),
        ("HTTP", server.host, server.http_port, "HTTP_PORT"),
        ("control", server.control_host, server.control_port, "CONTROL_PORT"),
    ):
        name = f"port {port} ({what})"
        try:
            listen(host, port, what, option).close()
        except StartupError as problem:
            if ours and "in use" in problem.message:
                yield ok(name, f"a gateway serves there (version {ours})")
            else:
                yield error(name, problem.message, problem.remedy)
        else:
            yield ok(name, "free")


def running(server: ServerConfig) -> str:
    """The version of the gateway that answers at the control port; empty where none does."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.control_host, server.control_host)  # noqa: S104
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        if server.control_tls.cert:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is told: only who answers
            connection = http.client.HTTPSConnection(host, server.control_port, timeout=PROBE_S, context=context)
        else:
            connection = http.client.HTTPConnection(host, server.control_port, timeout=PROBE_S)
        with contextlib.closing(connection):
            connection.request("GET", "/health")
            return str(json.loads(connection.getresponse().read())["version"])
    return ""


def disk(config: GatewayConfig) -> Iterator[Finding]:
    folders = {"ledger": Path(config.ledger.path).parent} if config.ledger.enabled else {}
    if config.logging.destination == "file":
        folders["log"] = Path(config.logging.file.path).parent
    for what, folder in folders.items():
        there = next(each for each in (folder.resolve(), *folder.resolve().parents) if each.exists())
        free = shutil.disk_usage(there).free
        detail = f"{free / 1024**3:.1f} GiB free at {there}"
        if free >= DISK_WARNING:
            yield ok(f"disk ({what})", detail)
        else:
            found = error if free < DISK_ERROR else warning
            yield found(f"disk ({what})", detail, "free space, or move it to another disk")


def permissions(loaded: Loaded) -> Iterator[Finding]:
    """Nobody else may read what is secret."""
    if sys.platform == "win32":
        return
    config = loaded.config
    beside = Path(config.ledger.path).parent
    files = {secret_path(config.ledger.path), beside / "admin.token"}
    files |= {Path(f"{config.ledger.path}{side}") for side in ("", "-wal", "-shm")}
    files |= {*folder_of(config.ledger.path).glob("*.journal"), *(beside / HISTORY).glob("*.yaml")}
    files |= {Path(each.key) for each in (config.server.tls, config.server.control_tls) if each.key}
    files |= {file for file in loaded.files if file != loaded.path}
    open_ones = [file for file in sorted(files) if file.is_file() and _is_open(file.stat())]
    for file in open_ones:
        mode = stat.filemode(file.stat().st_mode)
        yield warning("permissions", f"others may read {file} ({mode})", f"chmod 600 {file}")
    if not open_ones:
        yield ok("permissions", "secrets and the ledger are their owner's alone")


def _is_open(facts: os.stat_result) -> bool:
    """To its group, too, unless that is how this process may read it: so Kubernetes mounts secrets."""
    ours = facts.st_uid == os.getuid()
    return bool(facts.st_mode & (stat.S_IRWXO | (stat.S_IRWXG if ours else 0)))


def certificates(config: GatewayConfig) -> Iterator[Finding]:
    now = time.time()
    for section, files in (("server.tls", config.server.tls), ("server.control_tls", config.server.control_tls)):
        if not files.cert:
            continue
        try:
            until = read(section, files, now).valid.until
        except StartupError as problem:
            yield error("certificates", problem.message, problem.remedy)
            continue
        detail = f"{section}: {files.cert} is good until {moment(until)}"
        if until - now < EXPIRY_WARNING_S:
            yield warning("certificates", detail, "renew it: the files are taken up while the gateway serves")
        else:
            yield ok("certificates", detail)
