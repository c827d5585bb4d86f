"""`ask`: one question to a running gateway over its OpenAI-compatible door, as any client would ask it.

Decides presentation only. The answer goes to stdout as it arrives; how it came about goes to stderr, so that the answer
can be piped. An answer that is cut off is a failure, never a short answer.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, cast
from urllib.parse import urlsplit

import typer

from model_gateway.cli.output import CommandFailed, client_host, factor_lines
from model_gateway.cli.trust import Trust, remedy_for
from model_gateway.config.errors import ConfigError
from model_gateway.config.load import load
from model_gateway.wire.sse import EventTooLarge, SseParser

_DEFAULT_URL: Final = "http://127.0.0.1:8080"
_SILENCE_S: Final = 600.0
_START: Final = "start it with `make run` or `model-gateway serve`"

# A model's words must not move the cursor or retitle the window.
_UNSAFE: Final = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


@dataclass(frozen=True, slots=True)
class Question:
    """`budget` in USD."""

    text: str
    url: str
    model: str
    key: str
    max_tokens: int | None
    system: str | None
    budget: float | None
    trust: Trust


def default_url() -> str:
    """Where the gateway of this folder's configuration listens."""
    try:
        server = load(None, os.environ, Path.cwd()).config.server
    except ConfigError:
        return _DEFAULT_URL  # a mistake in the server's configuration does not keep a client from asking
    return f"{'https' if server.tls.cert else 'http'}://{client_host(server.host)}:{server.http_port or 8080}"


def ask_json(question: Question) -> None:
    """The whole reply with its `gateway` object, as JSON. Raises CommandFailed."""
    with closing(_connect(question)) as connection:
        response = _send(connection, question, stream=False)
        try:
            reply = _decode(response.read())
        except (OSError, http.client.HTTPException) as error:
            _lost(question.url, error)
        typer.echo(json.dumps(reply, ensure_ascii=False, indent=2))


def ask(question: Question) -> None:
    """The answer as it arrives, then its details. Raises CommandFailed."""
    started_s = time.monotonic()
    first_s: float | None = None
    details: dict[str, Any] = {}
    with closing(_connect(question)) as connection:
        response = _send(connection, question, stream=True)
        try:
            for chunk in _chunks(response, question.url):
                details = chunk.get("gateway") or details
                text = "".join(choice.get("delta", {}).get("content") or "" for choice in chunk.get("choices") or ())
                if text:
                    first_s = first_s or time.monotonic() - started_s
                    typer.echo(text.translate(_UNSAFE) if sys.stdout.isatty() else text, nl=False)
        finally:
            if first_s is not None:
                typer.echo()  # whatever comes next begins on its own line
    for line in describe(details, time.monotonic() - started_s, first_s):
        typer.echo(line, err=True)


def describe(details: dict[str, Any], total_s: float, first_s: float | None) -> Iterator[str]:
    """The `gateway` object in lines; times as this client measured them."""
    if not details:
        return
    usage: dict[str, Any] = details.get("usage") or {}
    tokens = f"  ({usage.get('input_tokens', 0)} tokens in, {usage.get('output_tokens', 0)} out)" if usage else ""
    tier, asked = details.get("tier") or "-", details.get("asked_tier")
    notes = (f"(asked for {asked})" if asked and asked != tier else "", details.get("route_reason") or "")
    yield ""
    yield "  ".join((f"tier   {tier}", *(note for note in notes if note)))
    score = details.get("score")
    if score is not None:
        yield f"score  {score:.3f}"
        factors = (
            (f["name"], f["value"], f["contribution"], f.get("detail", "")) for f in details.get("factors") or ()
        )
        yield from (f"         {line}" for line in factor_lines(factors))
    yield f"model  {details.get('provider') or '-'} / {details.get('model') or '-'}"
    yield f"cost   ${details.get('cost_usd') or 0:.6f}{tokens}"
    yield f"time   {total_s:.2f} s{f', first words after {first_s:.2f} s' if first_s is not None else ''}"
    yield f"cache  {details.get('cache') or 'off'}"
    attempts: list[dict[str, Any]] = details.get("attempts") or []
    if len(attempts) > 1:
        yield "tried  " + ", ".join(f"{a.get('provider')} / {a.get('model')}: {a.get('outcome')}" for a in attempts)


def _connect(question: Question) -> http.client.HTTPConnection:
    url = question.url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise typer.BadParameter(f"{url!r} is not a web address such as {_DEFAULT_URL}", param_hint="--url")
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=_SILENCE_S, context=question.trust.context())
    return http.client.HTTPConnection(host, port, timeout=_SILENCE_S)


def _send(connection: http.client.HTTPConnection, question: Question, *, stream: bool) -> http.client.HTTPResponse:
    """POST the question. Raises CommandFailed unless the gateway answers 200."""
    messages = [{"role": "system", "content": question.system}] if question.system else []
    messages.append({"role": "user", "content": question.text})
    body: dict[str, Any] = {"model": question.model, "messages": messages, "stream": stream}
    if question.max_tokens is not None:
        body["max_tokens"] = question.max_tokens
    headers = {"Content-Type": "application/json", "x-gateway-details": "1"}
    if question.key:
        headers["Authorization"] = f"Bearer {question.key}"
    if question.budget is not None:
        headers["x-gateway-budget-usd"] = f"{question.budget:.9f}"
    path = urlsplit(question.url).path.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
    try:
        connection.request("POST", path, json.dumps(body).encode(), headers)
        response = connection.getresponse()
        if response.status == 200:
            return response
        raw = response.read()
    except ConnectionRefusedError:
        raise CommandFailed(f"no gateway listens at {question.url}", _START) from None
    except ValueError:
        raise typer.BadParameter("holds a character that no header may carry", param_hint="--key") from None
    except (OSError, http.client.HTTPException) as error:
        _lost(question.url, error)
    remedy = "pass your key with --key or in MODEL_GATEWAY_KEY" if response.status == 401 else ""
    raise CommandFailed(f"{_message(_decode(raw))} (HTTP {response.status})", remedy)


def _chunks(response: http.client.HTTPResponse, url: str) -> Iterator[dict[str, Any]]:
    """The stream's chunks up to its end marker. Raises CommandFailed for an error inside it and for a missing end."""
    parser = SseParser()
    while True:
        try:
            data = response.read1(65536)
            events = parser.feed(data)
        except (OSError, http.client.HTTPException, EventTooLarge) as error:
            _lost(url, error)
        if not data:
            raise CommandFailed("the answer was cut off: the stream ended without its end marker", "ask again")
        for event in events:
            if event == b"[DONE]":
                return
            chunk = _decode(event)
            if "error" in chunk:
                raise CommandFailed(_message(chunk))
            yield chunk


def _decode(raw: bytes) -> dict[str, Any]:
    try:
        value: object = json.loads(raw)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CommandFailed("what answered does not speak the gateway's protocol", "check --url")
    return cast("dict[str, Any]", value)


def _message(body: dict[str, Any]) -> str:
    error: object = body.get("error")
    message: object = cast("dict[str, object]", error).get("message") if isinstance(error, dict) else error
    return " ".join(str(message or "the gateway refused without a reason").split()).translate(_UNSAFE)


def _lost(url: str, error: Exception) -> NoReturn:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise CommandFailed(f"the connection to {url} failed: {reason}", remedy_for(error, _START)) from None
