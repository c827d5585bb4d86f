"""May this caller enter now, by this door? The key, its expiry, its doors, its places, its rate: in this order.

Decides before anything of the request is read. What a request costs in tokens is asked later, through its lease.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from model_gateway.admission.keys import KeyRing
from model_gateway.admission.limits import Limiter, Quota, Room, SharedLimits, own_room
from model_gateway.domain.caller import Caller, Credential, Limits, Scope
from model_gateway.domain.errors import GatewayError, PermissionDenied, Unauthenticated
from model_gateway.domain.record import Record, used_tokens


class Gate:
    """`clock`: monotonic, `wall_clock`: epoch seconds. Keys of one name, such as a rotated one, share their limits.

    `rooms`: where the use of a name is counted.
    """

    def __init__(
        self,
        keys: KeyRing,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        rooms: Callable[[str], Room] = own_room,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._wall_clock = wall_clock
        self._rooms = rooms
        self._limiters: dict[str, Limiter] = {}

    def adopt(self, keys: KeyRing) -> None:
        """These keys count from now on. What was used of a name's limits stays used."""
        self._keys = keys

    def admit(self, credential: Credential, record: Record) -> Caller:
        """Notes who it is, takes its place. Raises Unauthenticated, PermissionDenied or RateLimited."""
        caller = self._keys.check(credential)
        record.tenant = caller.tenant
        record.key_name = caller.key_name
        if caller.scope is not None:
            self._check_scope(caller.scope, record.door)
        if caller.limits is not None:
            record.max_queue = caller.limits.max_queue
            record.lease = self._limiter(caller.key_name, caller.limits).enter()
        return caller

    def check(self, credential: Credential, door: str) -> Caller:
        """For requests that only look around: nothing is taken. `door` empty: any."""
        caller = self._keys.check(credential)
        if caller.scope is not None:
            self._check_scope(caller.scope, door)
        return caller

    def quota(self, key_name: str) -> Quota | None:
        """What the key has left; None where it has no limits."""
        limiter = self._limiters.get(key_name)
        return None if limiter is None else limiter.quota()

    def _limiter(self, key_name: str, limits: Limits) -> Limiter:
        limiter = self._limiters.get(key_name)
        if limiter is None:
            limiter = self._limiters[key_name] = Limiter(key_name, limits, self._clock, self._rooms)
        elif limiter.limits is not limits and limiter.limits != limits:
            limiter.adopt(limits)
        return limiter

    def _check_scope(self, scope: Scope, door: str) -> None:
        if scope.expires_at is not None and self._wall_clock() >= scope.expires_at:
            since = datetime.fromtimestamp(scope.expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            raise Unauthenticated(f"the API key expired at {since}: ask the gateway's operator for a new one")
        if door and scope.doors and door not in scope.doors:
            raise PermissionDenied(
                f"this key may not use the door `{door}`; it may use {', '.join(sorted(scope.doors))}"
            )


async def enter_elsewhere(limits: SharedLimits, caller: Caller, record: Record) -> None:
    """One who was admitted here must be by those whom others ask too. Raises as `limits.enter`."""
    try:
        await limits.enter(caller, record)
    except GatewayError:
        if record.lease is not None:
            record.lease.withdraw()
        raise


def give_back(record: Record) -> None:
    """Its request is over: its place is free again, and its tokens count as they were used."""
    if record.lease is not None:
        record.lease.close(used_tokens(record))
        record.lease = None
