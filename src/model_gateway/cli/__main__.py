"""`python -m model_gateway.cli`: the same commands where no script is installed."""

from __future__ import annotations

from model_gateway.cli.entry import main

main()
