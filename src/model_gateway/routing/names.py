"""What callers may write in `model`: `auto`, its variants, and the operator's aliases. Pure.

An alias wins over a model of the same name; `provider/model` always means that very model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

AUTO = "auto"
CHEAP = "auto:cheap"
FAST = "auto:fast"
BEST = "auto:best"
AUTOS = (AUTO, CHEAP, FAST, BEST)


class Alias:
    """One name for one or several models. With weights, a share of the requests goes to each first."""

    def __init__(self, written: str | Mapping[str, float]) -> None:
        weights = {written: 1.0} if isinstance(written, str) else dict(written)
        self.models: Sequence[str] = sorted(weights, key=lambda model: -weights[model])
        total = sum(weights.values()) or 1.0
        self._shares = [(model, weights[model] / total) for model in self.models]

    def order(self, dice: float) -> Sequence[str]:
        """The models to try, the first chosen by `dice` (0–1), then the others, heaviest first."""
        if len(self.models) == 1:
            return self.models
        first = self.models[0]
        for model, share in self._shares:
            if dice < share:
                first = model
                break
            dice -= share
        return [first, *(model for model in self.models if model != first)]
