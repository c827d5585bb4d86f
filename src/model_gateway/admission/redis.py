"""A key's use over several machines, counted in Redis (or Valkey): exact over all who ask the same one.

The sliding log of window.py in slices of a tenth of a second, by the clock of the Redis server. Decides what happens
while it does not answer: `when_unavailable`. A request waits for it `PATIENCE_S` at most; after a failure nobody asks
for `REST_S`. What this process counts for itself (limits.py) is asked before, and still counts then. What was let in
meanwhile is told to Redis as soon as it is back, with the next question or by itself: it counts from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, Literal

import msgspec
import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from model_gateway.admission.asking import Asking, Script
from model_gateway.admission.limits import Quota, busy, too_many_requests, too_many_tokens
from model_gateway.admission.scripts import END, ENTER, OWED, PARTS, RESERVE
from model_gateway.admission.window import WINDOW_S, Level
from model_gateway.domain.caller import Caller, Limits
from model_gateway.domain.errors import Overloaded
from model_gateway.domain.record import Record, used_tokens

PATIENCE_S: Final = 0.25
REST_S: Final = 1.0
CONNECTIONS: Final = 2
MOST_WAITING: Final = 10_000
"""Ends of requests that wait to be told; those beyond are forgotten by Redis in their own time."""

MOST_TOLD: Final = 500
"""Requests let in without asking that are told with one question."""

TELL_S: Final = 0.2

Policy = Literal["fail_open", "fail_closed", "local_share"]

_log = structlog.get_logger("model_gateway.limits")


class _Held(msgspec.Struct):
    """What one request has taken. `slice`: where its tokens are counted; `unasked`: they are not yet."""

    name: str
    limits: Limits
    slice: int = -1
    tokens: int = 0
    unasked: bool = False


class RedisLimits:
    """`run` beside everything else; `enter` and `reserve` for each limited request, `close` when it is over."""

    def __init__(
        self,
        url: str,
        *,
        policy: Policy,
        instances: int,
        life_s: float,
        own: Callable[[str], Quota | None],
        prefix: str = "model-gateway:limits",
    ) -> None:
        """`life_s`: how long a request may last; `own`: what this process has counted of a key."""
        pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
            url,
            max_connections=CONNECTIONS,
            timeout=PATIENCE_S,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),  # what was heard too late has been counted: to ask again would count it twice
        )
        self._asking = Asking(Redis.from_pool(pool), 2 * PATIENCE_S)
        self._policy: Policy = policy
        self._instances = instances
        self._life_ms = int(life_s * 1000)
        self._own = own
        self._prefix = prefix
        self._held: dict[str, _Held] = {}
        self._levels: dict[str, Quota] = {}
        self._keys: dict[str, list[str]] = {}  # of each name, in Redis
        self._ends: asyncio.Queue[tuple[_Held, str, int, float]] = asyncio.Queue(MOST_WAITING)
        self._owed: dict[str, dict[str, float]] = {}  # of a key's name: who was let in unasked, and when
        self._away_until = 0.0
        self.last_error = ""

    async def enter(self, caller: Caller, record: Record) -> None:
        """One more request of this caller. Raises RateLimited, and Overloaded where the policy says so."""
        limits, name = caller.limits, caller.key_name
        if limits is None or not (limits.requests_per_minute or limits.tokens_per_minute or limits.max_concurrent):
            return
        owed = self._owed_by(name)
        arguments = [limits.max_concurrent, limits.requests_per_minute, record.uid, self._life_ms, *owed]
        self._held[record.uid] = _Held(name, limits)  # from now on: who leaves before the answer gives its place back
        found = await self._ask(ENTER, name, arguments)
        if found is None:
            self._by_policy(name, limits)
            if limits.requests_per_minute:
                self._owed.setdefault(name, {})[record.uid] = time.monotonic()
            return
        self._told(name, owed)
        what, amount, reset_s = found[0], int(found[1]), float(found[2])
        if what != "in":
            del self._held[record.uid]
            raise busy(name, limits) if what == "busy" else too_many_requests(name, limits, reset_s)
        if limits.requests_per_minute:
            known = self._levels.get(name)
            level = Level(limits.requests_per_minute, amount, reset_s)
            self._levels[name] = Quota(level, known.tokens if known is not None else None)

    async def reserve(self, record: Record, tokens: int) -> None:
        """Before a provider is asked. Raises RateLimited, and InvalidRequest for more than a minute ever has."""
        held = self._held.get(record.uid)
        if held is None or not held.limits.tokens_per_minute:
            return
        name, limits = held.name, held.limits
        found = await self._ask(RESERVE, name, [limits.tokens_per_minute, tokens, record.uid])
        if found is None:
            self._by_policy(name, limits)
            held.unasked = True
            return
        what, amount, extra = found[0], int(found[1]), float(found[2])
        if what == "wait":
            raise too_many_tokens(name, limits, tokens, extra)
        held.slice, held.tokens = int(extra), tokens
        known = self._levels.get(name)
        level = Level(limits.tokens_per_minute, amount, 60.0)
        self._levels[name] = Quota(known.requests if known is not None else None, level)

    def close(self, record: Record) -> None:
        """The request is over: its place is free, and its tokens count as they were used."""
        held = self._held.pop(record.uid, None)
        if held is not None:
            used = used_tokens(record)
            with contextlib.suppress(asyncio.QueueFull):
                self._ends.put_nowait((held, record.uid, used, time.monotonic()))

    def quota(self, name: str) -> Quota | None:
        """What the key had left when it was last asked."""
        return self._levels.get(name)

    async def run(self) -> None:
        """Tells Redis what is over and what it was not asked, and looks whether it is back."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_ends())
            group.create_task(self._tell_owed())

    async def _tell_ends(self) -> None:
        while True:
            ended = [await self._ends.get()]
            while len(ended) < MOST_TOLD and not self._ends.empty():
                ended.append(self._ends.get_nowait())
            await asyncio.gather(*(self._tell_end(*each) for each in ended))

    async def _tell_end(self, held: _Held, uid: str, used: int, ended: float) -> None:
        more = used - held.tokens if held.slice >= 0 else used if held.unasked else 0
        if more or held.limits.max_concurrent:
            # More than was reserved is known only now, and so counted from now on, whether it fits or not.
            place = str(held.slice) if held.slice >= 0 else ""
            await self._tell(END, held.name, [uid, more, place], ended + WINDOW_S)

    async def _tell(self, script: Script, name: str, arguments: list[Any], until: float) -> None:
        """Until it is heard, or has left the window."""
        while True:
            if await self._ask(script, name, arguments) is not None or time.monotonic() > until:
                return
            await asyncio.sleep(TELL_S)

    async def _tell_owed(self) -> None:
        """For names of which nobody asks any more."""
        while True:
            await asyncio.sleep(TELL_S)
            for name in tuple(self._owed):
                owed = self._owed_by(name)
                if owed and await self._ask(OWED, name, owed) is not None:
                    self._told(name, owed)

    def _owed_by(self, name: str) -> list[str]:
        """Who of this key's requests Redis has to hear of, the oldest first; what has left the window is dropped."""
        found = self._owed.get(name)
        if not found:
            return []
        since = time.monotonic() - WINDOW_S
        self._told(name, [uid for uid, at in found.items() if at < since])
        return list(islice(found, MOST_TOLD))

    def _told(self, name: str, uids: list[str]) -> None:
        found = self._owed.get(name)
        if found is not None:
            for uid in uids:
                found.pop(uid, None)
            if not found:
                del self._owed[name]

    async def aclose(self) -> None:
        await self._asking.aclose()

    async def _ask(self, script: Script, name: str, arguments: list[Any]) -> list[Any] | None:
        """None: it does not answer."""
        if time.monotonic() < self._away_until:
            return None
        try:
            answer: list[Any] = await self._asking.ask(script, self._keys_of(name), arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + REST_S
            text = str(error) or type(error).__name__
            if not self.last_error:
                _log.error("the limits' Redis does not answer", error=text, policy=self._policy)
            self.last_error = text
            return None
        if self.last_error:
            _log.info("the limits' Redis answers again")
            self.last_error = ""
        return answer

    def _keys_of(self, name: str) -> list[str]:
        known = self._keys.get(name)
        if known is None:
            if len(self._keys) >= MOST_WAITING:
                self._keys.clear()
            known = self._keys[name] = [f"{self._prefix}:{{{name}}}:{part}" for part in PARTS]
        return known

    def _by_policy(self, name: str, limits: Limits) -> None:
        """Nobody knows what the others have let in. This process's own count has let it pass."""
        if self._policy == "fail_closed":
            raise Overloaded("the limits' Redis does not answer, and nothing is let in without it", retry_after_s=1)
        quota = self._own(name) if self._policy == "local_share" else None
        if quota is None:
            return
        for level, error in ((quota.requests, too_many_requests), (quota.tokens, too_many_requests)):
            if level is not None and level.limit - level.remaining > max(1, level.limit // self._instances):
                raise error(name, limits, level.reset_s)
