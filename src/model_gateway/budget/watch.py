"""Alerts about budgets: decides when one is nearly, and when it is wholly spent. Pure; looks at balances only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from zoneinfo import ZoneInfo

from model_gateway.budget.budgets import account_matches, period_of
from model_gateway.config.schema import BudgetsConfig
from model_gateway.domain.alert import AlertEvent
from model_gateway.domain.usage import NANO_PER_USD

Balance = tuple[str, str, int]
"""An account, its period, and what it has spent in nano-USD."""


class BudgetWatch:
    """Each budget of each owner rings once a period at `alert_at`, and once when all is spent."""

    def __init__(self, config: BudgetsConfig) -> None:
        self._limits = config.limits
        self._zone = ZoneInfo(config.timezone)
        self._rung: set[tuple[str, str, str, float]] = set()

    def periods(self, now: float) -> set[str]:
        """Those that run now; `now` in epoch seconds."""
        return {period_of(budget.per, now, self._zone) for budget in self._limits}

    def tick(self, balances: Iterable[Balance], now: float) -> Iterator[AlertEvent]:
        """What began since the last call."""
        running = self.periods(now)
        self._rung = {each for each in self._rung if each[2] in running}
        for account, period, spent in balances:
            for budget in self._limits:
                if period != period_of(budget.per, now, self._zone) or not account_matches(budget, account):
                    continue
                share = spent / (budget.usd * NANO_PER_USD)
                for level in (1.0, budget.alert_at):
                    mark = budget.name, account, period, level
                    if share >= level and mark not in self._rung:
                        self._rung |= {mark, (budget.name, account, period, budget.alert_at)}
                        text = f"budget {budget.name}: {account} has spent {share:.0%} of ${budget.usd:g} ({period})"
                        yield AlertEvent("budget", True, share, level, text)
                        break
