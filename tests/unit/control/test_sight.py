"""How old a figure may be, and that counting stays a small part of the time."""

from __future__ import annotations

import asyncio

import pytest

from model_gateway.control.sight import Kept


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_many_who_ask_at_once_cost_one_look() -> None:
    looks: list[int] = []
    kept = Kept[int](3.0, Clock())

    def look() -> int:
        looks.append(1)
        return len(looks)

    assert await asyncio.gather(*(kept.get(look) for _ in range(20))) == [1] * 20


async def test_it_is_looked_anew_when_it_is_old_and_the_later_the_longer_it_takes() -> None:
    clock = Clock()
    kept = Kept[float](3.0, clock)

    def look() -> float:
        clock.now += 1.0  # so long it takes: twenty times as long it counts
        return clock.now

    assert await kept.get(look) == 101.0
    clock.now = 120.9
    assert await kept.get(look) == 101.0
    clock.now = 121.0
    assert await kept.get(look) == 122.0


async def test_after_a_failure_it_is_looked_again() -> None:
    kept = Kept[int](3.0, Clock())

    def fail() -> int:
        raise OSError("the database is away")

    with pytest.raises(OSError, match="away"):
        await kept.get(fail)
    assert await kept.get(lambda: 5) == 5
