"""Who came in the same moment, and what they write together."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from model_gateway.cohort import MOST_BYTES, MOST_UNSENT, Cohort, turn


class Wire:
    """Both ends of a transport; all wires of a test share `told`."""

    def __init__(self, name: str, told: list[tuple[str, bytes]]) -> None:
        self.name, self.told, self.closing = name, told, False

    def write(self, data: bytes) -> None:
        assert not self.closing
        self.told.append((self.name, data))

    def is_closing(self) -> bool:
        return self.closing


def wires(names: str) -> tuple[list[tuple[str, bytes]], list[Any]]:
    told: list[tuple[str, bytes]] = []
    return told, [cast(Any, Wire(name, told)) for name in names]


def together(many: int) -> Cohort:
    cohort = Cohort()
    for _ in range(many):
        cohort.joined()
    return cohort


async def test_alone_two_and_alone_again() -> None:
    cohort = Cohort()
    assert not cohort.several()
    cohort.joined()
    assert not cohort.several()
    await asyncio.sleep(0)
    cohort.joined()
    cohort.joined()
    assert [cohort.several() for _ in range(3)] == [True, True, True], "for each of them"
    await asyncio.sleep(0)
    assert cohort.several(), "until others come"
    cohort.joined()
    assert not cohort.several()


async def test_a_cohort_is_complete_before_any_of_it_goes_on() -> None:
    cohort, found = Cohort(), list[bool]()
    loop = asyncio.get_running_loop()

    def read(*, last: bool) -> None:
        cohort.joined()
        loop.call_soon(lambda: found.append(cohort.several()))
        if last:
            loop.call_soon(read_alone)

    def read_alone() -> None:
        cohort.joined()
        loop.call_soon(lambda: found.append(cohort.several()))

    read(last=False)
    read(last=True)
    for _ in range(4):
        await asyncio.sleep(0)
    assert found == [True, True, False]


async def test_pieces_that_nobody_is_woken_for() -> None:
    cohort, (told, [a, b]) = Cohort(), wires("ab")
    for _ in range(3):
        cohort.joined()
        cohort.send(a, b"1")
        cohort.joined()
        cohort.send(b, b"2")
        assert told == [("a", b"1")], "the first goes on at once"
        await asyncio.sleep(0)
        assert told == [("a", b"1"), ("b", b"2")]
        told.clear()


async def test_at_a_turn_all_others_come_as_far() -> None:
    told: list[str] = []

    async def one(name: str) -> None:
        for step in "12":
            told.append(step + name)
            await turn()

    await asyncio.gather(one("a"), one("b"), one("c"))
    assert told == ["1a", "1b", "1c", "2a", "2b", "2c"]


async def test_who_is_alone_writes_at_once() -> None:
    cohort, (told, [a]) = together(1), wires("a")
    cohort.send(a, b"1")
    assert told == [("a", b"1")] and not cohort.unsent


async def test_several_write_together_each_in_his_own_order() -> None:
    cohort, (told, [a, b]) = together(2), wires("ab")
    for wire, data in ((a, b"1"), (a, b"2"), (b, b"3"), (a, b"4")):
        cohort.send(wire, data)
    assert not told and cohort.unsent
    cohort._complete()
    cohort.joined()
    cohort.send(b, b"5")  # whoever is alone by now does not overtake what was said before
    assert not told
    await asyncio.sleep(0)
    assert told == [("a", b"12"), ("b", b"3"), ("a", b"4"), ("b", b"5")] and not cohort.unsent
    cohort.send(b, b"6")
    assert told[-1] == ("b", b"6")


async def test_what_is_unsent_is_written_before_a_close_and_not_after() -> None:
    cohort, (told, [a, b]) = together(2), wires("ab")
    cohort.send(a, b"1")
    cohort.send(b, b"2")
    cohort.flush()
    assert told == [("a", b"1"), ("b", b"2")]
    cohort.send(a, b"3")
    cohort.send(b, b"4")
    a.closing = True
    await asyncio.sleep(0)
    assert told[2:] == [("b", b"4")]


async def test_who_writes_without_end_is_held_by_the_transport() -> None:
    cohort, (told, [a, b]) = together(2), wires("ab")
    for _ in range(MOST_UNSENT - 1):
        cohort.send(a, b"x")
    assert not told
    cohort.send(a, b"x")
    assert told == [("a", b"x" * MOST_UNSENT)] and not cohort.unsent
    cohort.send(b, b"y" * (MOST_BYTES + 1))
    assert told[-1][0] == "b" and not cohort.unsent
