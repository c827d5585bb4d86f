"""The simulation behind docs/scale.md: what it must never do, whatever the figures are."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[2] / "bench" / "leases.py"


@pytest.fixture(scope="module")
def leases() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_leases", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


BUDGET = 100_000


@pytest.mark.parametrize("nodes", [1, 7, 60])
@pytest.mark.parametrize("kind", ["fixed", "shrinking"])
def test_a_leased_budget_is_never_overspent_and_every_unit_is_accounted_for(
    leases: ModuleType, nodes: int, kind: str
) -> None:
    for seed in range(3):
        seen = leases.spend(BUDGET, nodes, getattr(leases, kind)(500), seed)
        assert seen.spent <= BUDGET
        assert seen.spent + seen.stranded == BUDGET


def test_what_is_stranded_is_bounded_by_the_leases(leases: ModuleType) -> None:
    nodes, size = 40, 400
    seen = leases.spend(BUDGET, nodes, leases.fixed(size))
    assert seen.early <= nodes * (size + leases.HOLD)
    assert leases.spend(BUDGET, nodes, leases.shrinking(size)).early < seen.early


def test_a_larger_lease_asks_less_often(leases: ModuleType) -> None:
    calls = [leases.spend(BUDGET, 5, leases.fixed(size)).calls for size in (40, 400, 4_000)]
    assert calls == sorted(calls, reverse=True)
    assert calls[-1] < calls[0] / 20


@pytest.mark.parametrize("nodes", [1, 20])
def test_a_careful_store_never_lets_in_more_than_the_limit(leases: ModuleType, nodes: int) -> None:
    assert leases.limit(600, nodes, 20, 5.0, careful=True).most <= 1


def test_a_plain_store_lets_in_more_by_at_most_the_life_of_a_lease(leases: ModuleType) -> None:
    life_s = 5.0
    seen = leases.limit(600, 20, 20, life_s, careful=False)
    assert seen.most <= 1 + life_s / leases.WINDOW_S
