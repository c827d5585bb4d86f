"""Logs: decides the format, the level and which facts of a request are told. Never a prompt, a reply or a key.

Everything goes through here: our own events (structlog), those of libraries (logging), and `log_request`, the one line
per request, which has its own short path because it is paid by every request.
"""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from model_gateway.config.schema import LoggingConfig
from model_gateway.domain.alert import AlertEvent
from model_gateway.domain.record import Record
from model_gateway.domain.usage import Usage, usd_from_nano
from model_gateway.telemetry.lines import LineWriter, console_writer, file_writer
from model_gateway.telemetry.mask import mask
from model_gateway.telemetry.outcome import is_failure

_LEVELS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}
_NO_USAGE = Usage()
_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder(enc_hook=str).encode


class RequestLine(msgspec.Struct, omit_defaults=True):
    """A request in the JSON log. Times in milliseconds; what has a default is told only where it says something."""

    timestamp: str
    level: str
    event: str
    request_id: str
    status: str
    door: str
    provider: str
    model: str
    tier: str
    score: float | None
    input_tokens: int
    output_tokens: int
    cost_usd: float
    processing_time_ms: float
    first_token_ms: float | None = None
    cache: str = ""
    attempts: int = 0
    tenant: str = ""
    key_name: str = ""
    error: str = ""
    cascade: str = ""


class _State:
    """What `configure` set up: one per process, as logging is."""

    writer: LineWriter | None = None
    level: int = logging.CRITICAL + 1
    text: bool = False
    handler: logging.Handler | None = None


_state = _State()


def configure(config: LoggingConfig, *, text: bool = False) -> None:
    """Send all logs where `config` says; `text` overrides its format. A second call replaces the first.

    Raises StartupError where the log file cannot be written.
    """
    writer = file_writer(config.file) if config.destination == "file" else console_writer()
    shutdown()
    level = _LEVELS[config.level]
    _state.writer, _state.text = writer, text or config.format == "text"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        if _state.text
        else structlog.processors.JSONRenderer(serializer=_to_json)
    )
    structlog.configure(
        processors=[*shared, renderer, _mask_line],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Output(writer.put),
        cache_logger_on_first_use=False,  # loggers are module constants: they must follow a second configure()
    )
    handler = _LibraryHandler(writer.put)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer, _mask_line],
        )
    )
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    _state.handler, _state.level = handler, level


def check(config: LoggingConfig) -> None:
    """Would `configure` succeed? Raises StartupError where it would not."""
    if config.destination == "file":
        file_writer(config.file).close()


def flush() -> None:
    """Write what is queued now."""
    if _state.writer is not None:
        _state.writer.flush()


def shutdown() -> None:
    """Write everything and stop; logs go to structlog's defaults again. Runs by itself when the process exits."""
    writer, _state.writer = _state.writer, None
    _state.level = logging.CRITICAL + 1
    if _state.handler is not None:
        logging.getLogger().removeHandler(_state.handler)
        _state.handler = None
    if writer is not None:
        structlog.reset_defaults()
        writer.close()


atexit.register(shutdown)


def log_request(record: Record) -> None:
    """The line of an ended request: level info, or warning where the gateway or a provider failed.

    Costs next to nothing where its level is not logged. Never raises.
    """
    failed = record.status != "ok" and is_failure(record.status)
    if _state.level > (logging.WARNING if failed else logging.INFO):
        return
    writer = _state.writer
    if writer is None:
        return
    line = _line_of(record, "warning" if failed else "info")
    try:
        writer.put(_as_text(line) if _state.text else _encode(line).decode())
    except UnicodeEncodeError:  # half a surrogate pair from a caller
        for name in ("request_id", "error", "tenant", "model"):
            setattr(line, name, getattr(line, name).encode(errors="replace").decode())
        writer.put(_encode(line).decode())


def log_problem(message: str) -> None:
    """Something that an operator must mend."""
    _log.error("problem", detail=message)


def log_alert(event: AlertEvent) -> None:
    """One line where an alert begins and one where it ends, both as warnings: they belong together."""
    _log.warning(
        "alert fired" if event.firing else "alert resolved",
        alert=event.name,
        value=round(event.value, 4),
        limit=round(event.limit, 4),
        detail=event.message,
    )


def _line_of(record: Record, level: str) -> RequestLine:
    usage = record.usage or _NO_USAGE
    return RequestLine(
        _timestamp(record.started_at + record.duration_s),
        level,
        "request",
        # A caller may choose its request ids, and an error may quote what it sent.
        record.request_id if record.request_id == record.uid else mask(record.request_id),
        record.status,
        record.door,
        record.provider,
        record.model,
        record.tier,
        _rounded(record.score, 1e4) if record.score >= 0 else None,
        usage.input_tokens,
        usage.output_tokens,
        usd_from_nano(record.cost_nano),
        _rounded(record.duration_s * 1000, 1e3),
        _rounded(record.first_token_s * 1000, 1e3) if record.first_token_s else None,
        record.cache,
        len(record.attempts),
        record.tenant,
        record.key_name,
        mask(record.error) if record.error else "",
        record.cascade.told() if record.cascade is not None and record.cascade.outcome else "",
    )


def _rounded(value: float, parts: float) -> float:
    """To so many parts of one, for values from 0 up: `round` looks for the nearest decimal, at five times the price."""
    return int(value * parts + 0.5) / parts


def _as_text(line: RequestLine) -> str:
    """`TIME info processing time 12.3 ms request …`: the milliseconds are the fifth word, so that sort -k 5 works."""
    facts = " ".join(
        f"{name}={_plain(value)}"
        for name in RequestLine.__struct_fields__[3:]
        if name != "processing_time_ms" and (value := getattr(line, name)) not in (None, "")
    )
    return f"{line.timestamp} {line.level} processing time {line.processing_time_ms:.1f} ms {line.event} {facts}"


def _plain(value: str | float) -> str:
    """A value that stays one word on one line: a caller's text must not forge a line."""
    text = f"{value:.9f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return text if text.isprintable() and " " not in text and '"' not in text else _encode(text).decode()


_second = (0, "")


def _timestamp(at: float) -> str:
    """Epoch seconds as ISO 8601 in UTC with milliseconds; the date is formatted once a second."""
    global _second
    millis = int(at * 1000)
    whole = millis // 1000
    known, prefix = _second
    if whole != known:
        prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(whole))
        _second = (whole, prefix)
    return "%s%03dZ" % (prefix, millis - whole * 1000)  # noqa: UP031  half of what an f-string takes


def _to_json(event: MutableMapping[str, Any], **_: object) -> str:
    try:
        return _encode(event).decode()
    except UnicodeEncodeError:
        return _encode(repr(event)).decode()


def _mask_line(_logger: object, _method: str, line: EventDict | str) -> str:
    """The last processor of every chain: whatever an event holds, no secret gets past it."""
    return mask(str(line))


class _Output:
    """The end of structlog's chain: every method queues the finished line."""

    def __init__(self, put: Callable[[str], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.exception = self.msg = put


class _LibraryHandler(logging.Handler):
    """The logging module's records, formatted as ours."""

    def __init__(self, put: Callable[[str], None]) -> None:
        super().__init__()
        self._put = put

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._put(self.format(record))
        except Exception:  # noqa: BLE001  a library's broken log call must not break its caller
            self.handleError(record)
