"""Which budgets concern a request, how much is held, and when somebody is told."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from model_gateway.budget.budgets import Budgets, most_tokens, period_of
from model_gateway.budget.pricing import estimate_nano
from model_gateway.budget.watch import BudgetWatch
from model_gateway.config.schema import BudgetConfig, BudgetsConfig
from model_gateway.domain.caller import Caller
from model_gateway.domain.chat import ChatRequest, Message, Part
from model_gateway.domain.route import Target, Tier
from model_gateway.domain.usage import NANO_PER_USD, Price

NOW = datetime(2026, 11, 30, 20, 0, tzinfo=ZoneInfo("UTC")).timestamp()
ADA = Caller(tenant="search", key_name="ada")


def budget(usd: float = 1.0, **options: Any) -> BudgetConfig:
    given: dict[str, Any] = {"name": f"b{usd}", "usd": usd, **options}
    return BudgetConfig(**given)


def target(output_pico: int, provider: str = "p") -> Target:
    price = Price(input_pico=1_000_000, output_pico=output_pico, cached_input_pico=0, known=True)
    return Target(provider, "m", frozenset((Tier.REMOTE,)), frozenset(), price, 0.5, 0, None, 10)


def request(text: str = "hi", **body: Any) -> ChatRequest:
    fields = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()}
    fields["messages"] = msgspec.Raw(msgspec.json.encode([{"role": "user", "content": text}]))
    return ChatRequest(request_id="r", model="auto", messages=[Message(role="user", content=text)], body=fields)


def budgets(*limits: BudgetConfig, hedged: bool = False, **options: Any) -> Budgets:
    return Budgets(BudgetsConfig(limits=limits, **options), hedged=hedged)


def test_periods_begin_at_midnight_of_the_time_zone() -> None:
    shanghai, utc = ZoneInfo("Asia/Shanghai"), ZoneInfo("UTC")
    assert period_of("day", NOW, utc) == "2026-11-30"
    assert period_of("day", NOW, shanghai) == "2026-12-01"
    assert period_of("month", NOW, shanghai) == "2026-12"
    assert period_of("total", NOW, shanghai) == "total"


def test_a_claim_holds_in_every_account_that_is_concerned() -> None:
    limits = (
        budget(9, scope="gateway"),
        budget(2, scope="key"),
        budget(3, scope="team", match="search"),
        budget(4, scope="team", match="others"),
        budget(5, scope="provider", match="p"),
        budget(6, scope="key", per="day"),
        budget(1, scope="key", mode="soft"),
    )
    own = budgets(*limits)
    wanted = own.wanted(request(max_tokens=10))
    claim = own.claim("u", ADA, [target(0), target(0, "q")], wanted, 0.5, NOW, NOW + 60.0)
    assert claim is not None
    told = {(each.account, each.period, each.limit_nano) for each in claim.must}
    assert told == {
        ("gateway", "2026-11", 9 * NANO_PER_USD),
        ("key:ada", "2026-11", 2 * NANO_PER_USD),
        ("key:ada", "2026-11-30", 6 * NANO_PER_USD),
        ("team:search", "2026-11", 3 * NANO_PER_USD),
    }
    assert [[each.account for each in charges] for charges in claim.targets] == [["provider:p"], []]
    assert claim.expires_at == NOW + 60


def test_who_is_concerned_by_none_holds_nothing() -> None:
    own = budgets(budget(scope="team", match="others"))
    assert own.claim("u", ADA, [target(5)], own.wanted(request()), 0.5, NOW, NOW + 1.0) is None


@pytest.mark.parametrize(
    ("body", "tokens", "choices"),
    [({"max_tokens": 10}, 4096, 1), ({"n": 3}, 3 * 4096, 3), ({"n": "x"}, 4096, 1), ({"n": 0}, 4096, 1)],
)
def test_what_a_request_may_use(body: dict[str, Any], tokens: int, choices: int) -> None:
    wanted = budgets(budget()).wanted(request(**body))
    assert (wanted.output_tokens, wanted.choices, wanted.fixed) == (tokens, choices, False)
    counted = msgspec.structs.replace(request(n=2), max_tokens=10)
    assert budgets(budget()).wanted(counted).output_tokens == 20


@pytest.mark.parametrize("hedged", [False, True])
def test_the_money_pays_for_the_output_that_is_allowed(hedged: bool) -> None:
    own = budgets(budget(), hedged=hedged)
    targets = [target(2_000_000), target(8_000_000, "q")]
    wanted = own.wanted(request())
    full = own.claim("u", ADA, targets, wanted, 0.5, NOW, NOW + 1.0)
    assert full is not None and full.least_nano == full.amount_nano
    full = own.shorter(full, targets, wanted, 0.5)
    assert full.least_nano < full.amount_nano
    fixed = own.wanted(msgspec.structs.replace(request(), max_tokens=4096))
    assert own.shorter(full, targets, fixed, 0.5) is full
    assert own.output_limit(targets, wanted, 0.5, full.amount_nano) == 4096
    for granted in (full.least_nano, full.amount_nano // 3, full.amount_nano - 1):
        limit = own.output_limit(targets, wanted, 0.5, granted)
        cost = [estimate_nano(each, wanted.input_tokens, limit, 0.5) for each in targets]
        more = [estimate_nano(each, wanted.input_tokens, limit + 1, 0.5) for each in targets]
        assert (sum(cost) if hedged else max(cost)) <= granted < (sum(more) if hedged else max(more))
        assert 16 <= limit < 4096


def test_a_bound_on_tokens_counts_every_byte_but_not_a_pictures() -> None:
    text = request("黑洞 black hole", tools=[{"type": "function"}])
    assert most_tokens(text) >= sum(len(bytes(raw)) for raw in text.body.values())
    url = "data:image/png;base64," + "A" * 1_000_000
    parts = [Part(type="text", text="what is this?"), Part(type="image_url")]
    content = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    body = {"messages": msgspec.Raw(msgspec.json.encode([{"role": "user", "content": content}]))}
    pictured = ChatRequest(request_id="r", model="a", messages=[Message(role="user", content=parts)], body=body)
    assert 5_000 <= most_tokens(pictured) < 6_000
    filed = msgspec.structs.replace(pictured, messages=[Message(role="user", content=[Part(type="file")])])
    assert most_tokens(filed) > 1_000_000


def test_alerts_ring_once_a_period_at_each_level() -> None:
    watch = BudgetWatch(BudgetsConfig(limits=(budget(10, scope="key", name="keys"), budget(20, mode="soft"))))

    def rings(spent: float, at: float = NOW, period: str = "2026-11", account: str = "key:ada") -> list[str]:
        return [event.message for event in watch.tick([(account, period, int(spent * NANO_PER_USD))], at)]

    assert rings(7.9) == []
    assert rings(8.1) == ["budget keys: key:ada has spent 81% of $10 (2026-11)"]
    assert rings(9) == []
    assert rings(10) == ["budget keys: key:ada has spent 100% of $10 (2026-11)"]
    assert rings(11) == []
    assert rings(25, account="gateway") == ["budget b20: gateway has spent 125% of $20 (2026-11)"]
    assert rings(25, account="team:x") == []
    assert len(rings(9, NOW + 86_400, "2026-12")) == 1, "a new month rings anew"
    assert rings(9, NOW + 86_400, "2026-11") == [], "the old one is over"
