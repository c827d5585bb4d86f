from __future__ import annotations

import asyncio
import random

import pytest

from model_gateway.dispatch.slots import Slots


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_places_then_a_queue_in_order_then_a_refusal() -> None:
    slots = Slots(1, queue=2)
    assert slots.take() and not slots.take()
    assert slots.load.full and slots.load.room == 2
    served: list[str] = []

    async def caller(name: str) -> None:
        if await slots.wait(5):
            served.append(name)

    first, second = asyncio.ensure_future(caller("first")), asyncio.ensure_future(caller("second"))
    await settle()
    assert slots.load.waiting == 2 and slots.load.room == 0
    assert not await slots.wait(5), "the queue is full"
    slots.give_back()
    await settle()
    assert served == ["first"] and slots.load.in_flight == 1
    slots.give_back()
    await asyncio.gather(first, second)
    assert served == ["first", "second"]
    slots.give_back()
    assert slots.load.in_flight == 0 and not slots.load.full and slots.load.room == 2


async def test_a_wait_ends_in_time_and_leaves_the_queue() -> None:
    slots = Slots(1, queue=5)
    assert slots.take()
    assert not await slots.wait(0.01)
    assert slots.load.waiting == 0
    slots.give_back()
    assert slots.load.in_flight == 0


async def test_a_place_given_to_one_who_leaves_at_that_moment_is_passed_on() -> None:
    slots = Slots(1, queue=5)
    assert slots.take()
    leaver = asyncio.ensure_future(slots.wait(5))
    waiter = asyncio.ensure_future(slots.wait(5))
    await settle()
    slots.give_back()  # the leaver's turn is set, but it has not run yet
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert await waiter
    assert slots.load.in_flight == 1
    slots.give_back()
    assert slots.load.in_flight == 0 and slots.load.waiting == 0


async def test_a_waiter_cancelled_before_its_turn_is_skipped() -> None:
    slots = Slots(1, queue=5)
    assert slots.take()
    leaver = asyncio.ensure_future(slots.wait(5))
    waiter = asyncio.ensure_future(slots.wait(5))
    await settle()
    leaver.cancel()
    slots.give_back()
    assert await waiter
    await asyncio.gather(leaver, return_exceptions=True)
    assert slots.load.in_flight == 1


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_comes_and_goes_no_place_is_lost_and_none_is_doubled(seed: int) -> None:
    chance = random.Random(seed)
    slots = Slots(3, queue=8)
    inside = 0

    async def caller() -> None:
        nonlocal inside
        if not await slots.wait(chance.choice((0.0, 0.001, 1.0))):
            return
        inside += 1
        assert inside <= 3
        try:
            await asyncio.sleep(chance.random() / 500)
        finally:
            inside -= 1
            slots.give_back()

    tasks = [asyncio.ensure_future(caller()) for _ in range(80)]
    for task in tasks:
        await asyncio.sleep(chance.random() / 2000)
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.2:
            task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [result for result in results if isinstance(result, Exception)]
    assert (slots.load.in_flight, slots.load.waiting, slots.load.full, slots.load.room) == (0, 0, False, 8)
