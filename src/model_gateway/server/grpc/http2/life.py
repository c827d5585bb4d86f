"""How long a connection of the gRPC door lives, and what its client may ask for meanwhile. Pure: the clock is given.

A goodbye has two steps, so that no call meets it unawares: GOAWAY that still takes every call, with a ping behind it;
when that is answered all calls sent before have come, and the second GOAWAY names the last of them.
"""

from __future__ import annotations

import random
from enum import Enum
from typing import Final

from model_gateway.server.grpc.http2.frames import ENHANCE_YOUR_CALM
from model_gateway.server.grpc.http2.limits import Broken, Limits

MOST_NUISANCES: Final = 2_000
"""Frames between two sweeps that cost us something and answer nobody: resets, pings, settings, empty pieces."""
_PING_STRIKES: Final = 2
_FIRST_S: Final = 1.0  # for the answer to the first goodbye's ping
_SPREAD: Final = 0.1  # so that connections that were opened together do not all end together


class Due(Enum):
    NOTHING = 0
    PING = 1
    GOODBYE = 2
    LAST_GOODBYE = 3
    CUT = 4
    ABORT = 5


class Life:
    """Of one connection. `heard_at`: when its client last sent anything; `strikes`: pings that came too soon since data
    was sent: clients measure with pings how fast it comes."""

    __slots__ = (
        "_age_at",
        "_answer_until",
        "_begun_at",
        "_cut_at",
        "_limits",
        "_nuisances",
        "_pinged_at",
        "greeted",
        "heard_at",
        "left_at",
        "strikes",
        "told_at",
    )  # fmt: skip

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self.heard_at = self._begun_at = now
        self.greeted = False  # the client has sent its preface
        self.left_at = self.told_at = 0.0  # when the first and the last goodbye were said
        self.strikes = 0
        self._nuisances = 0
        self._pinged_at = -1e9
        self._answer_until = self._cut_at = 0.0
        self._age_at = now + limits.age_s * random.uniform(1 - _SPREAD, 1 + _SPREAD) if limits.age_s else 0.0  # noqa: S311

    def nuisance(self, cost: int = 1) -> None:
        """Raises Broken. `cost`: in frames that have nothing to do."""
        self._nuisances += cost
        if self._nuisances > MOST_NUISANCES:
            raise Broken(ENHANCE_YOUR_CALM, b"too many frames that say nothing")

    def useful(self) -> None:
        """A call was answered."""
        self.strikes = 0
        if self._nuisances > 0:
            self._nuisances -= 1

    def pinged(self) -> None:
        """Just now. Raises Broken."""
        self.nuisance()
        if self.heard_at - self._pinged_at < self._limits.ping_s:
            self.strikes += 1
            if self.strikes > _PING_STRIKES:
                raise Broken(ENHANCE_YOUR_CALM, b"too_many_pings")
        self._pinged_at = self.heard_at

    def answered(self) -> None:
        """A ping of ours."""
        self._answer_until = 0.0

    def told(self, now: float) -> None:
        """The last goodbye is said."""
        self.told_at = now
        if self._limits.age_grace_s:
            self._cut_at = now + self._limits.age_grace_s

    def due(self, now: float, heard: bool = True) -> Due:
        """What time has brought about. `heard`: the client is listened to, so that its silence says something."""
        limits = self._limits
        self._nuisances = 0
        silent_s = now - self.heard_at
        if not self.greeted:
            return Due.ABORT if now - self._begun_at > limits.header_s else Due.NOTHING
        if self._cut_at and now > self._cut_at:
            return Due.CUT
        if not heard:
            pass
        elif self._answer_until:
            if now > self._answer_until:
                return Due.ABORT
        elif limits.alive_s and silent_s > limits.alive_s:
            self._answer_until = now + limits.answer_s
            return Due.PING
        if self._age_at and now > self._age_at:
            self._age_at = 0.0
            return Due.GOODBYE
        if self.left_at and not self.told_at and now - self.left_at > _FIRST_S:
            return Due.LAST_GOODBYE
        return Due.NOTHING
