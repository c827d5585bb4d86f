"""Nobody looks at all targets for each request, and yet it is routed as if somebody did, be they two or hundreds."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_gateway.config.schema import RoutingConfig
from model_gateway.dispatch.slots import Slots
from model_gateway.domain.errors import GatewayError
from model_gateway.domain.route import TIERS, News, Route, Target, TargetState
from model_gateway.domain.usage import Price
from model_gateway.routing.affinity import Stay
from model_gateway.routing.candidates import Question
from model_gateway.routing.kinds import NEAREST, Many
from model_gateway.routing.pool import FEW
from model_gateway.routing.router import Router
from targets import HYBRID, ask, estimate, target

CACHING = Price(input_pico=3_000, output_pico=9_000, cached_input_pico=9, known=True)


class Live:
    """States as the dispatcher keeps them, told of; `plain()` are the same, of which nobody tells."""

    def __init__(self, targets: Sequence[Target]) -> None:
        news = News()
        self.slots = [Slots(t.max_concurrent, 1) for t in targets]
        self.states = [TargetState(load=slots.load, news=news) for slots in self.slots]
        for slots in self.slots:
            slots.load.news = news
        self.news = news

    def change(self, dice: random.Random) -> None:
        state, slots = dice.choice(list(zip(self.states, self.slots, strict=True)))
        what = dice.randrange(5)
        if what == 0:
            slots.take()
        elif what == 1:
            if slots.load.in_flight:
                slots.give_back()
        else:
            if what == 2:
                state.latency_s = dice.choice([0.0, 0.25, 0.5, dice.random(), dice.random(), dice.random()])
            elif what == 3:
                state.success_rate = dice.choice([1.0, 0.5, dice.random()])
            else:
                state.open_until = dice.choice([0.0, 0.0, dice.uniform(0, 50)])
            self.news.tell(state)

    def plain(self) -> list[TargetState]:
        found = [copy.copy(state) for state in self.states]
        for state in found:
            state.load = copy.copy(state.load)
            state.news = state.load.news = None
        return found


def crowd(dice: random.Random) -> list[Target]:
    def kind() -> dict[str, object]:
        return {
            "cost": dice.choice([100, 100, 200, 1_000]),
            "cost_efficiency": dice.choice([0.5, 0.5, 0.75]),
            "max_cost_nano": dice.choice([None, None, None, 500]),
            "capabilities": frozenset(dice.sample(("vision", "tools"), dice.randrange(3))),
            "price": dice.choice(
                [Price(), Price(input_pico=3_000, output_pico=9_000, cached_input_pico=9, known=True)]
            ),
        }

    kinds = [kind() for _ in range(dice.choice([1, 2, 5, 50]))]
    found: list[Target] = []
    for number in range(dice.choice([2, 3, dice.randrange(2, FEW), dice.randrange(FEW, 10 * FEW)])):
        tiers = dice.sample(TIERS, dice.choice([0, 1, 1, 2, 3]))
        options = dice.choice(kinds) | {"max_concurrent": dice.choice([1, 2, 10])}
        embeds = not tiers and dice.random() < 0.1
        found.append(target(f"p{number:03}", *tiers, embeds=embeds, **options))  # pyright: ignore[reportArgumentType]
    return found


def asked(dice: random.Random, now: float, count: int) -> Question:
    """A new conversation only of few: of a crowd another may draw it than all would let."""
    before = dice.randrange(-1 if count <= FEW else 0, count)
    stay = dice.choice([None, Stay(dice.getrandbits(63), before, dice.choice([-1, 5]))])
    return ask(
        dice.choice(TIERS),
        model=dice.choice(["auto", "auto", "auto:best", "other"]),
        required_capabilities=frozenset(dice.sample(("vision", "tools"), dice.choice([0, 0, 1, 2]))),
        budget_nano=dice.choice([None, None, 50, 150, 600]),
        input_tokens=dice.choice([10, 9_000]),
        preferred_provider=dice.choice(["", "", "", "p001"]),
        dice=dice.random(),
        now=now,
        stay=stay,
    )


def outcome(router: Router, question: Question, states: Sequence[TargetState]) -> tuple[object, ...]:
    try:
        found = router.route(question, states)
    except GatewayError as error:
        return type(error), error.message
    if found.dear:
        known = Counter(map(price_of, found.dear))
        wanted = Counter(map(price_of, found.targets))
        assert all(known[price] >= min(count, 2) for price, count in wanted.items()), "nothing dearer follows"
    return tuple(found.targets), found.asked_tier, found.served_tier, found.reason, found.estimate_nano


def price_of(target: Target) -> tuple[Price, int]:
    return target.price, target.base_cost_nano


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_a_crowd_is_routed_as_if_all_were_looked_at(seed: int, fallback: bool) -> None:
    dice = random.Random(seed)
    targets = crowd(dice)
    statuses = {t.provider: dice.choice(["online"] * 9 + ["offline"]) for t in targets}
    config = RoutingConfig.model_validate({"fallback": fallback, "aliases": {"other": "auto"}})
    router, live, now = Router(targets, config, statuses, estimate), Live(targets), 1.0
    for changes in [dice.choice([0, 2_000]), *dice.choices([0, 1, 5, 50], k=40)]:
        for _ in range(changes):
            live.change(dice)
        now += dice.choice([0.0, 0.1, 5.0])
        question = asked(dice, now, len(targets))
        assert outcome(router, question, live.states) == outcome(router, question, live.plain())


def test_what_nobody_told_of_is_found_when_the_news_begin_anew() -> None:
    targets = [target(f"p{number:03}", HYBRID) for number in range(4 * FEW)]
    router, live = Router(targets, RoutingConfig(), {t.provider: "online" for t in targets}, estimate), Live(targets)
    assert router.route(ask(), live.states).targets[0] is targets[0]
    live.slots[0].take()
    for _ in range(News.LIMIT + 1):
        live.news.tell(live.states[5])
    assert router.route(ask(), live.states).targets[0] is targets[1]


def test_one_that_rests_is_back_when_its_time_has_come() -> None:
    targets = [target(f"p{number:03}", HYBRID) for number in range(4 * FEW)]
    router, live = Router(targets, RoutingConfig(), {t.provider: "online" for t in targets}, estimate), Live(targets)
    live.states[0].open_until, live.states[1].open_until = 5.0, 3.0
    live.news.tell(live.states[0])
    live.news.tell(live.states[1])
    first = [router.route(ask(now=now), live.states).targets[0] for now in (1.0, 3.5, 4.0, 6.0)]
    assert first == [targets[2], targets[1], targets[1], targets[0]]


def drawn_by(targets: Sequence[Target], states: Sequence[TargetState], number: int) -> Route:
    router = Router(targets, RoutingConfig(), {t.provider: "online" for t in targets}, estimate)
    return router.route(ask(stay=Stay(number)), states)


@pytest.mark.parametrize("near", [1, 3, NEAREST, NEAREST + 8, 4 * FEW])
def test_near_equals_of_a_crowd_share_conversations_out(near: int) -> None:
    targets = [target(f"p{number:03}", HYBRID) for number in range(4 * FEW)]
    router, live = Router(targets, RoutingConfig(), {t.provider: "online" for t in targets}, estimate), Live(targets)
    for state in live.states[near:]:
        state.success_rate = 0.1
    plain, numbers = live.plain(), random.Random(7)
    conversations = [numbers.getrandbits(63) for _ in range(40 * near)]
    found = [router.route(ask(stay=Stay(number)), live.states).targets[0] for number in conversations]
    counts = Counter(t.provider for t in found)
    assert counts.keys() == {t.provider for t in targets[:near]}
    assert max(counts.values()) <= 40 * 2
    assert min(counts.values()) >= 40 / 4
    if near < NEAREST:
        assert found == [router.route(ask(stay=Stay(number)), plain).targets[0] for number in conversations]
    again = Router(targets[::-1], RoutingConfig(), {t.provider: "online" for t in targets}, estimate)
    assert found == [again.route(ask(stay=Stay(n)), live.states[::-1]).targets[0] for n in conversations]


def test_conversations_of_a_crowd_mostly_stay_when_one_goes() -> None:
    targets = [target(f"p{number:03}", HYBRID) for number in range(4 * FEW)]
    numbers = [random.Random(seed).getrandbits(63) for seed in range(200)]
    before = [drawn_by(targets, Live(targets).states, n).targets[0] for n in numbers]
    after = [drawn_by(targets[1:], Live(targets[1:]).states, n).targets[0] for n in numbers]
    moved = sum(one is not other for one, other in zip(before, after, strict=True) if one is not targets[0])
    assert moved == 0


def test_few_of_many_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Counter[str]()
    for name in ("rank", "place"):
        real = getattr(Many, name)

        def counted(*given: object, name: str = name, real: object = real) -> object:
            looks[name] += 1
            return real(*given)  # pyright: ignore[reportCallIssue]

        monkeypatch.setattr(Many, name, counted)
    targets = [target(f"p{number:04}", HYBRID) for number in range(1_000)]
    router, live = Router(targets, RoutingConfig(), {t.provider: "online" for t in targets}, estimate), Live(targets)
    router.route(ask(), live.states)
    looks.clear()
    numbers = random.Random(7)
    for _ in range(100):
        route = router.route(ask(stay=Stay(numbers.getrandbits(63))), live.states)
        place = targets.index(route.targets[0])
        live.slots[place].take()
        live.states[place].latency_s = 0.2
        live.news.tell(live.states[place])
    assert looks["place"] <= 200  # its load and its latency
    assert looks["rank"] <= 100 * 4
