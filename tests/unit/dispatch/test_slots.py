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


async def waiting(slots: Slots, served: list[str], tenant: str, name: str, timeout_s: float = 5) -> bool:
    given = await slots.wait(timeout_s, tenant)
    if given:
        served.append(name)
    return given


async def test_tenants_take_turns_whoever_came_first() -> None:
    slots, served = Slots(1, queue=200), list[str]()
    assert slots.take()
    tasks = [asyncio.ensure_future(waiting(slots, served, "loud", f"loud{i}")) for i in range(100)]
    await settle()
    tasks += [asyncio.ensure_future(waiting(slots, served, "quiet", f"quiet{i}")) for i in range(2)]
    tasks += [asyncio.ensure_future(waiting(slots, served, "third", "third0"))]
    await settle()
    assert slots.load.tenants == {"loud": 100, "quiet": 2, "third": 1} and slots.load.waiting == 103
    for _ in range(103):
        slots.give_back()
        await settle()
    assert served[:7] == ["loud0", "quiet0", "third0", "loud1", "quiet1", "loud2", "loud3"]
    assert all(await asyncio.gather(*tasks))
    slots.give_back()
    assert slots.load.in_flight == 0 and slots.load.tenants == {}


async def test_a_tenant_whose_waiters_leave_loses_no_turn_of_the_others() -> None:
    slots, served = Slots(1, queue=20), list[str]()
    assert slots.take()
    loud = [asyncio.ensure_future(waiting(slots, served, "loud", f"loud{i}")) for i in range(3)]
    gone = asyncio.ensure_future(waiting(slots, served, "gone", "gone"))
    late = asyncio.ensure_future(waiting(slots, served, "late", "late", timeout_s=0.01))
    quiet = asyncio.ensure_future(waiting(slots, served, "quiet", "quiet"))
    await settle()
    gone.cancel()
    loud[0].cancel()
    assert not await late
    await asyncio.gather(gone, loud[0], return_exceptions=True)
    assert slots.load.tenants == {"loud": 2, "quiet": 1}
    for _ in range(3):
        slots.give_back()
        await settle()
    assert served == ["loud1", "quiet", "loud2"] and await quiet
    slots.give_back()
    assert slots.load.in_flight == 0


async def test_a_full_queue_still_has_room_for_those_who_have_fewer_in_it() -> None:
    slots, served = Slots(1, queue=4), list[str]()
    assert slots.take()
    loud = [asyncio.ensure_future(waiting(slots, served, "loud", f"loud{i}")) for i in range(4)]
    await settle()
    assert not slots.load.has_room_for("loud") and slots.load.has_room_for("quiet")
    quiet = [asyncio.ensure_future(waiting(slots, served, "quiet", f"quiet{i}")) for i in range(3)]
    await settle()
    assert slots.load.tenants == {"loud": 2, "quiet": 2} and slots.load.waiting == 4
    assert not quiet[0].done() and not quiet[1].done() and not await quiet[2]
    assert (loud[2].done(), loud[3].done()) == (True, True), "the last who came make room"
    assert not loud[2].result() and not loud[3].result()
    for _ in range(4):
        slots.give_back()
        await settle()
    assert served == ["loud0", "quiet0", "loud1", "quiet1"]


async def test_a_tenant_waits_with_no_more_than_its_key_allows() -> None:
    slots = Slots(1, queue=9)
    assert slots.take()
    first = asyncio.ensure_future(slots.wait(5, "a", 1))
    await settle()
    assert not await slots.wait(5, "a", 1)
    other = asyncio.ensure_future(slots.wait(5, "b", 1))
    await settle()
    assert slots.load.waiting == 2
    slots.give_back()
    slots.give_back()
    assert await first and await other


@pytest.mark.parametrize("seed", range(10))
async def test_tenants_that_come_and_go_lose_and_double_no_place(seed: int) -> None:
    chance = random.Random(seed)
    slots = Slots(2, queue=6)
    inside = 0

    async def caller() -> None:
        nonlocal inside
        if not await slots.wait(chance.choice((0.0, 0.001, 1.0)), chance.choice("abc"), chance.choice((0, 3))):
            return
        inside += 1
        assert inside <= 2 and slots.load.waiting <= 6
        try:
            await asyncio.sleep(chance.random() / 500)
        finally:
            inside -= 1
            slots.give_back()

    tasks = [asyncio.ensure_future(caller()) for _ in range(80)]
    for _ in tasks:
        await asyncio.sleep(chance.random() / 2000)
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [result for result in results if isinstance(result, Exception)]
    load = slots.load
    assert (load.in_flight, load.waiting, load.full, load.room, load.tenants) == (0, 0, False, 6, {})


async def test_more_places_let_waiters_in_and_fewer_wait_for_those_that_end() -> None:
    slots = Slots(1, queue=5)
    assert slots.take()
    waiting = [asyncio.ensure_future(slots.wait(5)) for _ in range(3)]
    await settle()
    slots.resize(3, queue=5)
    await settle()
    assert [each.done() for each in waiting] == [True, True, False]
    assert slots.load.in_flight == 3 and slots.load.full and slots.load.room == 4

    slots.resize(1, queue=1)
    slots.give_back()
    slots.give_back()
    await settle()
    assert not waiting[2].done(), "three were in flight, and one may be"
    assert slots.load.in_flight == 1 and slots.load.full
    slots.give_back()
    assert await waiting[2] and slots.load.in_flight == 1
    slots.give_back()
    assert slots.load.in_flight == 0 and not slots.load.full and slots.load.room == 1
