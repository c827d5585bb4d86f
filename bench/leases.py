"""Leases, simulated: what limits and budgets lose when nodes hold a part of them instead of asking for each request.

    .venv/bin/python bench/leases.py          prints the tables of docs/scale.md, in about ten seconds

A node takes a *lease* from the one store that knows the account, and admits from it without asking anybody. Nothing
here is the gateway's own code: it is the arithmetic behind the plan in docs/scale.md, with traffic that is uneven
(the second busiest node gets half of what the busiest gets, the third a third, and so on). Random, from fixed seeds.
"""

from __future__ import annotations

import bisect
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HOLD, COST = 40, 10  # what one request reserves and, on average, spends, in any unit of money
WINDOW_S = 60.0

Lease = Callable[[int, int], int]
"""(what is left in the store, nodes) -> what one lease is."""


def fixed(size: int) -> Lease:
    return lambda _left, _nodes: size


def shrinking(size: int, part: float = 0.5) -> Lease:
    """At most `size`, and no more than `part` of a node's even share of what is left; at least one request's hold."""
    return lambda left, nodes: max(HOLD, min(size, int(left * part / nodes)))


def busy(nodes: int, chance: random.Random) -> Callable[[], int]:
    """Which node the next request comes to: the n-th busiest gets 1/n of what the busiest gets."""
    sums: list[float] = []
    for number in range(nodes):
        sums.append((sums[-1] if sums else 0.0) + 1 / (number + 1))
    return lambda: min(nodes - 1, bisect.bisect(sums, chance.random() * sums[-1]))


@dataclass
class Spending:
    """What became of one budget.

    `early`: the part that was unspent when the first request was refused; `stranded`: when nearly all are. `asked`:
    calls to the store.
    """

    spent: int = 0
    admitted: int = 0
    asked: int = 0
    early: int = 0
    stranded: int = 0

    @property
    def calls(self) -> float:
        return self.asked / max(1, self.admitted)


def spend(budget: int, nodes: int, lease: Lease, seed: int = 1) -> Spending:
    """Requests come until a hundred in a row were refused.

    A request needs HOLD in its node's lease, and spends a part of it; a lease that cannot bear it is topped up from the
    store, as long as that has anything.
    """
    chance = random.Random(seed)
    where = busy(nodes, chance)
    store, held = budget, [0] * nodes
    found = Spending()
    refused = 0
    while refused < 100:
        node = where()
        if held[node] < HOLD and store:
            found.asked += 1
            granted = min(store, max(lease(store, nodes), HOLD - held[node]))
            store -= granted
            held[node] += granted
        if held[node] < HOLD:
            refused += 1
            found.early = found.early or store + sum(held)
            continue
        refused = 0
        cost = min(HOLD, 1 + int(chance.expovariate(1 / (COST - 1))))
        held[node] -= cost
        found.spent += cost
        found.admitted += 1
    found.stranded = store + sum(held)
    return found


@dataclass
class Admitting:
    """What a limit of so many in any WINDOW_S let in: at most in one of them, on average, both over the limit.

    `calls`: to the store, for each request that was let in.
    """

    most: float
    average: float
    calls: float


def arrivals(rate: float, seconds: float, chance: random.Random) -> Iterator[float]:
    now = chance.expovariate(rate)
    while now < seconds:
        yield now
        now += chance.expovariate(rate)


class Store:
    """Counts what it granted in the last `counted_s`."""

    def __init__(self, allowed: int, counted_s: float) -> None:
        self.left, self._counted_s, self._grants = allowed, counted_s, deque[tuple[float, int]]()

    def grant(self, now: float, wanted: int) -> int:
        """How many of them there are."""
        grants = self._grants
        while grants and grants[0][0] <= now - self._counted_s:
            self.left += grants.popleft()[1]
        given = min(wanted, self.left)
        if given:
            grants.append((now, given))
            self.left -= given
        return given


@dataclass
class Node:
    left: int = 0
    until: float = 0.0
    retry_at: float = 0.0
    came: int = 0
    """Requests since it last asked."""


def limit(allowed: int, nodes: int, lease: int, life_s: float, *, careful: bool, seed: int = 1) -> Admitting:
    """One key's limit, leased for `life_s` at a time; twice as many come as may.

    A lease is as many as came to the node since it last asked, at least one and at most `lease`: what is not used in
    its life is lost. A node that got none does not ask again for half a life. The store counts a lease for the window
    from when it was granted; `careful`: for its life longer, since its last request may come that late.
    """
    chance = random.Random(seed)
    where = busy(nodes, chance)
    store = Store(allowed, WINDOW_S + (life_s if careful else 0.0))
    all_nodes = [Node() for _ in range(nodes)]
    entered: list[float] = []
    asked = 0
    for now in arrivals(2 * allowed / WINDOW_S, 5 * WINDOW_S, chance):
        node = all_nodes[where()]
        node.came += 1
        if now >= node.until:
            node.left = 0
        if not node.left and now >= node.retry_at:
            asked += 1
            node.left = store.grant(now, max(1, min(lease, node.came)))
            node.until, node.came = now + life_s, 0
            node.retry_at = 0.0 if node.left else now + life_s / 2
        if node.left:
            node.left -= 1
            entered.append(now)
    most, begin = 0, 0
    for end, at in enumerate(entered):
        while entered[begin] <= at - WINDOW_S:
            begin += 1
        most = max(most, end - begin + 1)
    steady = sum(at >= 2 * WINDOW_S for at in entered) / 3
    return Admitting(most / allowed, steady / allowed, asked / len(entered))


def main() -> None:
    budget = 2_000_000
    print(
        f"one budget, for {budget // COST:,} requests: the part unspent at the first refusal, and when nearly all are"
    )
    print(f"{'nodes':>6} {'lease, requests':>16} {'':>10} {'first':>8} {'last':>8} {'calls/request':>14}")
    for nodes in (10, 100, 1_000):
        for size in (10, 100):
            for name, lease in (("fixed", fixed(size * COST)), ("shrinking", shrinking(size * COST))):
                seen = spend(budget, nodes, lease)
                parts = f"{seen.early / budget:8.2%} {seen.stranded / budget:8.2%}"
                print(f"{nodes:6,} {size:16,} {name:>10} {parts} {seen.calls:14.4f}")
    print("\none key of 6,000 requests a minute, 12,000 come: most in any 60 s, average, over the limit")
    print(f"{'nodes':>6} {'lease':>6} {'life, s':>8} {'':>9} {'most':>8} {'average':>8} {'calls/request':>14}")
    for nodes in (10, 100):
        for size, life_s in ((1, 1.0), (50, 1.0), (50, 5.0)):
            for careful in (False, True):
                let = limit(6_000, nodes, size, life_s, careful=careful)
                figures = f"{let.most:8.1%} {let.average:8.1%} {let.calls:14.4f}"
                print(f"{nodes:6,} {size:6,} {life_s:8g} {'careful' if careful else 'plain':>9} {figures}")


if __name__ == "__main__":
    main()
