"""The commands of `model-gateway routing`."""

from __future__ import annotations

import typer

routing_app = typer.Typer(no_args_is_help=True, help="The routing model: measure, fit, label, compare.")
