"""A query that somebody tries in the admin API: what may be asked, and the explanation in words of JSON."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from model_gateway.budget.pricing import MAX_TOKENS
from model_gateway.budget.report import usd
from model_gateway.domain.chat import AUTO_MODEL
from model_gateway.domain.errors import InvalidRequest
from model_gateway.domain.usage import NANO_PER_USD
from model_gateway.explaining import Asked, Explanation

MOST_USD: Final = 1_000_000


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """What the body says. `budget_usd`: the most that it may cost."""

    prompt: str
    system: str = ""
    model: str = AUTO_MODEL
    max_tokens: int | None = None
    budget_usd: float | None = None


def asked_in(query: Query) -> Asked:
    """Raises InvalidRequest."""
    if not query.prompt.strip():
        raise InvalidRequest("it is empty: it must hold the text to judge", param="prompt")
    if not query.model:
        raise InvalidRequest("it is empty: auto, or the name of a model", param="model")
    if query.max_tokens is not None and not 0 < query.max_tokens <= MAX_TOKENS:
        raise InvalidRequest(f"a number from 1 to {MAX_TOKENS}", param="max_tokens")
    budget = query.budget_usd
    if budget is not None and not 0 <= budget <= MOST_USD:
        raise InvalidRequest(f"US dollars from 0 to {MOST_USD}", param="budget_usd")
    nano = None if budget is None else round(budget * NANO_PER_USD)
    return Asked(query.prompt, query.system, query.model, query.max_tokens, nano)


def told(found: Explanation) -> dict[str, Any]:
    """Money in USD, as decimal text."""
    targets = [
        {"provider": each.provider, "model": each.model, "estimate_usd": usd(each.estimate_nano)}
        for each in found.targets
    ]
    return {name: getattr(found, name) for name in found.__struct_fields__} | {"targets": targets}
