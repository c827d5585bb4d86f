"""Limits in memory that processes share: as exact as in one process, whoever dies in the middle of counting."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_gateway.admission.limits import Limiter
from model_gateway.admission.shared import SharedRooms, memory_of
from model_gateway.admission.window import Window
from model_gateway.domain.caller import Limits
from model_gateway.domain.errors import Overloaded, RateLimited

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers share memory on Linux only")

SLOTS = 8


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = memory_of(SLOTS)
    yield descriptor
    os.close(descriptor)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_it_counts_as_the_window_of_one_process_does(data: st.DataObject) -> None:
    memory = memory_of(SLOTS)
    alone, shared = Window(), [SharedRooms(memory, slot, SLOTS)("ada").tokens for slot in range(2)]
    limit, merge_s = data.draw(st.integers(1, 300)), data.draw(st.sampled_from([0.0, 0.125]))
    for window in (alone, *shared):
        window.limit, window.merge_s = limit, merge_s
    now, held = 1.0, list[tuple[int, int]]()
    for _ in range(data.draw(st.integers(1, 80))):
        now += data.draw(st.sampled_from([0.0, 0.0625, 1.0, 30.0, 61.0]))
        window, amount = shared[data.draw(st.integers(0, 1))], data.draw(st.integers(1, 60))
        what = data.draw(st.sampled_from(["take", "take", "add", "give back"]))
        if what == "take":
            taken = window.take(amount, now)
            assert alone.take(amount, now) == taken
            if taken.entry is not None:
                held.append((taken.entry, amount))
        elif what == "add":
            window.add(amount, now)
            alone.add(amount, now)
        elif held:
            entry, amount = held.pop()
            window.give_back(entry, amount)
            alone.give_back(entry, amount)
        assert window.level(now) == alone.level(now)
    os.close(memory)


TAKER = """
import sys, time
from model_gateway.admission.limits import Limiter
from model_gateway.admission.shared import SharedRooms
from model_gateway.domain.caller import Limits
from model_gateway.domain.errors import GatewayError
memory, slot, slots, limit = map(int, sys.argv[1:])
limiter = Limiter("ada", Limits(requests_per_minute=limit), time.monotonic, SharedRooms(memory, slot, slots))
until, told = time.monotonic() + 20, 0
print("begun", flush=True)
while time.monotonic() < until:
    try:
        limiter.enter()
    except GatewayError:
        continue
    sys.stdout.write("1")
    sys.stdout.flush()
"""


def taker(memory: int, slot: int, limit: int) -> subprocess.Popen[str]:
    words = [str(each) for each in (memory, slot, SLOTS, limit)]
    return subprocess.Popen([sys.executable, "-c", TAKER, *words], pass_fds=[memory], stdout=subprocess.PIPE, text=True)


def test_killed_in_the_middle_of_counting_they_never_let_in_too_many(memory: int) -> None:
    limit, random_ = 5000, random.Random(1)
    running = [taker(memory, slot, limit) for slot in range(3)]
    let_in = 0
    for _ in range(12):
        time.sleep(random_.uniform(0.2, 0.4))
        slot = random_.randrange(3)
        running[slot].send_signal(signal.SIGKILL)
        let_in += (running[slot].communicate()[0] or "").count("1")
        running[slot] = taker(memory, slot, limit)
    time.sleep(1)
    for process in running:
        process.kill()
        let_in += (process.communicate()[0] or "").count("1")
    # Whoever dies between counting and telling has let nobody in.
    assert limit - 15 <= let_in <= limit
    with pytest.raises(RateLimited):
        Limiter("ada", Limits(requests_per_minute=limit), time.monotonic, SharedRooms(memory, 4, SLOTS)).enter()


def test_the_places_of_a_dead_process_are_free_again(memory: int) -> None:
    limits = Limits(max_concurrent=3)
    first, second = (Limiter("ada", limits, time.monotonic, SharedRooms(memory, slot, SLOTS)) for slot in range(2))
    leases = [first.enter(), second.enter(), second.enter()]
    with pytest.raises(RateLimited):
        first.enter()
    leases[1].close(0)
    first.enter()
    with pytest.raises(RateLimited):
        second.enter()
    SharedRooms(memory, 7, SLOTS).clear(0)
    second.enter()
    second.enter()
    with pytest.raises(RateLimited):
        second.enter()


def test_different_keys_do_not_meet(memory: int) -> None:
    for name in ("ada", "bob", "", "ä", "a" * 1000):
        limiter = Limiter(name, Limits(requests_per_minute=1), time.monotonic, SharedRooms(memory, 0, SLOTS))
        limiter.enter()
        with pytest.raises(RateLimited):
            limiter.enter()


@contextmanager
def held(memory: int) -> Generator[None]:
    """Another process holds the lock of the first name, and does not let go."""
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl,sys;fcntl.lockf({memory},fcntl.LOCK_EX,1,0);print(1,flush=True);input()"],
        pass_fds=[memory], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        yield
    finally:
        holder.kill()
        holder.communicate()


def test_nobody_waits_for_a_process_that_does_not_let_go(memory: int) -> None:
    limits = Limits(requests_per_minute=2, max_concurrent=2)
    limiter = Limiter("ada", limits, time.monotonic, SharedRooms(memory, 0, SLOTS))
    with held(memory):
        begun = time.monotonic()
        with pytest.raises(Overloaded):
            limiter.enter()
        first_s = time.monotonic() - begun
        for _ in range(10):  # whoever comes next does not wait again
            with pytest.raises(Overloaded):
                limiter.enter()
        assert first_s < 0.5
        assert time.monotonic() - begun < 2 * first_s
    # What was refused has taken neither a place nor a request.
    limiter.enter()
    limiter.enter()
    with pytest.raises(RateLimited):
        limiter.enter()


def test_what_is_over_is_counted_though_a_process_does_not_let_go(memory: int) -> None:
    limits = Limits(tokens_per_minute=100)
    limiter = Limiter("ada", limits, time.monotonic, SharedRooms(memory, 0, SLOTS))
    frugal, wasteful = limiter.enter(), limiter.enter()
    frugal.reserve(30)
    wasteful.reserve(10)
    with held(memory):
        frugal.close(20)  # 10 are not given back: it counts for more than it took, never for less
        wasteful.close(40)  # 30 more, which wait
        quota = limiter.quota()
    assert quota.tokens is not None
    assert quota.tokens.remaining == 60
    lease = limiter.enter()
    lease.reserve(30)
    with pytest.raises(RateLimited):
        limiter.enter().reserve(1)
    told = limiter.quota().tokens
    assert told is not None
    assert told.remaining == 0
    lease.close(30)
