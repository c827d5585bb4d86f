from __future__ import annotations

import multiprocessing
import os

from hypothesis import given
from hypothesis import strategies as st

from model_gateway.domain.route import TIERS, Tier
from model_gateway.sessions.identity import beginning, named
from model_gateway.sessions.table import BUCKETS, WAYS, SessionTable, memory_of

KEYS = st.integers(1, 2**63 - 1)


@given(KEYS, st.integers(0, 2**63 - 1), st.sampled_from(TIERS) | st.none(), st.integers(0, 10**9))
def test_what_was_kept_is_found_until_its_time_is_over(key: int, target: int, tier: Tier | None, now: int) -> None:
    table = TABLE
    table.keep(key, target, tier, now)
    found = table.find(key, now + 100, 100)
    assert found is not None
    assert (found.target, found.tier, found.when) == (target, tier, now)
    assert table.find(key, now + 102, 100) is None
    assert table.find(key ^ 1 or 2, now, 100) is None or key ^ 1 == 0


TABLE = SessionTable()


def test_a_full_bucket_forgets_what_was_used_longest_ago() -> None:
    table = SessionTable()
    keys = [5 + BUCKETS * number for number in range(WAYS + 1)]
    for at, key in enumerate(keys[:WAYS]):
        table.keep(key, 1, None, 100 + at)
    table.keep(keys[0], 1, None, 200)
    table.keep(keys[WAYS], 1, None, 201)
    assert [table.find(key, 201, 1000) is not None for key in keys] == [True, False, True, True, True]


def test_an_entry_that_is_half_written_is_none() -> None:
    table = SessionTable()
    table.keep(7, 1, Tier.REMOTE, 100)
    at = table._at(7)  # pyright: ignore[reportPrivateUsage]
    assert at is not None
    table._ints[at + 1] = 2  # pyright: ignore[reportPrivateUsage]
    assert table.find(7, 100, 1000) is None


def _write(descriptor: int, target: int) -> None:
    table = SessionTable(descriptor)
    for number in range(20_000):
        table.keep(1 + number % 8 * BUCKETS, target, TIERS[target], 100)


def test_processes_see_what_others_keep_and_never_a_mixture() -> None:
    descriptor = memory_of()
    forking = multiprocessing.get_context("fork")
    writers = [forking.Process(target=_write, args=(descriptor, target)) for target in range(3)]
    for writer in writers:
        writer.start()
    table, seen = SessionTable(descriptor), 0
    while any(writer.is_alive() for writer in writers):
        for number in range(8):
            found = table.find(1 + number * BUCKETS, 100, 10)
            if found is not None:
                seen += 1
                assert found.tier == TIERS[found.target]
    for writer in writers:
        writer.join()
    os.close(descriptor)
    assert seen


def test_conversations_of_different_callers_are_different() -> None:
    names = [
        named("team", "ada", "1"),
        named("team", "bob", "1"),
        named("other", "ada", "1"),
        named("team", "ada", "2"),
        beginning("team", "ada", "", "1"),
        beginning("team", "ada", "1", ""),
        beginning("team", "ada", "s", "x" * 5_000),
        beginning("team", "ada", "s", "x" * 5_001),
    ]
    assert len(set(names)) == len(names)
    assert all(0 < name < 2**63 for name in names)
    assert beginning("team", "ada", "s", "x") == beginning("team", "ada", "s", "x")
