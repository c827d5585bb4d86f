"""Instructions of each step of one request, in one process, without sockets: where a request's price lies.

    .venv/bin/python bench/steps.py            with key, limits and budgets
    .venv/bin/python bench/steps.py --bare     without
    .venv/bin/python bench/steps.py --targets 10   where there is a choice
    .venv/bin/python bench/steps.py --once     each once, without counting

Each step runs alone in a loop under callgrind, and the count of a shorter loop is taken off. The same code gives the
same figures to 2 % in half a minute, however busy the machine is. Their sum is less than a request takes: waiting,
writing to sockets, the event loop and the ledger's thread come to it. Needs valgrind with its headers, and cc.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import uvloop
from systems import ACCOUNTS, BUILD, GATEWAY, HERE, KEY

from model_gateway.budget.charges import expected
from model_gateway.cohort import Cohort
from model_gateway.config.load import load
from model_gateway.domain.caller import Caller
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.record import Record
from model_gateway.pb.gateway_pb2 import ModelRequest
from model_gateway.providers.connection import UpstreamConnection
from model_gateway.server.grpc.metadata import decode_request
from model_gateway.server.grpc.service import GatewayService
from model_gateway.server.http.door import ChatDoor
from model_gateway.server.http.openai import OpenAIDialect
from model_gateway.server.http.options import credential_of
from model_gateway.server.http.protocol import HttpConnection
from model_gateway.server.http.request import Limits, Request
from model_gateway.serving import Serving
from model_gateway.telemetry import logs

COUNTS = "MODEL_GATEWAY_COUNTS"  # the folder of callgrind's files, where this runs under it
SHORT, LONG, WARM = 50, 250, 100
PROMPT = "Explain what a black hole is in one sentence, number 12.%d. Compare renting and buying a flat for a family."
BODY = '{"model":"auto","max_tokens":512,"messages":[{"role":"user","content":"%s"}]}'
ANSWER = (
    b'{"id":"chatcmpl-mock","object":"chat.completion","created":1700000000,"model":"mock-model","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"A black hole is a region of spacetime where gravity is so strong that '
    b'nothing, not even light, can escape it."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":24,"completion_tokens":21,"total_tokens":45}}'
)
MORE = (
    "  p{number}: {{base_url: http://127.0.0.1:9/v1, default_model: model-{number}, supported_model_types: "
    "[local, hybrid, remote], max_concurrent_queries: 10000, price_per_million_input: 0.5, "
    "price_per_million_output: 1.5}}\n"
)
Step = Callable[[int], object]


class Counter:
    """`count` says what one call costs; calls are numbered, so that each may have its own request."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._callgrind = ctypes.CDLL(str(BUILD / "counters.so"))
        self._callgrind.begin()
        self._loop = self._of(lambda _: None)

    def count(self, step: Step) -> float:
        return self._of(step) - self._loop

    def _of(self, step: Step) -> float:
        for number in range(WARM):
            step(number)
        gc.collect()
        gc.disable()
        counts = [self._instructions(step, times) for times in (SHORT, LONG)]
        gc.enable()
        return (counts[1] - counts[0]) / (LONG - SHORT)

    def _instructions(self, step: Step, times: int) -> int:
        before = set(self._folder.glob("counts.*"))
        self._callgrind.zero()
        for number in range(times):
            step(number)
        self._callgrind.dump()
        (written,) = set(self._folder.glob("counts.*")) - before
        found = re.search(r"^(?:totals|summary): (\d+)", written.read_text(errors="replace"), re.MULTILINE)
        return int(cast(re.Match[str], found)[1])


class Client:
    """A transport that throws away what is written to it."""

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int) -> None: ...


class Received(HttpConnection):
    """Keeps the request instead of answering it."""

    last: Request

    def _begin(self, request: Request) -> None:
        self.last = request


def driven(work: Coroutine[Any, Any, Any], *events: Callable[[], object]) -> Any:
    """What `work` returns, which waits as many times as there are events."""
    try:
        work.send(None)
        for event in events:
            event()
            work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for more")


class Steps:
    """One request after the other through the parts of `serving`, in the order of pipeline.py."""

    def __init__(self, serving: Serving, loop: asyncio.AbstractEventLoop, key: str) -> None:
        self.gateway = cast(Any, serving.gateway)  # its steps are its own affair, but for this
        self.provider = cast(Any, serving.registry.providers["mock"])
        self.dispatcher, self.ledger = serving.generation.dispatcher, serving.ledger
        self.door = ChatDoor("http", serving.gateway, OpenAIDialect())
        limits = Limits(32_768, 10 << 20, 10.0, 30.0, 75.0)
        self.http = Received(loop, cast(Any, None), cast(Any, None), limits, set(), Cohort())
        self.http.connection_made(cast(Any, Client()))
        self.upstream = UpstreamConnection(loop, 32 << 20, Cohort())
        self.upstream.connection_made(cast(Any, Client()))
        self.upstream.idle_since = loop.time() + 3_600
        self.provider._keys.endpoints[0].idle.append(self.upstream)
        bearer = f"Authorization: Bearer {key}\r\n" if key else ""
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{bearer}"
        bodies = [BODY % (PROMPT % number)[:100] for number in range(LONG)]
        self.wire = [f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode() for body in bodies]
        self.reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)

    def before(self) -> list[tuple[str, Step]]:
        """To the route; leaves behind what the steps after it need."""
        gateway, door, http = self.gateway, self.door, self.http
        requests = [self._received(data) for data in self.wire]
        credential = credential_of(requests[0])
        self.requests = requests
        self.records: list[Record] = [gateway.journal("http", "").record for _ in requests]
        caller: Caller = gateway.admit(credential, self.records[0])
        self.chats: list[ChatRequest] = [door.dialect.decode(request, "id") for request in requests]
        chats, records, view = self.chats, self.records, gateway._view_of(caller)
        self.keys: list[bytes] = [gateway._cache_key(chat, caller, view) for chat in chats]
        standing = [gateway._judge.stand(*pair) for pair in zip(chats, records, strict=True)]
        questions = [gateway._question(chats[n], records[n], view, standing[n]) for n in range(LONG)]
        self.routes = [gateway._routed(questions[n], records[n], chats[n]) for n in range(LONG)]

        queries = [ModelRequest(query=chat.query()).SerializeToString() for chat in chats]
        explained = [decode_request(ModelRequest.FromString(query), "id") for query in queries]

        def admitted(n: int) -> None:
            gateway.admit(credential_of(requests[n]), records[n])
            if records[n].lease is not None:
                records[n].lease.close(0)

        held = gateway.journal("http", "").record
        gateway.admit(credential, held)

        def reserved(n: int) -> None:
            if held.lease is not None:
                held.lease.reserve(expected(chats[n], "mock-model", questions[n].input_tokens, 512, 1))
                held.lease._limiter.settle(held.lease)

        return [
            ("reading the request's bytes", lambda n: http.data_received(self.wire[n])),
            ("opening the record", lambda _: gateway.journal("http", "")),
            ("admission: key, limits", admitted),
            ("decoding the body", lambda n: door.dialect.decode(requests[n], "id")),
            ("guard", lambda n: gateway._begin(chats[n], records[n], view)),
            ("the cache's key", lambda n: gateway._cache_key(chats[n], caller, view)),
            ("looking it up", lambda n: gateway._cached(chats[n], self.keys[n], records[n])),
            ("judging", lambda n: gateway._judge.stand(chats[n], records[n])),
            ("route", lambda n: gateway._routed(
                gateway._question(chats[n], records[n], view, standing[n]), records[n], chats[n])),
            ("(limits) reserving tokens", reserved),
            ("(gRPC) decoding", lambda n: decode_request(ModelRequest.FromString(queries[n]), "id")),
            ("(gRPC) judging, explained", lambda n: gateway._judge.stand(explained[n], records[n])),
        ]  # fmt: skip

    def after(self) -> list[tuple[str, Step]]:
        chats, records, provider, settler = self.chats, self.records, self.provider, self.gateway._settler
        target = next(target for target in self.gateway.targets if target.provider == "mock")
        whole = self.reply + ANSWER
        reply = provider._adapter.decode(ANSWER)
        wire = provider.encode(chats[0], "mock-model")

        def asked(n: int) -> None:
            records[n].attempts.clear()
            work = self.dispatcher.complete(chats[n], (target,), records[n], 1e12)
            driven(work, lambda: self.upstream.data_received(whole))

        service = GatewayService(self.gateway)
        answered = self.gateway.journal("grpc", "").record
        judged = self.gateway.assess(chats[0].query())
        answered.score, answered.factors = judged.score, judged.factors

        def told(_: int) -> None:
            service._response("", answered, "stop", reply).SerializeToString()

        def noted(n: int) -> None:
            cast(Any, self.ledger).intend(records[n], target)
            records[n].journaled = ()

        steps: list[tuple[str, Step]] = [
            ("intent in the journal", noted),
            ("asking: dispatcher, connection, reply", asked),
            ("  of it the connection and the reply", lambda _: driven(
                provider.complete(wire, 600.0), lambda: self.upstream.data_received(whole))),
            ("settling", lambda n: settler.settle(target, reply.usage, records[n], chats[n], reply.text)),
            ("storing in the cache", lambda n: settler.remember(chats[n], self.keys[n], reply, target, records[n])),
            ("writing the reply", lambda n: self.door._send_reply(
                reply, chats[n], self.requests[n], self.http, records[n])),
            ("(gRPC) writing the reply", told),
            ("log line", lambda n: logs.log_request(records[n])),
        ]  # fmt: skip
        observers = [observe for observe in self.gateway.observers if observe is not logs.log_request]
        return steps + [
            (f"closing: {observe.__qualname__}", cast(Step, lambda n, observe=observe: observe(records[n])))
            for observe in observers
        ]

    def _received(self, data: bytes) -> Request:
        self.http.data_received(data)
        return self.http.last


def called(step: Step) -> float:
    step(0)
    return 1


async def measure(folder: Path, *, bare: bool, targets: int, once: bool) -> None:
    ports = {"grpc": 0, "http": 0, "control": 0, "upstream": 9}
    more = "".join(MORE.format(number=number) for number in range(1, targets))
    text = GATEWAY.format(folder=folder, providers=more, flush_ms=600_000, database="", redis="", **ports)
    config = folder / "gateway.yaml"
    config.write_text(text if bare else text + ACCOUNTS)
    serving = Serving(load(config, {}, folder).config)
    await serving.begin()
    steps = Steps(serving, asyncio.get_running_loop(), "" if bare else KEY)
    count = called if once else Counter(folder).count
    for listed in (steps.before, steps.after):
        for name, step in listed():
            print(f"{count(step):10,.0f}  {name}", flush=True)
    os._exit(0)  # nothing of this is to be kept


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bare", action="store_true", help="without key, limits and budgets")
    options.add_argument("--targets", type=int, default=1, help="of `auto`")
    options.add_argument("--once", action="store_true", help="call each step once, without counting")
    given = options.parse_args()
    if COUNTS in os.environ:
        how = {"bare": given.bare, "targets": given.targets, "once": given.once}
        uvloop.run(measure(Path(os.environ[COUNTS]), **how))
    if not given.once:
        BUILD.mkdir(exist_ok=True)
        library = ["cc", "-O2", "-shared", "-fPIC", "-o", str(BUILD / "counters.so"), str(HERE / "counters.c")]
        subprocess.run(library, check=True)
    with tempfile.TemporaryDirectory(prefix="model-gateway-steps-") as folder:
        counting = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/counts"]
        command = [*([] if given.once else counting), sys.executable, *sys.argv]
        environment = {**os.environ, COUNTS: folder, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"it failed:\n{done.stderr[-4_000:]}")


if __name__ == "__main__":
    main()
