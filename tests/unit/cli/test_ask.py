"""`ask` against a real HTTP server on this machine that answers like the gateway, and misbehaves on request."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from model_gateway.cli.app import app

DETAILS: dict[str, Any] = {
    "request_id": "req_1",
    "provider": "openai",
    "model": "gpt-4.1-mini",
    "asked_tier": "remote",
    "tier": "hybrid",
    "route_reason": "budget",
    "score": 0.4211,
    "factors": [{"name": "length", "value": 0.5, "contribution": 0.1, "detail": "12 words"}],
    "cost_usd": 0.000123,
    "estimate_usd": 0.0002,
    "usage": {"input_tokens": 11, "output_tokens": 7},
    "cache": "miss",
    "attempts": [
        {"provider": "other", "model": "m", "outcome": "upstream_timeout"},
        {"provider": "openai", "model": "gpt-4.1-mini", "outcome": "ok"},
    ],
    "duration_ms": 12.0,
    "first_token_ms": 5.0,
}


def delta(text: str) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}


WHOLE = [
    delta("Hel"),
    delta("lo 你好"),
    {"object": "chat.completion.chunk", "choices": [], "gateway": DETAILS},
    "[DONE]",
]


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gives up on a broken stream is what some tests are about."""


class Stub:
    """Answers every POST with `status` and `events` (or `body`), and keeps what was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.events: list[Any] = WHOLE
        self.body: bytes | None = None
        self.between: Callable[[], object] = lambda: None
        self.cut = False
        self.path = ""
        self.headers: dict[str, str] = {}
        self.asked: dict[str, Any] = {}
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.close_connection = True
                stub.path = self.path
                stub.headers = {name.lower(): value for name, value in self.headers.items()}
                stub.asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(stub.status)
                if stub.body is not None:
                    self.send_header("Content-Length", str(len(stub.body)))
                    self.end_headers()
                    self.wfile.write(stub.body)
                    return
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for event in stub.events:
                    data = event if isinstance(event, str) else json.dumps(event)
                    self._chunk(f"data: {data}\n\n".encode())
                    stub.between()
                    if stub.cut:
                        self.wfile.write(b"ff\r\nhalf a chunk")
                        return
                self._chunk(b"")

            def _chunk(self, data: bytes) -> None:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the library's name)
                return

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    thread = threading.Thread(target=stub.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()
    thread.join()


def ask(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["ask", *arguments], input=stdin)


def test_the_answer_then_how_it_came_about(stub: Stub) -> None:
    result = ask("hi", "--url", stub.url)
    assert result.exit_code == 0
    assert result.stdout == "Hello 你好\n"
    lines = result.stderr.splitlines()
    assert lines[1:6] == [
        "tier   hybrid  (asked for remote)  budget",
        "score  0.421",
        "         length                  0.50  +0.100  12 words",
        "model  openai / gpt-4.1-mini",
        "cost   $0.000123  (11 tokens in, 7 out)",
    ]
    assert re.fullmatch(r"time   \d+\.\d\d s, first words after \d+\.\d\d s", lines[6])
    assert lines[7:] == ["cache  miss", "tried  other / m: upstream_timeout, openai / gpt-4.1-mini: ok"]


def test_what_is_sent(stub: Stub) -> None:
    options = ("--model", "m1", "--key", "k1", "--max-tokens", "9", "--system", "Be brief", "--budget", "0.00005")
    assert ask("hi", "--url", f"{stub.url}/v1/", *options).exit_code == 0
    assert stub.path == "/v1/chat/completions"
    assert stub.asked == {
        "model": "m1",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "hi"}],
        "stream": True,
        "max_tokens": 9,
    }
    assert stub.headers["authorization"] == "Bearer k1"
    assert stub.headers["x-gateway-details"] == "1"
    assert stub.headers["x-gateway-budget-usd"] == "0.000050000"


def test_what_is_sent_by_default(stub: Stub) -> None:
    assert ask("-", "--url", stub.url, stdin="从标准输入\n").exit_code == 0
    assert stub.asked == {"model": "auto", "messages": [{"role": "user", "content": "从标准输入"}], "stream": True}
    assert "authorization" not in stub.headers
    assert "x-gateway-budget-usd" not in stub.headers


def test_json_is_the_whole_reply(stub: Stub) -> None:
    reply = {"choices": [{"message": {"content": "你好"}}], "gateway": DETAILS}
    stub.body = json.dumps(reply).encode()
    result = ask("hi", "--url", stub.url, "--json")
    assert stub.asked["stream"] is False
    assert json.loads(result.stdout) == reply
    assert "你好" in result.stdout


def test_words_are_shown_as_they_arrive(stub: Stub) -> None:
    go_on = threading.Event()
    stub.between = lambda: go_on.wait(10)
    command = [sys.executable, "-m", "model_gateway.cli", "ask", "hi", "--url", stub.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == b"Hel"  # the rest has not been sent yet
        go_on.set()
        assert process.stdout.read().decode() == "lo 你好\n"
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([delta("Hel"), {"error": {"message": "the provider\nbroke off"}}, "[DONE]"], "error: the provider broke off"),
        ([delta("Hel")], "error: the answer was cut off: the stream ended without its end marker"),
        ([delta("Hel"), "not json"], "error: what answered does not speak the gateway's protocol"),
    ],
)
def test_a_broken_stream_is_a_failure(stub: Stub, events: list[Any], error: str) -> None:
    stub.events = events
    result = ask("hi", "--url", stub.url)
    assert result.exit_code == 1
    assert result.stdout == "Hel\n"
    assert result.stderr.splitlines()[0] == error


@pytest.mark.parametrize(
    ("status", "body", "error", "hint"),
    [
        (401, b'{"error": {"message": "no key"}}', "no key (HTTP 401)", "pass your key with --key"),
        (402, b'{"error": {"message": "too dear"}}', "too dear (HTTP 402)", ""),
        (503, b'{"error": {}}', "the gateway refused without a reason (HTTP 503)", ""),
        (502, b"<html>", "what answered does not speak the gateway's protocol", "check --url"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_refusal_is_shown(stub: Stub, status: int, body: bytes, error: str, hint: str, as_json: bool) -> None:
    stub.status, stub.body = status, body
    result = ask("hi", "--url", stub.url, *(["--json"] if as_json else []))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == f"error: {error}"
    assert hint in result.stderr


def test_nothing_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused, and nobody else can have it
        port = taken.getsockname()[1]
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HTTP_PORT", str(port))  # the address comes from this folder's configuration
        result = ask("hi")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"error: no gateway listens at http://127.0.0.1:{port}",
        "hint: start it with `make run` or `model-gateway serve`",
    ]


def test_a_mistake_in_the_servers_configuration_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: Stub
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.yaml").write_text("servr: {}")
    assert ask("hi", "--url", stub.url).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [" "],
        ["hi", "--url", "gateway"],
        ["hi", "--url", "ftp://x"],
        ["hi", "--url", "http://[x"],
        ["hi", "--max-tokens", "0"],
        ["hi", "--budget", "-1"],
        ["hi", "--budget", "much"],
        ["hi", "--budget", "nan"],
        ["hi", "--frob"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    result = ask(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert "Traceback" not in result.output


def test_a_key_no_header_may_carry(stub: Stub) -> None:
    result = ask("hi", "--url", stub.url, "--key", "a\nb")
    assert result.exit_code == 2
    assert "--key" in result.stderr


def test_a_connection_that_drops_is_a_failure_at_once(stub: Stub) -> None:
    stub.cut = True
    result = ask("hi", "--url", stub.url)
    assert result.exit_code == 1
    assert result.stdout == "Hel\n"
    assert "error: the connection to" in result.stderr


def test_control_characters_never_reach_a_terminal() -> None:
    from model_gateway.cli import ask as module

    assert "a\x1b]0;title\x07b\n\tc\x9b2J".translate(module._UNSAFE) == "a]0;titleb\n\tc2J"
