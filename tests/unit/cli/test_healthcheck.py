"""The container's health check asks a real control plane, over HTTP and TLS."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from certificates import Authority
from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.cli.healthcheck import check
from model_gateway.config.schema import ServerConfig
from model_gateway.config.tls import TlsFiles


async def checked(folder: Path, status: str = "online", **control_tls: Any) -> tuple[bool, str]:
    server = ServerConfig(port=0, http_port=0, control_port=0, control_tls=TlsFiles(**control_tls))
    provider = fixture_provider("http://127.0.0.1:9", status=status)
    async with App(config_for(folder, {"fixture": provider}, server=server)) as app:
        return await asyncio.to_thread(check, app.control_port)


async def test_healthy(tmp_path: Path) -> None:
    healthy, said = await checked(tmp_path)
    assert healthy and '"status":"healthy"' in said


async def test_unhealthy_without_a_provider(tmp_path: Path) -> None:
    healthy, said = await checked(tmp_path, status="offline")
    assert not healthy and "no provider is online" in said


@pytest.mark.parametrize("mutual", [False, True])
async def test_over_tls(tmp_path: Path, mutual: bool) -> None:
    authority = Authority()
    cert, key = authority.issue("server").write(tmp_path)
    healthy, said = await checked(tmp_path, cert=cert, key=key, client_ca=authority.write(tmp_path) if mutual else "")
    assert healthy, said
    assert ("clients that have a certificate" if mutual else '"status":"healthy"') in said


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROL_PORT", "1")
    ended = subprocess.run(
        [sys.executable, "-m", "model_gateway.cli.healthcheck"], capture_output=True, text=True, timeout=10
    )
    assert ended.returncode == 1
    assert ended.stdout.startswith("the control plane does not answer on port 1: ")
