"""Callers of every kind, as many and for as long as is asked: who asks properly, leaves, repeats, or asks for nonsense.

`met` counts what happened to them by kind; what ends in "ok" is what shall happen.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from typing import Any, Final

import grpc
import httpx

from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc

CACHED: Final = 0.2
"""This share of the questions was asked before."""

PAUSE_S: Final = 0.05
"""Of those who open a new connection, leave, or err, between two requests: there are fewer of them."""


class Traffic:
    """`run` until `done` is set; more than once if wanted. `grpc_address`: host:port; `http_url`: without a path."""

    def __init__(self, grpc_address: str, http_url: str, callers: int) -> None:
        self._grpc = grpc_address
        self._http = http_url
        self._chat = f"{http_url}/v1/chat/completions"
        self._callers = callers
        self._random = random.Random(1)
        self._numbers = itertools.count()
        self.met: Counter[str] = Counter()
        self.done = asyncio.Event()

    async def run(self) -> None:
        self.done.clear()
        many = (self._whole, self._streams, self._calls)
        few = (self._new, self._leaves, self._messages, self._repeats, self._errs)
        kinds = [kind for kind in many for _ in range(self._callers)] + list(few)
        await asyncio.gather(*(kind() for kind in kinds))

    def _question(self) -> str:
        number = 0 if self._random.random() < CACHED else next(self._numbers)
        return f"What is {number} plus one?"

    def _body(self, **more: Any) -> dict[str, Any]:
        return {"model": "auto", "messages": [{"role": "user", "content": self._question()}], **more}

    async def _post(
        self, client: httpx.AsyncClient, what: str, url: str, body: dict[str, Any], **headers: str
    ) -> httpx.Response | None:
        try:
            reply = await client.post(url, json=body, headers=headers)
        except httpx.HTTPError as error:
            self.met[f"{what} {type(error).__name__}"] += 1
            return None
        return reply

    def _judge(self, what: str, reply: httpx.Response | None, good: bool) -> None:
        if reply is not None:
            self.met[f"{what} ok" if good else f"{what} {reply.status_code} {reply.text[-200:]}"] += 1

    async def _whole(self) -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            while not self.done.is_set():
                await self._ask(client, "whole")

    async def _new(self) -> None:
        while not self.done.is_set():
            async with httpx.AsyncClient(timeout=30) as client:
                await self._ask(client, "new connection")
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, client: httpx.AsyncClient, what: str) -> None:
        reply = await self._post(client, what, self._chat, self._body())
        good = reply is not None and reply.is_success and reply.json()["choices"][0]["message"]["content"]
        self._judge(what, reply, bool(good))

    async def _streams(self) -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            while not self.done.is_set():
                reply = await self._post(client, "stream", self._chat, self._body(stream=True))
                self._judge("stream", reply, reply is not None and reply.text.rstrip().endswith("[DONE]"))

    async def _calls(self) -> None:
        async with grpc.aio.insecure_channel(self._grpc) as channel:
            stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
            while not self.done.is_set():
                try:
                    await stub.ProcessQuery(pb.ModelRequest(query=self._question()), timeout=30)
                    self.met["call ok"] += 1
                except grpc.aio.AioRpcError as error:
                    self.met[f"call {error.code().name} {error.details()}"] += 1

    async def _leaves(self) -> None:
        """Half of the time before the answer, half of the time within it."""
        while not self.done.is_set():
            async with httpx.AsyncClient(timeout=30) as client:
                try:
                    async with client.stream("POST", self._chat, json=self._body(stream=True)) as reply:
                        async for _ in reply.aiter_raw():
                            break
                    self.met["leaves ok" if reply.is_success else f"leaves {reply.status_code}"] += 1
                    async with asyncio.timeout(0.002):
                        await client.post(self._chat, json=self._body())
                except TimeoutError:
                    self.met["leaves early ok"] += 1
                except httpx.HTTPError as error:
                    self.met[f"leaves {type(error).__name__}"] += 1
            await asyncio.sleep(PAUSE_S)

    async def _messages(self) -> None:
        """Another schema; each from another user, in another conversation."""
        url = f"{self._http}/v1/messages"
        async with httpx.AsyncClient(timeout=30) as client:
            for number in itertools.count():
                if self.done.is_set():
                    return
                body = self._body(max_tokens=50, metadata={"user_id": f"user-{number}"})
                reply = await self._post(client, "message", url, body, **{"x-gateway-session": f"session-{number}"})
                self._judge("message", reply, reply is not None and reply.is_success and bool(reply.json()["content"]))
                await asyncio.sleep(PAUSE_S)

    async def _repeats(self) -> None:
        """Each request twice, with an idempotency key."""
        async with httpx.AsyncClient(timeout=30) as client:
            while not self.done.is_set():
                body, key = self._body(), f"key-{self._random.random()}"
                for _ in range(2):
                    reply = await self._post(client, "repeated", self._chat, body, **{"idempotency-key": key})
                    self._judge("repeated", reply, reply is not None and reply.is_success)
                await asyncio.sleep(PAUSE_S)

    async def _errs(self) -> None:
        """A wrong path, a body that is none, an unknown model, a prompt that may not pass: each another one."""
        wrong = itertools.cycle(
            [
                ("/v1/nothing/{}", {}),
                ("/v1/chat/completions", {"messages": "{}"}),
                ("/v1/chat/completions", {"model": "model-{}", "messages": [{"role": "user", "content": "Hello"}]}),
                ("/v1/chat/completions", {"messages": [{"role": "user", "content": "{} eval(input())"}]}),
            ]
        )
        async with httpx.AsyncClient(timeout=30) as client:
            for number, (path, body) in enumerate(wrong):
                if self.done.is_set():
                    return
                told = {name: value.format(number) if isinstance(value, str) else value for name, value in body.items()}
                reply = await self._post(client, "mistake", self._http + path.format(number), told)
                self._judge("mistake", reply, reply is not None and 400 <= reply.status_code < 500)
                await asyncio.sleep(PAUSE_S)
