"""Options of what is tried or noted beside the usual route. Decides nothing."""

from __future__ import annotations

from pydantic import Field

from model_gateway.config.section import Ratio, Section


class ShadowConfig(Section):
    """Requests that are also sent to another model, whose answer nobody waits for or sees."""

    model: str = Field(default="", description="A model, or provider/model; its calls are recorded and cost money.")
    share: Ratio = Field(default=0.01, description="Part of the requests that are mirrored.")


class CanaryConfig(Section):
    """A model that is tried first for some of the `auto` requests; the usual route is its fallback."""

    model: str = Field(default="", description="A model, or provider/model. Empty: none.")
    share: Ratio = Field(default=0.01, description="Part of the requests that try it first.")


class SamplesConfig(Section):
    """Prompts of live traffic that are kept to learn from. They are personal data."""

    enabled: bool = Field(default=False, description="Keep the last user turn of some answered requests in a file.")
    rate: Ratio = Field(default=0.01, description="Part of the requests that are sampled.")
    max: int = Field(default=10_000, gt=0, le=1_000_000, description="Samples kept; the oldest make room.")
    path: str = Field(default="", description="Their SQLite file, its owner's alone. Empty: samples.db at the ledger.")
