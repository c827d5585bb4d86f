"""Logs tell what happened to a request, one line each, wherever they go, and never a secret."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from model_gateway.config.errors import StartupError
from model_gateway.config.schema import LogFile, LoggingConfig
from model_gateway.domain.alert import AlertEvent
from model_gateway.domain.errors import ErrorKind
from model_gateway.domain.record import Record
from model_gateway.domain.usage import Usage
from model_gateway.telemetry import lines, logs
from model_gateway.telemetry.lines import LineWriter, file_writer, size_bytes
from model_gateway.telemetry.mask import mask


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    logs.shutdown()
    root.setLevel(level)


def to_file(path: Path, level: str = "info", form: str = "json", **options: object) -> None:
    config = LoggingConfig.model_validate(
        {"level": level, "format": form, "destination": "file", "file": {"path": str(path), **options}}
    )
    logs.configure(config)


def read(path: Path) -> list[dict[str, object]]:
    logs.flush()
    return [json.loads(line) for line in path.read_text().splitlines()]


def record(status: str = "ok", error: str = "") -> Record:
    return Record(
        "req_1", "http", 1700000000.0, "acme", "ci", "auto", False, status, error, "openai", "gpt-4o-mini", 0.45,
        tier="hybrid", cache="miss", usage=Usage(10, 20), cost_nano=12_345, duration_s=0.0123,
    )  # fmt: skip


def test_a_request_is_one_json_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "gateway.log"
    to_file(path)
    logs.log_request(record())
    assert read(path) == [
        {
            "timestamp": "2023-11-14T22:13:20.012Z", "level": "info", "event": "request", "request_id": "req_1",
            "status": "ok", "door": "http", "provider": "openai", "model": "gpt-4o-mini", "tier": "hybrid",
            "score": 0.45, "input_tokens": 10, "output_tokens": 20, "cost_usd": 1.2345e-05,
            "processing_time_ms": 12.3, "cache": "miss", "tenant": "acme", "key_name": "ci",
        }
    ]  # fmt: skip


def test_in_the_text_format_slow_requests_sort_by_the_fifth_word(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    to_file(path, form="text")
    forged = record(ErrorKind.MODEL_UNAVAILABLE, "no answer")
    forged.request_id = "x\n2023 info processing time 1 ms"
    logs.log_request(record())
    logs.log_request(forged)
    logs.flush()
    first, second = path.read_text().splitlines()
    assert first.split()[1:6] == ["info", "processing", "time", "12.3", "ms"]
    assert "cost_usd=0.000012345" in first
    assert second.split()[1] == "warning"
    assert 'error="no answer"' in second


@pytest.mark.parametrize(
    ("level", "statuses"),
    [("debug", ["ok", "invalid_request", "internal"]), ("warn", ["internal"]), ("error", [])],
)
def test_levels(tmp_path: Path, level: str, statuses: list[str]) -> None:
    path = tmp_path / "gateway.log"
    to_file(path, level)
    for status in ("ok", ErrorKind.INVALID_REQUEST, ErrorKind.INTERNAL):
        logs.log_request(record(status))
    assert [line["status"] for line in read(path)] == statuses


def test_events_of_ours_of_libraries_and_alerts_share_the_format(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    to_file(path)
    structlog.get_logger().info("started", port=8080, where=tmp_path)
    logging.getLogger("some.library").warning("odd %s", "thing")
    logs.log_alert(AlertEvent("latency", True, 0.06, 0.05, "6 of 100"))
    try:
        raise ValueError("boom")
    except ValueError:
        structlog.get_logger().exception("failed")
    started, odd, alert, failed = read(path)
    assert (started["event"], started["port"], started["where"]) == ("started", 8080, str(tmp_path))
    assert (odd["event"], odd["level"], odd["logger"]) == ("odd thing", "warning", "some.library")
    assert (alert["event"], alert["alert"], alert["level"]) == ("alert fired", "latency", "warning")
    assert "ValueError: boom" in str(failed["exception"])


SECRETS = [
    ("key sk-proj-abcdefgh12345678 end", "key *** end"),
    ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
    ("GET /?api_key=hunter2secret&x=1", "GET /?api_key=***&x=1"),
    ('{"apiKey":"hunter2secret","x":1}', '{"apiKey":"***","x":1}'),
    ("password='p4ss w'", "password='*** w'"),
    ('{"error":"{\\"api_key\\":\\"hunter2\\"}"}', '{"error":"{\\"api_key\\":\\"***\\"}"}'),
    ("risk-averse task-force-of-eight", "risk-averse task-force-of-eight"),
    ("max_tokens=512 input_tokens=3", "max_tokens=512 input_tokens=3"),
]


@pytest.mark.parametrize(("line", "masked"), SECRETS)
def test_secrets_are_masked(line: str, masked: str) -> None:
    assert mask(line) == masked


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_secret_reaches_the_file_by_any_way(tmp_path: Path, form: str) -> None:
    path = tmp_path / "gateway.log"
    to_file(path, form=form)
    secret = "sk-abcdefgh12345678"
    structlog.get_logger().warning("calling", headers={"Authorization": f"Bearer {secret}"}, api_key=secret)
    logging.getLogger("lib").error("failed with %s", secret)
    failed = record(ErrorKind.INTERNAL, f"bad key {secret}")
    failed.request_id = secret
    logs.log_request(failed)
    try:
        raise ValueError(secret)
    except ValueError:
        structlog.get_logger().exception("failed")
    logs.flush()
    text = path.read_text()
    assert "abcdefgh12345678" not in text
    assert text.count("***") >= 5


def test_half_a_surrogate_pair_does_not_break_a_line(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    to_file(path)
    odd = record()
    odd.request_id = "a\ud800"
    logs.log_request(odd)
    structlog.get_logger().info("odd \ud800")
    assert read(path)[0]["request_id"] == "a?"


def test_files_rotate_and_old_ones_go(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    to_file(path, maxSize="4k", maxFiles=2)
    for _ in range(10):
        for _ in range(10):
            logs.log_request(record())
        logs.flush()
    names = sorted(file.name for file in tmp_path.glob("gateway.log*") if not file.name.endswith(".lock"))
    assert names == ["gateway.log", "gateway.log.1", "gateway.log.2"]
    assert all(json.loads(line)["event"] == "request" for line in path.read_text().splitlines())


def test_a_log_file_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"logging.file.path") as refused:
        to_file(tmp_path / "file" / "gateway.log")
    assert refused.value.remedy


@pytest.mark.parametrize(("text", "size"), [("10m", 10 * 1024**2), ("4K", 4096), ("1g", 1024**3), ("123", 123)])
def test_sizes(text: str, size: int) -> None:
    assert size_bytes(text) == size == size_bytes(LogFile(max_size=text).max_size)


def test_a_sink_that_fails_costs_lines_and_nothing_else() -> None:
    broken = True
    kept: list[str] = []

    def sink(text: str) -> None:
        if broken:
            raise OSError("disk full")
        kept.append(text)

    writer = LineWriter(sink)
    writer.put("lost")
    writer.flush()
    broken = False
    writer.put("kept")
    writer.close()
    assert (kept, writer.dropped) == (["kept"], 1)


def test_a_vanished_folder_costs_lines_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "logs"
    writer = file_writer(LogFile(path=str(folder / "gateway.log"), max_size="1"))
    writer.put("first")
    writer.flush()
    shutil.rmtree(folder)
    writer.put("lost")
    writer.flush()
    folder.mkdir()
    writer.put("back")
    writer.close()
    assert "lost" not in capfd.readouterr().err
    assert (folder / "gateway.log").read_text().splitlines()[-1] == "back"


def test_beyond_its_capacity_lines_are_counted_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CAPACITY", 2)
    kept: list[str] = []
    writer = LineWriter(kept.append)
    with writer._lock:  # nothing is written meanwhile
        for _ in range(5):
            writer.put("line")
    writer.close()
    assert writer.dropped == 3
    assert '"count":3' in kept[-1]


AT_EXIT = """
import structlog
from model_gateway.config.schema import LoggingConfig
from model_gateway.telemetry import logs
logs.configure(LoggingConfig(), text=True)
structlog.get_logger().info("last words")
"""


def test_console_goes_to_stderr_and_is_flushed_at_exit() -> None:
    ended = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == ""
    assert "last words" in ended.stderr
