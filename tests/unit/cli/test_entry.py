"""Who reads the arguments of `serve`: what is read here means what typer would have read, and the rest is typer's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from model_gateway.cli.app import app
from model_gateway.cli.entry import Serve, plainly_serve

PLAIN = [
    "serve",
    "serve --config a.yaml",
    "serve --config=a.yaml",
    "serve -c a.yaml",
    "serve --config a.yaml --config b.yaml",
    "serve --config =a.yaml",
    "serve --text-logs",
    "serve --workers 2",
    "serve --workers=max",
    "serve --workers 120 --text-logs -c /x/a=b.yaml",
]
NOT_PLAIN = [
    "",
    "version",
    "--help",
    "serve --help",
    "serve -h",
    "serve --workers",
    "serve --workers 0",
    "serve --workers=many",
    "serve --workers 121",
    "serve --workers -1",
    "serve --config",
    "serve --config=",
    "serve --config --text-logs",
    "serve -ca.yaml",
    "serve -c=a.yaml",
    "serve --text-logs=1",
    "serve --text",
    "serve gateway.yaml",
    "serve -- --text-logs",
]


@pytest.mark.parametrize("line", PLAIN)
def test_what_is_plain_means_the_same_to_both(line: str) -> None:
    with patch("model_gateway.cli.serve.serve") as serve:
        assert CliRunner().invoke(app, line.split()).exit_code == 0
    (config,), named = serve.call_args
    assert plainly_serve(line.split()) == Serve(config, **named)


@pytest.mark.parametrize("line", NOT_PLAIN)
def test_the_rest_is_typers(line: str) -> None:
    assert plainly_serve(line.split()) is None


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("serve --workers 0", 2, "max, or a number from 1 to 120"),
        ("serve --wrkers 2", 2, "--workers"),
        ("serve --config none.yaml", 2, "error: none.yaml: no such file"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, line: str, code: int, said: str) -> None:
    command = [sys.executable, "-m", "model_gateway.cli", *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
