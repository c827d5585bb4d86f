"""While the budgets' database is away: the part of what was left that this gateway may spend by itself. Pure.

Every one of `instances` gateways may spend 1/instances of what was left when the database last answered, so that all of
them together spend no more than there was. (Not counted: what others were granted within the second before.) What was
spent is booked from the ledger's rows when the database is back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from model_gateway.budget.funds import Charge, Claim, Verdict, part_of

Place = tuple[str, str]
"""An account and its period."""


class LocalShare:
    """Money in nano-USD."""

    def __init__(self, instances: int) -> None:
        self._instances = instances
        self._known: dict[Place, int] = {}
        self._mine: dict[Place, int] = {}  # spent or held here, and not in `_known` yet
        self._holds: dict[str, dict[Place, int]] = {}
        self.closed = 0  # how many had held something here

    def know(self, states: Iterable[tuple[str, str, int, int]], *, booked: bool) -> None:
        """Account, period, spent and held, as the database says. `booked`: all that was spent here is in it."""
        self._known = {(account, period): spent + held for account, period, spent, held in states}
        if booked:
            self._mine = {}
            for held in self._holds.values():
                self._add(held)

    def take(self, claim: Claim) -> Verdict:
        amount = claim.amount_nano
        for charge in claim.must:
            room = self._room(charge, amount)
            if room < amount:
                if room < claim.least_nano:
                    return Verdict(refused=charge, left_nano=max(0, room))
                amount = room
        fitting = [all(self._room(charge, amount) >= amount for charge in own) for own in claim.targets]
        if fitting and not any(fitting):
            tight = min((charge for own in claim.targets for charge in own), key=lambda c: self._room(c, amount))
            return Verdict(refused=tight, left_nano=max(0, self._room(tight, amount)))
        charged = [*claim.must, *_of_fitting(claim.targets, fitting)]
        self._holds[claim.uid] = {(charge.account, charge.period): amount for charge in charged}
        self._add(self._holds[claim.uid])
        return Verdict(amount, fitting)

    def close(self, uid: str, shares: Mapping[str, int], cost_nano: int) -> None:
        """Its hold becomes what it cost, `shares` of it by the accounts of providers and models.

        Nothing happens for one that holds nothing here.
        """
        held = self._holds.pop(uid, None)
        if held is None:
            return
        self.closed += 1
        for place, amount in held.items():
            account = place[0]
            cost = part_of(account, cost_nano, shares)
            self._mine[place] = self._mine.get(place, 0) - amount + cost

    def _room(self, charge: Charge, unlimited: int) -> int:
        if charge.limit_nano is None:
            return unlimited
        place = charge.account, charge.period
        return (charge.limit_nano - self._known.get(place, 0)) // self._instances - self._mine.get(place, 0)

    def _add(self, held: dict[Place, int]) -> None:
        for place, amount in held.items():
            self._mine[place] = self._mine.get(place, 0) + amount


def _of_fitting(targets: Sequence[Sequence[Charge]], fitting: Sequence[bool]) -> list[Charge]:
    return [charge for own, fits in zip(targets, fitting, strict=True) if fits for charge in own]
