"""Who came in the same moment."""

from __future__ import annotations

import asyncio

from model_gateway.cohort import Cohort, turn


def test_alone_two_and_alone_again() -> None:
    cohort = Cohort()
    assert not cohort.several()
    cohort.joined()
    assert not cohort.several()
    cohort.joined()
    cohort.joined()
    assert [cohort.several() for _ in range(3)] == [True, True, True], "for each of them, until others come"
    cohort.joined()
    assert not cohort.several()


async def test_at_a_turn_all_others_come_as_far() -> None:
    told: list[str] = []

    async def one(name: str) -> None:
        for step in "12":
            told.append(step + name)
            await turn()

    await asyncio.gather(one("a"), one("b"), one("c"))
    assert told == ["1a", "1b", "1c", "2a", "2b", "2c"]
