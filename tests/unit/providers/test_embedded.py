"""The real embedded model in its real process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from living import alive
from model_gateway.domain.errors import UpstreamConnectError
from model_gateway.providers import embedded
from model_gateway.providers.embedded import EmbeddedServer
from upstream import until


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    running = EmbeddedServer()
    yield running
    await running.stop()


async def ask(port: int, key: str, **fields: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": "List three fruits."}], "max_tokens": 8, **fields}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
    )

    def send() -> dict[str, Any]:
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310 (a loopback URL of our own)
            return json.load(reply)

    return await asyncio.to_thread(send)


async def test_it_starts_once_answers_and_keeps_others_out(server: EmbeddedServer) -> None:
    assert not server.ready
    first, second = await asyncio.gather(server.ensure_ready(60), server.ensure_ready(60))
    assert first == second
    port, key = first
    reply = await ask(port, key)
    assert 1 <= reply["usage"]["completion_tokens"] <= 8
    assert reply["choices"][0]["message"]["content"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        await ask(port, "wrong")
    with refused.value as answer:
        assert answer.code == 401


async def test_a_killed_server_is_restarted_on_the_next_need(server: EmbeddedServer) -> None:
    first = await server.ensure_ready(60)
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not server.ready)
    again = await server.ensure_ready(60)
    assert again != first
    assert (await ask(*again))["choices"]
    await server.stop()
    assert not alive(pid)


async def test_stopping_leaves_no_process_and_starts_no_more(server: EmbeddedServer) -> None:
    await server.ensure_ready(60)
    pid = server.pid
    assert pid is not None
    await server.stop()
    assert not alive(pid)
    with pytest.raises(UpstreamConnectError, match="stopping"):
        await server.ensure_ready(1)


def test_it_does_not_outlive_a_killed_gateway() -> None:
    program = textwrap.dedent("""
        import asyncio
        from model_gateway.providers.embedded import EmbeddedServer
        async def main():
            server = EmbeddedServer()
            await server.ensure_ready(60)
            print(server.pid, flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        asyncio.run(until(lambda: not alive(pid), timeout_s=2))


async def test_stopping_while_it_starts_is_an_error_not_a_cancel(server: EmbeddedServer) -> None:
    waiting = asyncio.create_task(server.ensure_ready(60))
    await asyncio.sleep(0.05)
    await server.stop()
    with pytest.raises(UpstreamConnectError, match="stopping"):
        await waiting


async def test_nothing_in_the_working_directory_is_run(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ctypes.py").write_text("raise SystemExit('run by mistake')")
    monkeypatch.chdir(tmp_path)
    await server.ensure_ready(60)
    assert server.ready


async def test_a_child_that_talks_nonsense_is_one_clear_error(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\nread order; echo nonsense\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(UpstreamConnectError, match="did not start: its process said b'nonsense"):
        await server.ensure_ready(60)


@pytest.mark.parametrize("wanted", [True, False])
async def test_llama_cpp_speaks_only_into_the_log_that_was_asked_for(
    server: EmbeddedServer,
    wanted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    log = tmp_path / "llama.log"
    if wanted:
        monkeypatch.setenv("MODEL_GATEWAY_EMBEDDED_LOG", str(log))
    await ask(*await server.ensure_ready(60))
    await server.stop()
    assert log.exists() is wanted and (not wanted or "model" in log.read_text())
    assert "List three fruits" not in (log.read_text() if wanted else "")
    assert capfd.readouterr() == ("", "")


async def test_broken_weights_are_one_clear_error(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(1000))
    monkeypatch.setenv(embedded.WEIGHTS_VARIABLE, str(broken))
    with pytest.raises(UpstreamConnectError, match="did not start"):
        await server.ensure_ready(60)
    assert not server.ready


def test_missing_weights_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert embedded.available() == (True, "")
    monkeypatch.setenv(embedded.WEIGHTS_VARIABLE, "/nowhere/x.gguf")
    assert embedded.available() == (False, "no weights at MODEL_GATEWAY_WEIGHTS=/nowhere/x.gguf")
    monkeypatch.delenv(embedded.WEIGHTS_VARIABLE)
    monkeypatch.setattr(embedded, "WEIGHTS_PACKAGE", "no_such_package")
    ok, reason = embedded.available()
    assert not ok and "model-gateway model install" in reason


def test_the_weights_are_found_without_importing_their_package() -> None:
    path = embedded.find_weights()
    assert path is not None and path.stat().st_size > 50_000_000
    assert embedded.WEIGHTS_PACKAGE not in sys.modules
    assert "xllamacpp" not in sys.modules
