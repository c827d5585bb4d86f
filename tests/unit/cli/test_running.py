"""`serve` and `dev` as real processes: ready, answer, reload, stop."""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

BOUNDED_S = 30.0
CONFIG = """
server: {port: 0, http_port: 0, control_port: 0}
providers:
  embedded: {status: offline}
  p: {base_url: 'http://127.0.0.1:9/v1', default_model: m, supported_model_types: [local]}
"""


class Running:
    """A process and its output lines as they come."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "PORT"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "model_gateway.cli", *arguments],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.seen: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def until(self, pattern: str) -> re.Match[str]:
        """The first new line that matches. Fails with all output after BOUNDED_S."""
        end_s = time.monotonic() + BOUNDED_S
        while (left_s := end_s - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left_s)
            except queue.Empty:
                break
            self.seen.append(line)
            found = re.search(pattern, line)
            if found:
                return found
        raise AssertionError(f"no line like {pattern!r} in:\n" + "\n".join(self.seen))

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(BOUNDED_S)
        self._reader.join()
        while not self._lines.empty():
            self.seen.append(self._lines.get())
        return code


@contextmanager
def running(folder: Path, *arguments: str) -> Generator[Running]:
    started = Running(folder, *arguments)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.stop(signal.SIGTERM)
        assert started.process.stdout is not None
        started.process.stdout.close()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own server
        return response.read().decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_what_runs_and_stops_gracefully(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    with running(tmp_path, "serve") as gateway:
        gateway.until(r"^model-gateway \S+ is ready after \d+\.\d s$")
        gateway.until(r"^  gRPC     127\.0\.0\.1:\d+$")
        http = gateway.until(r"^  HTTP     (http://127\.0\.0\.1:\d+)/v1")[1]
        control = gateway.until(r"(http://\S+)/health")[1]
        gateway.until(rf"^  config   {re.escape(str(tmp_path))}/gateway.yaml$")
        gateway.until(r"^    embedded +offline +local +smollm2-135m-instruct  \(configured offline\)$")
        gateway.until(r"^    p +online +local +m$")
        gateway.until(
            r"^    switched on by a key: openai \(OPENAI_API_KEY\), anthropic \(ANTHROPIC_API_KEY\) and others$"
        )
        gateway.until(rf'^try: model-gateway ask "[^"]+" --url {http}$')
        assert '"auto"' in get(f"{http}/v1/models")
        assert get(f"{control}/health")
        assert gateway.stop(number) == 0
        assert not any("Traceback" in line for line in gateway.seen)


@pytest.mark.parametrize("option", ["port", "http_port", "control_port"])
def test_a_taken_port_is_one_line_and_exit_1(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "gateway.yaml").write_text(CONFIG.replace(f"{option}: 0", f"{option}: {port}", 1))
        done = subprocess.run(
            [sys.executable, "-m", "model_gateway.cli", "serve"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=BOUNDED_S,
            check=False,
        )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert str(port) in errors[0]
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_dev_follows_the_configuration_and_survives_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(CONFIG)
    with running(tmp_path, "dev") as gateway:
        gateway.until("is ready")
        http = gateway.until(r"(http://\S+)/v1")[1]
        assert '"m"' in get(f"{http}/v1/models")
        gateway.until("^try: ")

        file.write_text("servr: {}")
        gateway.until("^error: gateway.yaml:1: servr: unknown option; did you mean server")
        gateway.until("keeps running with the configuration it had")
        assert '"m"' in get(f"{http}/v1/models")

        changed_s = time.monotonic()
        file.write_text(CONFIG.replace("default_model: m", "default_model: m2"))
        gateway.until("^changed: gateway.yaml$")
        gateway.until("configuration reloaded")
        assert time.monotonic() - changed_s < 1.0
        assert '"m2"' in get(f"{http}/v1/models"), "the same process on the same port"

        (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-test\n")
        gateway.until("configuration reloaded")
        assert '"gpt' in get(f"{http}/v1/models")

        file.write_text(
            CONFIG.replace("control_port: 0", "control_port: 0, require_keys: false, grpc: {reflection: no}")
        )
        gateway.until("is ready")
        gateway.until("^try: ")
        assert gateway.stop(signal.SIGTERM) == 0


def test_dev_waits_for_a_first_configuration_that_works(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("servr: {}")
    with running(tmp_path, "dev") as gateway:
        gateway.until("^error: gateway.yaml:1: servr: unknown option")
        gateway.until(r"the gateway ended \(exit code 2\); waiting for a change")
        (tmp_path / "gateway.yaml").write_text(CONFIG)
        gateway.until("is ready")
        assert gateway.stop(signal.SIGINT) == 0
