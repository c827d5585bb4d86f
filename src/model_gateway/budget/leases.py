"""Leases: money of busy accounts that this process has set aside, so that requests are held from memory. Pure.

A lease is a part of an account that the database counts as held by this process. While requests fit into the leases of
all their accounts, nobody waits for the database: it is told of what was spent with their rows, a batch at once. Only
busy accounts are leased, only as much as the last moment needed, and never where money is short: then what is free goes
back, and each request asks the database, which alone decides about the last cent. Decides how much is wanted and who
may have it; `leasing` writes it down. `take` and `close` are called by the event loop, the rest by the ledger's writer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from model_gateway.budget.funds import Claim, Place, part_of

BUSY = 8
"""Claims within a second from which an account is leased."""

RESERVE = 4
"""So many times what is leased must be left for others; where it is not, money is short."""

_AHEAD = 8  # requests of the largest size that a lease pays for beyond those that are running
_WINDOW_S = 1.0
_FADE_S = 0.2  # after which what was at most running counts half
_SHORT_S = 1.0  # how long nothing is leased of an account that was short


class Change(NamedTuple):
    """To be made in the database. `amount_nano` above 0: to set aside, if spent and held then stay within `limit_nano`;
    below 0: to give back. `ends`: the lease is to be closed with whatever it still holds. `exact`: it is to hold
    `amount_nano` and no more, whatever it holds.
    """

    place: Place
    amount_nano: int
    limit_nano: int
    ends: bool = False
    exact: bool = False


class _Lease:
    """Of one account, in nano-USD. `held`: set aside and not spent; `used`: by requests that have not ended.

    `kept`: the database may know of it; `doubted`: it may hold another amount.
    """

    __slots__ = (
        *("doubted", "held", "kept", "limit", "used"),
        *("before", "calls", "drained", "largest", "largest_before", "peak", "short_until", "since"),
    )

    def __init__(self, since: float) -> None:
        self.kept = False
        self.doubted = False
        self.held = 0
        self.used = 0
        self.limit = 0
        self.largest = 0
        self.largest_before = 0
        self.peak = 0
        self.drained = 0
        self.calls = 0
        self.before = 0
        self.since = since
        self.short_until = 0.0

    def turn(self, now: float) -> None:
        """A second has passed: claims are counted and measured anew."""
        if now - self.since >= _WINDOW_S:
            self.before = self.calls if now - self.since < 2 * _WINDOW_S else 0
            self.calls = 0
            self.largest, self.largest_before = 0, self.largest
            self.since = now

    def goal(self, now: float) -> int:
        """What should be set aside: for twice what was running and spent of late, and a few requests more."""
        if max(self.calls, self.before) < BUSY or now < self.short_until:
            return 0
        goal = 2 * (self.peak + self.drained) + _AHEAD * max(self.largest, self.largest_before)
        return goal if (1 + RESERVE) * goal <= self.limit else 0  # the database would refuse it


class Leases:
    """Of one process. `clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._leases: dict[Place, _Lease] = {}
        self._claims: dict[str, tuple[list[tuple[Place, _Lease]], int]] = {}
        self._faded = 0.0
        self._lost: set[Place] = set()  # taken away while this process seemed dead: never leased again

    @property
    def open(self) -> bool:
        """Does the database hold anything for this process?"""
        with self._lock:
            return any(lease.kept for lease in self._leases.values())

    def take(self, claim: Claim, *, again: bool = False) -> bool:
        """Is it held, whole and for all targets, from memory? `again`: it was counted when it was asked first."""
        amount, enough = claim.amount_nano, True
        parts: list[tuple[Place, _Lease]] = []
        with self._lock:
            for charge in chain(claim.must, *claim.targets):
                if charge.limit_nano is None:
                    continue  # only counted: it is booked with the row
                place = charge.account, charge.period
                lease = self._leases.get(place)
                if lease is None:
                    lease = self._leases[place] = _Lease(self._clock())
                elif charge.limit_nano < lease.limit:  # by a new configuration: what is free was granted by the old one
                    lease.held, lease.doubted = min(lease.held, lease.used), lease.kept
                lease.limit = charge.limit_nano
                lease.used += amount
                lease.calls += not again
                if lease.used > lease.peak:
                    lease.peak = lease.used
                if amount > lease.largest:
                    lease.largest = amount
                if lease.used > lease.held:
                    enough = False
                parts.append((place, lease))
            if enough:
                self._claims[claim.uid] = parts, amount
                return True
            for _, lease in parts:
                lease.used -= amount
        return False

    def close(self, uid: str, cost_nano: int, shares: Mapping[str, int]) -> None:
        """What was held has become what it cost. Nothing happens for one that holds nothing here.

        Its row must be waiting for the writer by now: an account is given back whole when no row waits.
        """
        with self._lock:
            parts, amount = self._claims.pop(uid, (None, 0))
            if parts is None:
                return
            paid: set[Place] = set()
            for place, lease in parts:
                lease.used -= amount
                if place not in paid:
                    paid.add(place)
                    cost = part_of(place[0], cost_nano, shares)
                    lease.held -= cost
                    lease.drained += cost
                    if lease.held < 0:  # the database stops at 0
                        lease.doubted = lease.kept

    # --- for the writer ---------------------------------------------------------------------------------------------

    def plan(self, waiting: Callable[[], int], *, closing: bool = False) -> list[Change]:
        """What is to be changed in the database. Money that is to be given back is no longer used from now on.

        `waiting`: how many rows of ended requests are not yet written. `closing`: nothing is needed any more.
        """
        now = self._clock()
        changes: list[Change] = []
        with self._lock:
            written = not waiting()
            fades = now - self._faded >= _FADE_S
            if fades:
                self._faded = now
            for place, lease in list(self._leases.items()):
                lease.turn(now)
                goal = 0 if closing or place in self._lost else lease.goal(now)
                if lease.doubted and written and not closing:
                    changes.append(Change(place, lease.held, 0, exact=True))
                elif goal:
                    if 4 * lease.held < 3 * goal:
                        lease.kept = True  # from now on: whether it has been committed may remain unknown
                        changes.append(Change(place, goal - lease.held, lease.limit - RESERVE * goal))
                    elif lease.held > 2 * goal:
                        changes += self._give_back(place, lease, goal)
                elif lease.used or not written or ((lease.calls or lease.before) and not closing):
                    changes += self._give_back(place, lease, 0)
                elif lease.kept:
                    lease.held = 0
                    changes.append(Change(place, 0, 0, ends=True))
                else:
                    del self._leases[place]
                if fades:
                    lease.peak = max(lease.used, lease.peak // 2)
                    lease.drained //= 2
        return changes

    def free(self, claim: Claim) -> Sequence[Change]:
        """Whatever is free of the accounts of a claim that the database cannot hold: to be given back."""
        changes: list[Change] = []
        with self._lock:
            for charge in chain(claim.must, *claim.targets):
                place = charge.account, charge.period
                lease = self._leases.get(place)
                if lease is not None and charge.limit_nano is not None:
                    lease.short_until = self._clock() + _SHORT_S
                    changes += self._give_back(place, lease, 0)
        return changes

    def changed(self, change: Change) -> None:
        """It is in the database, for certain: only then is what was set aside used. (What goes back no longer is.)"""
        with self._lock:
            lease = self._leases.get(change.place)
            if lease is not None and change.amount_nano > 0:
                lease.held += change.amount_nano
            elif lease is not None and change.ends:
                lease.kept = lease.doubted = False

    def found(self, change: Change, held_nano: int) -> None:
        """So much the database holds, for certain, where it should be `change` exactly."""
        with self._lock:
            lease = self._leases.get(change.place)
            if lease is not None:
                lease.held += held_nano - change.amount_nano
                lease.doubted = False

    def doubt(self) -> None:
        """The database has failed, and nobody knows what was committed: what it holds is to be compared."""
        with self._lock:
            for lease in self._leases.values():
                lease.doubted = lease.kept

    def short(self, place: Place) -> None:
        """There is too little money to lease any, for a while."""
        with self._lock:
            lease = self._leases.get(place)
            if lease is not None:
                lease.short_until = self._clock() + _SHORT_S

    def seen(self, place: Place, gone_nano: int) -> None:
        """What of an account is spent or held by anybody, as the database says: little left is kept for nobody."""
        with self._lock:
            lease = self._leases.get(place)
            if lease is not None and lease.limit - gone_nano < RESERVE // 2 * lease.held:
                lease.short_until = self._clock() + _SHORT_S

    def lost(self, place: Place) -> None:
        """Others took this process for dead and have spent its lease. What is running was paid with it."""
        with self._lock:
            self._lost.add(place)
            self._leases.pop(place, None)

    @staticmethod
    def _give_back(place: Place, lease: _Lease, goal: int) -> list[Change]:
        back = min(lease.held - goal, lease.held - lease.used)
        if back <= 0:
            return []
        lease.held -= back
        return [Change(place, -back, 0)]
