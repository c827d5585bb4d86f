"""What every section of options shares: how its options are spelled and checked, and the types of common values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

TierName = Literal["local", "hybrid", "remote"]
Period = Literal["day", "month", "total"]
Port = Annotated[int, Field(ge=0, le=65535)]
Millis = Annotated[int, Field(gt=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]


def _max_is_0(value: object) -> object:
    return 0 if value == "max" else value


Workers = Annotated[int, BeforeValidator(_max_is_0), Field(ge=0, le=120)]


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        validate_default=True,
        allow_inf_nan=False,
        loc_by_alias=False,
    )
