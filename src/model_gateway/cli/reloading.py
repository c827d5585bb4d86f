"""`config reload`, `history` and `rollback`: changing the configuration of a gateway that runs.

Decides nothing: the gateway reloads, the history keeps; here both are asked and their answers shown.
"""

from __future__ import annotations

import http.client
import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import typer

from model_gateway.cli import auditing
from model_gateway.cli.output import CommandFailed, client_host
from model_gateway.cli.trust import Trust, remedy_for
from model_gateway.config.checks import is_loopback
from model_gateway.config.document import read_yaml
from model_gateway.config.errors import ConfigError, StartupError
from model_gateway.config.history import History, history_beside, replace
from model_gateway.config.load import FILE_NAME, find_file, load
from model_gateway.config.schema import LedgerConfig, ServerConfig
from model_gateway.storage.audit import Act
from model_gateway.storage.keys import admin_token

_WAIT_S = 60.0


def reload(path: Path | None, trust: Trust) -> None:
    """Ask the gateway of this configuration to read it and its certificates. Raises StartupError where it refuses."""
    config = load(path, os.environ, Path.cwd()).config
    host, port = client_host(config.server.control_host), config.server.control_port
    headers = {"Authorization": f"Bearer {admin_token(config)}"}
    try:
        with closing(_connection(config.server, trust)) as connection:
            connection.request("POST", "/admin/v1/reload", headers=headers)
            response = connection.getresponse()
            answer = cast("dict[str, Any]", json.loads(response.read()))
    except (OSError, http.client.HTTPException, ValueError) as error:
        start = "start it with `make run` or `model-gateway serve`"
        raise CommandFailed(f"no gateway answers at {host}:{port}: {error}", remedy_for(error, start)) from None
    if response.status != 200:
        refused = cast("dict[str, Any]", answer.get("error") or {})
        raise StartupError(str(refused.get("message", response.reason)), str(refused.get("remedy", "")))
    changed = ", ".join(answer["changed"]) or "nothing"
    typer.echo(f"generation {answer['generation']}; changed: {changed}")
    if answer["after_restart"]:
        typer.echo(f"after a restart only: {', '.join(answer['after_restart'])}")
    if answer["certificates"]:
        raise StartupError("\n".join(answer["certificates"]), "until then the gateway goes on with the last good ones")


def _connection(server: ServerConfig, trust: Trust) -> http.client.HTTPConnection:
    host, port = client_host(server.control_host), server.control_port
    if not server.control_tls.cert:
        return http.client.HTTPConnection(host, port, timeout=_WAIT_S)
    context = trust.context(same_machine=is_loopback(host))
    return http.client.HTTPSConnection(host, port, timeout=_WAIT_S, context=context)


def show_history(path: Path | None) -> None:
    file = _file(path)
    current = file.read_bytes()
    versions = _history(path).versions()
    if not versions:
        typer.echo("no version was kept yet: the first is when the gateway starts")
    for version in versions:
        mark = "  (as the file is now)" if version.text == current else ""
        typer.echo(f"{version.number:>6}  {version.at:%Y-%m-%dT%H:%M:%SZ}{mark}")


def rollback(path: Path | None, number: int | None) -> None:
    """Put an earlier version in the file's place; a running gateway takes it up. Raises StartupError."""
    file = _file(path)
    version = _history(path).find(number, file.read_bytes())
    try:
        replace(file, version.text)
    except OSError as error:
        raise CommandFailed(f"{file} cannot be written: {error.strerror}", "change its owner or its rights") from None
    typer.echo(f"{file.name} is version {version.number} of {version.at:%Y-%m-%dT%H:%M:%SZ} again")
    config = load(path, os.environ, Path.cwd()).config
    act = Act(
        "config.rolled_back", file.name, detail={"version": version.number, "of": f"{version.at:%Y-%m-%dT%H:%M:%SZ}"}
    )
    auditing.note(config.ledger, act)


def _file(path: Path | None) -> Path:
    file = find_file(path, Path.cwd())
    if file is None or not file.exists():
        raise ConfigError(f"there is no {file or FILE_NAME} here", "name it with --config")
    return file


def _history(path: Path | None) -> History:
    """Beside the ledger, which even a file that does not load may name."""
    place = LedgerConfig().path
    try:
        place = load(path, os.environ, Path.cwd()).config.ledger.path
    except ConfigError:
        try:
            values, _ = read_yaml(_file(path), "")
            ledger = values.get("ledger")
            place = str(cast("dict[str, object]", ledger).get("path", place)) if isinstance(ledger, dict) else place
        except ConfigError:
            typer.echo(f"the file cannot be read; looking beside {place}", err=True)
    return history_beside(place)
