"""What holds within a conversation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from model_gateway.config.section import Section


class SessionConfig(Section):
    """A conversation is one caller's: named by its session id, else known by how it begins."""

    tier: Literal["up_only", "free", "pinned"] = Field(
        default="up_only",
        description="up_only: no turn is answered by a cheaper tier than one before it asked for. free: each turn by "
        "its own score. pinned: all by that of the first.",
    )
    stay: bool = Field(
        default=True,
        description="Prefer the model that answered the turn before, as its provider's prompt cache makes it cheaper.",
    )
    ttl: int = Field(default=3_600, gt=0, le=604_800, description="Seconds a conversation is remembered after a turn.")
