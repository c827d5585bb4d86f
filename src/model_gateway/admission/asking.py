"""Questions to Redis, many in one: what is asked while another batch is on its way goes together with the next.

A round trip costs this process far more than what is asked in it, and so does the text of a script: each is known to
Redis by its digest, and sent only where it is not. Whoever asks may leave; the question is asked all the same. Decides
nothing about answers, and how long to wait is the caller's to say.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

MOST: Final = 256
"""Questions in one batch."""


class Script:
    """`text` in Lua."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324  by which Redis knows it


class _Question(NamedTuple):
    script: Script
    keys: Sequence[str]
    arguments: Sequence[Any]
    answer: asyncio.Future[Any]


class Asking:
    """`patience_s`: for one batch. Closes the connections it was given."""

    def __init__(self, redis: Redis, patience_s: float) -> None:
        self._redis = redis
        self._patience_s = patience_s
        self._waiting: list[_Question] = []
        self._sender: asyncio.Task[None] | None = None

    async def ask(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What the script answers. Raises RedisError, OSError or TimeoutError, as all that wait do then."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Question(script, keys, arguments, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send(), name="limits-questions")
        return await answer

    async def aclose(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        await self._redis.aclose()

    async def _send(self) -> None:
        batch: list[_Question] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                async with asyncio.timeout(self._patience_s):
                    answers = await self._batch(batch)
                for question, answer in zip(batch, answers, strict=True):
                    _set(question.answer, answer)
        except (RedisError, OSError, TimeoutError) as error:
            waiting, self._waiting = [*batch, *self._waiting], []
            for question in waiting:
                _set(question.answer, error)
        except BaseException:
            waiting, self._waiting = [*batch, *self._waiting], []
            for question in waiting:
                question.answer.cancel()
            raise
        finally:
            self._sender = None

    async def _batch(self, batch: Sequence[_Question]) -> list[Any]:
        answers = await self._asked(batch)
        unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            told = await self._asked([batch[place] for place in unknown], texts=True)
            for place, answer in zip(unknown, told, strict=True):
                answers[place] = answer
        return answers

    async def _asked(self, batch: Sequence[_Question], *, texts: bool = False) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for script, keys, arguments, _ in batch:
                if texts:
                    pipe.eval(script.text, len(keys), *keys, *arguments)
                else:
                    pipe.evalsha(script.digest, len(keys), *keys, *arguments)
            return await pipe.execute(raise_on_error=False)


def _set(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return  # whoever asked has gone
    if isinstance(answer, BaseException):
        future.set_exception(answer)
        future.exception()  # known: nobody is told that it was never looked at
    else:
        future.set_result(answer)
