"""`dashboard`: where a browser finds it, with the token after the #, which browsers send to nobody."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import typer

from model_gateway.cli.output import client_host
from model_gateway.config.load import load
from model_gateway.storage.keys import admin_token


def dashboard(path: Path | None) -> None:
    """Whoever reads the line may do what the admin API may. Raises StartupError where there is no token to be had."""
    config = load(path, os.environ, Path.cwd()).config
    server = config.server
    scheme = "https" if server.control_tls.cert else "http"
    address = f"{scheme}://{client_host(server.control_host)}:{server.control_port}/dashboard"
    typer.echo(f"{address}#token={quote(admin_token(config), safe='')}")
