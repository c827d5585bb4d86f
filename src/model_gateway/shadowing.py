"""Which requests are sent to the shadow model as well, and as what. Asks nobody itself, and waits for nothing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from model_gateway.config.schema import ShadowConfig
from model_gateway.domain.chat import ChatRequest
from model_gateway.domain.record import SHADOW_DOOR, Record
from model_gateway.routing.view import View
from model_gateway.streams import Drains

MAX_SHADOWS = 16  # mirrored and drained calls at once; beyond, nothing more is mirrored


class Shadowing:
    """`ask` asks, and writes what came of it into the record. `dice`: from 0 to below 1."""

    def __init__(
        self,
        config: ShadowConfig,
        ask: Callable[[ChatRequest, Record, View], Coroutine[Any, Any, None]],
        drains: Drains,
        wall_clock: Callable[[], float],
        dice: Callable[[], float],
    ) -> None:
        self.model = config.model
        self._share = config.share
        self._ask, self._drains = ask, drains
        self._wall_clock, self._dice = wall_clock, dice

    def mirror(self, request: ChatRequest, primary: Record, view: View) -> None:
        """Send its share of the requests to the shadow model as well. Nobody waits for it; its cost is recorded.

        Never one whose key may not use that model: its words would go where they must not.
        """
        if self._dice() >= self._share or request.embeds or not view.knows(self.model):
            return
        if self._drains.busy >= MAX_SHADOWS:
            return
        record = Record(f"{primary.request_id}-shadow", SHADOW_DOOR, self._wall_clock())
        record.tenant, record.key_name = primary.tenant, primary.key_name
        copy = msgspec.structs.replace(
            request, model=self.model, stream=False, preferred_provider="", budget_nano=None, timeout_s=None
        )
        self._drains.keep(self._ask(copy, record, view), record)
