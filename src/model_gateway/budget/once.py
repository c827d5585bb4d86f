"""Requests with an idempotency key: answered once and charged once, however often they are repeated, and wherever.

The first of them is asked; repetitions wait for its answer and get the same, for `ttl_s` seconds. The answer is stored
before its caller has it, and a call whose caller leaves goes on to its end. A request that failed may be repeated, and
is asked anew. Decides who asks; never what is asked. Without the database nothing can be promised: it is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec
import structlog
from sqlalchemy import Connection

from model_gateway.budget import answers
from model_gateway.budget.ledger import Ledger
from model_gateway.domain.caller import Caller
from model_gateway.domain.chat import ChatChunk, ChatReply
from model_gateway.domain.errors import InvalidRequest, Overloaded
from model_gateway.domain.record import Record
from model_gateway.domain.usage import Usage

T = TypeVar("T")

LEASE_S = 15.0
"""After so many seconds without a sign whoever answers is taken for dead. Machines' clocks must agree better."""

BEAT_S = 4.0
_FORGET_S = 60.0
_FIRST_LOOK_S, _LOOKS_S = 0.01, 0.25
MAX_ANSWER_BYTES = 8 * 1024 * 1024
PARAM = "Idempotency-Key"
_MAX_KEY_CHARACTERS = 255

_log = structlog.get_logger(__name__)


class KeptChunk(msgspec.Struct, frozen=True, array_like=True):
    """As ChatChunk, for what came from a provider."""

    data: bytes
    text: str
    finish_reason: str | None
    usage: Usage | None
    plain: bool
    usage_only: bool


class Kept(msgspec.Struct, frozen=True):
    """An answer, and who gave it: whole, or the chunks of a stream in `protocol`."""

    provider: str
    model: str
    tier: str
    usage: Usage | None
    reply: ChatReply | None = None
    protocol: str = ""
    chunks: list[KeptChunk] = []

    def note(self, record: Record) -> None:
        record.cache = "repeated"
        record.provider, record.model, record.tier, record.usage = self.provider, self.model, self.tier, self.usage

    def whole(self) -> ChatReply:
        assert self.reply is not None  # noqa: S101  a fingerprint tells streams from whole replies
        return self.reply


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Kept).decode


class Ticket:
    """The claim of one request that is being answered; on its record until that closes."""

    def __init__(self, once: Once, key: str, uid: str) -> None:
        self.key = key
        self.uid = uid
        self._once = once
        self._kept = False

    async def keep(self, record: Record, reply: ChatReply) -> None:
        await self._keep(Kept(record.provider, record.model, record.tier, reply.usage, reply))

    async def keep_stream(self, record: Record, protocol: str, chunks: list[ChatChunk]) -> None:
        kept = [KeptChunk(c.data, c.text, c.finish_reason, c.usage, c.plain, c.usage_only) for c in chunks]
        await self._keep(Kept(record.provider, record.model, record.tier, record.usage, None, protocol, kept))

    async def _keep(self, kept: Kept) -> None:
        answer = _encode(kept)
        if len(answer) > MAX_ANSWER_BYTES:
            _log.warning("an answer is too large to be kept for repetitions", uid=self.uid, bytes=len(answer))
            return
        self._kept = True  # before anything is awaited: whoever leaves now must not have it released
        await self._once.keep(self, answer)

    def close(self) -> None:
        """The request is over. Unless its answer is kept, whoever repeats it asks anew."""
        self._once.closed(self, released=not self._kept)


class Once:
    """`run` is to be kept running. `wall_clock`: epoch seconds; `ttl_s`: how long answers are kept."""

    def __init__(self, ledger: Ledger, wall_clock: Callable[[], float], ttl_s: float) -> None:
        self._ledger = ledger
        self._clock = wall_clock
        self._ttl_s = ttl_s
        self._open: dict[str, Ticket] = {}  # by uid
        self._work: set[asyncio.Task[None]] = set()

    async def begin(self, key: str, fingerprint: bytes, caller: Caller, record: Record, wait_s: float) -> Kept | None:
        """The answer, if it was given before; None: it is to be asked, and the record has its ticket.

        Waits up to `wait_s` seconds while another is at it. Raises InvalidRequest where the key was used for another
        request, Overloaded where no answer came in that time or the database does not answer.
        """
        name = _digest(caller.tenant, caller.key_name, key)
        ticket = Ticket(self, name, record.uid)
        loop = asyncio.get_running_loop()
        deadline, look_s = loop.time() + wait_s, _FIRST_LOOK_S
        while True:
            found = await self._claim(ticket, fingerprint.hex())
            if found.mine:
                self._open[record.uid] = ticket
                record.ticket = ticket
                return None
            if found.fingerprint != fingerprint.hex():
                raise InvalidRequest(
                    f"this {PARAM} was used for another request: use a new one for every request", param=PARAM
                )
            if found.answer is not None:
                kept = _decode(found.answer)
                kept.note(record)
                return kept
            if loop.time() + look_s >= deadline:
                raise Overloaded(
                    f"the first request with this {PARAM} is still being answered", retry_after_s=1, param=PARAM
                )
            await asyncio.sleep(look_s)
            look_s = min(2 * look_s, _LOOKS_S)

    async def _claim(self, ticket: Ticket, fingerprint: str) -> answers.Found:
        now = self._clock()
        try:
            return await self._run(lambda c: answers.claim(c, ticket.key, fingerprint, ticket.uid, now, now + LEASE_S))
        except OSError as error:
            raise Overloaded(
                "the ledger's database does not answer, and without it no request is answered only once",
                retry_after_s=5,
                param=PARAM,
                logged=f"no idempotency: {error}",
            ) from None
        except asyncio.CancelledError:  # it may be claimed, by nobody
            self._later(lambda c: answers.release(c, ticket.key, ticket.uid))
            raise

    async def keep(self, ticket: Ticket, answer: bytes) -> None:
        """Where it cannot be stored its caller gets the answer all the same."""
        until = self._clock() + self._ttl_s
        try:
            if not await self._run(lambda c: answers.keep(c, ticket.key, ticket.uid, answer, until)):
                _log.warning("an answer came so late that another had been asked for it", uid=ticket.uid)
        except OSError as error:
            _log.error("an answer could not be kept for repetitions", uid=ticket.uid, error=str(error))

    def closed(self, ticket: Ticket, *, released: bool) -> None:
        if self._open.pop(ticket.uid, None) is not None and released:
            self._later(lambda c: answers.release(c, ticket.key, ticket.uid))

    async def run(self) -> None:
        """Says every few seconds what is still being answered, and forgets what was kept long enough."""
        loop = asyncio.get_running_loop()
        forget_at = loop.time()
        while True:
            claims = [(ticket.key, ticket.uid) for ticket in self._open.values()]
            now = self._clock()
            if claims:
                await self._tried(lambda c, claims=claims, now=now: answers.renew(c, claims, now + LEASE_S))
            if loop.time() >= forget_at:
                forget_at = loop.time() + _FORGET_S
                await self._tried(lambda c, now=now: answers.forget(c, now))
            await asyncio.sleep(BEAT_S)

    async def close(self) -> None:
        """What is still to be released is."""
        await asyncio.gather(*self._work)

    def _later(self, work: Callable[[Connection], Any]) -> None:
        task = asyncio.get_running_loop().create_task(self._tried(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _tried(self, work: Callable[[Connection], Any]) -> None:
        try:
            await self._run(work)
        except OSError as error:
            _log.warning("repetitions are not served: the database does not answer", error=str(error))

    async def _run(self, work: Callable[[Connection], T]) -> T:
        if not self._ledger.reachable:  # known already: nobody waits for it, nor takes a thread to do so
            raise OSError("the database has not answered")
        return await asyncio.to_thread(self._ledger.run, work)


def checked_key(text: str) -> str:
    """Raises InvalidRequest."""
    if not text or len(text) > _MAX_KEY_CHARACTERS or not text.isprintable():
        raise InvalidRequest(
            f"{PARAM} must have 1 to {_MAX_KEY_CHARACTERS} printable characters, such as a UUID", param=PARAM
        )
    return text


def _digest(*parts: str) -> str:
    """Two lists of parts never give the same."""
    told = b"".join(b"%d:%s," % (len(part.encode()), part.encode()) for part in parts)
    return blake2b(told, digest_size=16).hexdigest()
