"""The tiers of named conversations over several machines, in Redis (or Valkey). One question a request, asked before
it is routed.

Where it does not answer within `PATIENCE_S` this machine's own memory counts, and nobody asks for `REST_S`: a slow
Redis never holds a request.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from model_gateway.domain.route import TIERS, Tier

PATIENCE_S: Final = 0.1
REST_S: Final = 1.0
CONNECTIONS: Final = 16

# The tier is kept as its place, 0 the cheapest. KEYS: the conversation. ARGV: the tier now, seconds to keep, "1": the
# first one stays.
_RAISE: Final = """
local known = redis.call('GET', KEYS[1])
local tier = ARGV[1]
if known and (ARGV[3] == '1' or tonumber(known) > tonumber(tier)) then tier = known end
redis.call('SET', KEYS[1], tier, 'EX', ARGV[2])
return tonumber(tier)
"""

_log = structlog.get_logger("model_gateway.sessions")


class RedisSessions:
    def __init__(self, url: str, prefix: str = "model-gateway:session") -> None:
        pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
            url,
            max_connections=CONNECTIONS,
            timeout=PATIENCE_S,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._prefix = prefix
        self._away_until = 0.0
        self.last_error = ""

    async def raised(self, key: int, tier: Tier, ttl_s: int, *, pinned: bool) -> Tier | None:
        """The tier of the conversation, `tier` counted in; None where it is not to be had."""
        if time.monotonic() < self._away_until:
            return None
        arguments = [str(TIERS.index(tier)), str(ttl_s), "1" if pinned else "0"]
        try:
            async with asyncio.timeout(PATIENCE_S):
                place: int = await self._redis.eval(_RAISE, 1, f"{self._prefix}:{key:016x}", *arguments)  # pyright: ignore[reportUnknownMemberType, reportGeneralTypeIssues, reportUnknownVariableType]
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + REST_S
            if not self.last_error:
                _log.warning("the conversations' Redis does not answer: each machine remembers its own for now")
            self.last_error = str(error) or type(error).__name__
            return None
        if self.last_error:
            _log.info("the conversations' Redis answers again")
            self.last_error = ""
        return TIERS[place]

    async def aclose(self) -> None:
        await self._redis.aclose()
