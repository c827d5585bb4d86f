"""Which budgets a request must fit, and how much is held for it. Pure, but for `states` and `book`.

Held is the most that the route's dearest target may charge: every byte of the texts a token (no tokenizer makes more of
them), and all the output that was allowed. A request that allows itself any length is given one (`max_tokens`), which
the provider is told: what was not held cannot be spent. Decides nothing about the money itself: that is `funds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection

from model_gateway.budget import funds, rows
from model_gateway.budget.funds import Charge, Claim, Part, Place, part_of
from model_gateway.budget.journal import Row
from model_gateway.budget.pricing import most_nano
from model_gateway.config.schema import BudgetConfig, BudgetsConfig
from model_gateway.domain.caller import Allowance, Caller
from model_gateway.domain.chat import ChatRequest, Message
from model_gateway.domain.route import Target
from model_gateway.domain.usage import NANO_PER_USD

LEAST_TOKENS = 16
"""An answer that could not even be so long is not asked for."""

OWN = "own"
"""The name of the budget that a key has of its own."""

PERIODS = ("day", "month", "total")
MESSAGE_BYTES = 16  # role, framing and what a chat template puts around a message, in tokens
_KNOWN = 20_000  # whose charges are remembered at once
_SLOT_S = 900  # every offset of a time zone is a multiple of it, so no period begins within
_PICTURE_TOKENS = 5_000  # the most that we know a provider to count for one
_TURNS = ("messages", "input", "contents")  # the field that holds the conversation, by schema
_TEXTS = frozenset(("text", "input_text", "output_text", "tokens"))


_payers: Callable[[Row], tuple[str, str, str, str]] = itemgetter(rows.TENANT, rows.KEY_NAME, rows.PROVIDER, rows.MODEL)
"""Whom a row concerns. Those in which they are the same are charged at once."""


class Wanted(msgspec.Struct, frozen=True):
    """What a request may use at most. `output_tokens` for all choices together; `fixed`: the caller said how many.

    `tiered`: it asks for a service tier, which may have a price of its own.
    """

    input_tokens: int
    output_tokens: int
    choices: int
    fixed: bool
    tiered: bool = False


class Budgets:
    """`hedged`: two targets may be asked at once, and both may charge. `by_target`: some limit providers or models."""

    def __init__(self, config: BudgetsConfig, *, hedged: bool = False) -> None:
        self.wait_s = config.wait / 1000
        self.when_unavailable = config.when_unavailable
        self.instances = config.instances
        self._zone = ZoneInfo(config.timezone)
        self._max_tokens = config.max_tokens
        self._at_once = 2 if hedged else 1
        self._limits = config.limits
        self.by_target = any(budget.scope in ("provider", "model") for budget in config.limits)
        self._known: dict[tuple[tuple[tuple[str, str], ...], float], Sequence[Charge]] = {}
        self._running = -1.0, frozenset[str]()
        self._owned: dict[tuple[str, str, int, str, float], Sequence[Charge]] = {}
        self._steps_down = frozenset(budget.name for budget in config.limits if budget.on_limit == "step_down")

    def concern(self, caller: Caller) -> bool:
        """Is there anything to be asked at all?"""
        return bool(self._limits) or caller.budget is not None

    def periods(self, now: float) -> frozenset[str]:
        """Those that run now; `now` in epoch seconds."""
        slot, found = self._running
        if slot != now // _SLOT_S:
            found = frozenset([period_of(per, now, self._zone) for per in PERIODS])
            self._running = now // _SLOT_S, found
        return found

    def wanted(self, request: ChatRequest) -> Wanted:
        choices = choices_of(request)
        if request.embeds:
            return Wanted(most_tokens(request), 0, 1, fixed=True)
        tiered = "service_tier" in request.body
        each = request.max_tokens or self._max_tokens
        return Wanted(most_tokens(request), each * choices, choices, request.max_tokens is not None, tiered)

    def claim(
        self,
        uid: str,
        caller: Caller,
        targets: Sequence[Target],
        wanted: Wanted,
        score: float,
        at: float,
        expires_at: float,
        first: Sequence[Target] = (),
    ) -> Claim | None:
        """None: no budget concerns it, or it cannot cost anything. `at`: when it came, which says whose money it is;
        `expires_at`: when it is taken for dead; epoch seconds both. Less than all of it will not do (see `shorter`).

        `first`: a cascade's, paid besides `targets`; in the claim they stand before them, unless no budget is
        `by_target`: then none has accounts of its own.
        """
        must = self._musts(caller, at)
        own: list[Sequence[Charge]] = []
        if self.by_target:
            own = [self._charges_of(target.provider, target.model, at) for target in (*first, *targets)]
        if not must and not any(own):
            return None
        amount = self._most(targets, wanted, wanted.output_tokens, score, first)
        if not amount:
            return None  # free, and so welcome whatever is left
        return Claim(uid, amount, amount, expires_at, must, own)

    def shorter(
        self, claim: Claim, targets: Sequence[Target], wanted: Wanted, score: float, first: Sequence[Target] = ()
    ) -> Claim:
        """The same, where a short answer will do if no more is left: unless the caller has said how long it may be."""
        if wanted.fixed:
            return claim
        short = min(wanted.output_tokens, LEAST_TOKENS * wanted.choices)
        return msgspec.structs.replace(claim, least_nano=self._most(targets, wanted, short, score, first))

    def output_limit(
        self,
        targets: Sequence[Target],
        wanted: Wanted,
        score: float,
        granted_nano: int,
        first: Sequence[Target] = (),
    ) -> int:
        """Tokens of one choice that the granted money pays for, whichever of the targets answers."""
        low, high = 0, wanted.output_tokens
        while low < high:
            middle = (low + high + 1) // 2
            if self._most(targets, wanted, middle, score, first) <= granted_nano:
                low = middle
            else:
                high = middle - 1
        return max(1, low // wanted.choices)

    def affordable(self, targets: Sequence[Target], wanted: Wanted, score: float, left_nano: int) -> list[Target]:
        """Those that could answer for what is left, at least shortly."""
        output = wanted.output_tokens if wanted.fixed else min(wanted.output_tokens, LEAST_TOKENS * wanted.choices)
        return [target for target in targets if self._most([target], wanted, output, score) <= left_nano]

    def steps_down(self, charge: Charge) -> bool:
        """Is a cheaper answer better than none, by this budget?"""
        return charge.budget in self._steps_down

    def book(self, found: Sequence[Row]) -> Sequence[Part]:
        """Whom rows that held nothing of their own are charged to, as the budgets are now: one part an account."""
        costs: dict[tuple[float, tuple[str, str, str, str]], int] = {}
        parts: list[Part] = []
        for row in found:
            cost, shares = int(row[rows.COST] or 0), rows.shares_in(row)
            slot = float(row[rows.STARTED_AT] or 0) // _SLOT_S
            if shares is None:
                payers = slot, _payers(row)
                costs[payers] = costs.get(payers, 0) + cost
            else:
                parts += self._parts(slot * _SLOT_S, _payers(row), cost, shares)
        for (slot, names), cost in costs.items():
            parts += self._parts(slot * _SLOT_S, names, cost, None)
        return _together(parts)

    def _parts(
        self, at: float, payers: tuple[str, str, str, str], cost: int, shares: Mapping[str, int] | None
    ) -> list[Part]:
        tenant, key, provider, model = payers
        charges = self._charges(tenant, key, at)
        parts = [Part((charge.account, charge.period), cost, opened=True) for charge in charges]
        own = f"key:{key}"
        told = {charge.period for charge in charges if charge.account == own}
        # Its own budget, if it has one: in those of its periods that there are.
        parts += [Part((own, period), cost, opened=False) for period in self.periods(at) if period not in told]
        if shares is None:
            charges = self._charges_of(provider, model, at)
        else:
            named = [(scope, name) for scope, _, name in (account.partition(":") for account in shares)]
            charges = [charge for each in named for charge in self._matching((each,), at)]
        for charge in charges:
            part = cost if shares is None else part_of(charge.account, cost, shares)
            parts.append(Part((charge.account, charge.period), part, opened=True))
        return parts

    def states(self, connection: Connection, now: float, own: Mapping[str, Allowance]) -> list[dict[str, Any]]:
        """What each budget's accounts have spent, hold and have left in the period that runs; money in USD.

        `own`: the keys' own budgets, by the keys' names.
        """
        found = funds.accounts_in(connection, self.periods(now))
        told: list[dict[str, Any]] = []
        for account, period, spent, held in found:
            limits = [
                (budget.name, budget.mode, int(budget.usd * NANO_PER_USD))
                for budget in self._limits
                if period == period_of(budget.per, now, self._zone) and account_matches(budget, account)
            ]
            allowance = own.get(account.removeprefix("key:")) if account.startswith("key:") else None
            if allowance is not None and period == period_of(allowance.per, now, self._zone):
                limits.append((OWN, "hard", allowance.limit_nano))
            told += [
                {
                    "budget": name,
                    "account": account,
                    "period": period,
                    "mode": mode,
                    "limit_usd": _usd(limit),
                    "spent_usd": _usd(spent),
                    "held_usd": _usd(held),
                    "left_usd": _usd(max(0, limit - spent - held)),
                }
                for name, mode, limit in limits
            ]
        return told

    def _most(
        self,
        targets: Sequence[Target],
        wanted: Wanted,
        output_tokens: int,
        score: float,
        first: Sequence[Target] = (),
    ) -> int:
        read, tiered, most = wanted.input_tokens, wanted.tiered, 0
        if len(targets) == 1 and not first:
            return most_nano(targets[0], read, output_tokens, score, tiered=tiered)
        for group in (first, targets):
            costs = [most_nano(target, read, output_tokens, score, tiered=tiered) for target in group]
            most += sum(costs) if len(costs) <= self._at_once else sum(sorted(costs)[-self._at_once :])
        return most

    def _musts(self, caller: Caller, now: float) -> Sequence[Charge]:
        """The accounts that every call of this caller must fit, its own budget's included."""
        tenant, name, own = caller.tenant, caller.key_name, caller.budget
        if own is None:
            return self._charges(tenant, name, now)
        asked = tenant, name, own.limit_nano, own.per, now // _SLOT_S
        known = self._owned.get(asked)
        if known is None:
            if len(self._owned) >= _KNOWN:
                self._owned.clear()
            period = period_of(own.per, now, self._zone)
            known = self._owned[asked] = _with_own(self._charges(tenant, name, now), name, own, period)
        return known

    def _charges(self, tenant: str, key_name: str, now: float) -> Sequence[Charge]:
        return self._matching((("gateway", ""), ("team", tenant), ("key", key_name)), now)

    def _charges_of(self, provider: str, model: str, now: float) -> Sequence[Charge]:
        return self._matching((("provider", provider), ("model", model)), now)

    def _matching(self, names: tuple[tuple[str, str], ...], now: float) -> Sequence[Charge]:
        """One charge an account and period; the tightest limit counts."""
        asked = names, now // _SLOT_S
        known = self._known.get(asked)
        if known is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            known = self._known[asked] = self._found(dict(names), now)
        return known

    def _found(self, names: dict[str, str], now: float) -> Sequence[Charge]:
        found: dict[tuple[str, str], Charge] = {}
        for budget in self._limits:
            name = names.get(budget.scope)
            if name is None or (budget.match and budget.match != name):
                continue
            account = budget.scope if budget.scope == "gateway" else f"{budget.scope}:{name}"
            period = period_of(budget.per, now, self._zone)
            limit = int(budget.usd * NANO_PER_USD) if budget.mode == "hard" else None
            charge = Charge(account, period, limit, budget.name)
            known = found.get((account, period))
            if known is None or _tighter(limit, known.limit_nano):
                found[account, period] = charge
        return tuple(found.values())


def _together(parts: Sequence[Part]) -> Sequence[Part]:
    """One part an account, opened where any of its parts is."""
    costs: dict[Place, Part] = {}
    for part in parts:
        known = costs.get(part.place)
        if known is not None:
            part = Part(part.place, known.cost_nano + part.cost_nano, known.opened or part.opened)
        costs[part.place] = part
    return tuple(costs.values())


def _usd(nano: int) -> str:
    return f"{Decimal(nano).scaleb(-9):.9f}"


def account_matches(budget: BudgetConfig, account: str) -> bool:
    """Is this account one of those that the budget limits?"""
    if budget.scope == "gateway":
        return account == "gateway"
    return account == f"{budget.scope}:{budget.match}" if budget.match else account.startswith(f"{budget.scope}:")


@lru_cache(1024)
def _period(per: str, slot: float, zone: ZoneInfo) -> str:
    day = datetime.fromtimestamp(slot * _SLOT_S, zone)
    return day.strftime("%Y-%m-%d" if per == "day" else "%Y-%m")


def period_of(per: str, now: float, zone: ZoneInfo) -> str:
    """Such as 2026-11-23, 2026-11 or total."""
    if per == "total":
        return "total"
    return _period(per, now // _SLOT_S, zone)


def _with_own(must: Sequence[Charge], key_name: str, own: Allowance, period: str) -> Sequence[Charge]:
    """The tighter one counts, where `budgets` limit the same account in the same period."""
    charge = Charge(f"key:{key_name}", period, own.limit_nano, OWN)
    same = [each for each in must if (each.account, each.period) == (charge.account, period)]
    if any(each.limit_nano is not None and each.limit_nano <= own.limit_nano for each in same):
        return must
    return [each for each in must if each not in same] + [charge]


def most_tokens(request: ChatRequest) -> int:
    """More than any tokenizer makes of the request: every byte of its body. A picture inside it counts as a picture."""
    messages = request.messages
    size = sum(map(len, request.body.values())) + MESSAGE_BYTES * len(messages)
    pictures = sum([_pictures_in(message) for message in messages if isinstance(message.content, list)])
    if not pictures:
        return size
    told = max(len(request.body.get(name, b"")) for name in _TURNS)
    texts = sum(len(message.text().encode(errors="replace")) for message in messages)
    return size - told + texts + _PICTURE_TOKENS * pictures


def _pictures_in(message: Message) -> int:
    """How many there are; 0 too where there is anything else whose tokens nobody can foretell."""
    parts = message.content if isinstance(message.content, list) else []
    others = sum(part.type not in _TEXTS for part in parts)
    pictures = sum("image" in part.type for part in parts)
    return pictures if others == pictures else 0


class _Settings(msgspec.Struct, rename="camel"):
    candidate_count: Any = None


_number = msgspec.json.Decoder(Any).decode
_settings = msgspec.json.Decoder(_Settings).decode


def choices_of(request: ChatRequest) -> int:
    """How many answers are asked for at once, each of which costs."""
    raw, settings = request.body.get("n"), request.body.get("generationConfig")
    if raw is None and settings is None:
        return 1
    try:
        number = _settings(settings or b"{}").candidate_count if raw is None else _number(raw)
    except msgspec.DecodeError:
        return 1
    return number if isinstance(number, int) and number > 1 else 1


def _tighter(limit: int | None, known: int | None) -> bool:
    return limit is not None and (known is None or limit < known)
