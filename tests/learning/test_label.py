"""`routing label` against a running gateway: what it writes, what it may spend, and that a kill costs no row."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import config_for, fixture_provider
from model_gateway.app import App
from upstream import FixtureUpstream, Seen, until, whole

USD_PER_CALL = (10 * 1.0 + 5 * 2.0) / 1e6  # at fixture_provider's prices


def said(seen: Seen) -> str:
    """The weak model adds one to every second sum; the judge finds what the right answer is, wherever it stands."""
    body = seen.json
    text: str = body["messages"][-1]["content"]
    if body["model"] == "judge":
        marks = re.findall(r"ANSWER [AB]>>>\n(.*?)\n<<<", text, re.DOTALL)
        return "Here: " + json.dumps(
            {name: 0.9 if "right" in mark else 0.2 for name, mark in zip("ab", marks, strict=True)}
        )
    number = int(text.split()[-1])
    if body["model"] == "strong":
        return f"right, it is {number}."
    return f"right, it is {number}" if number % 2 else f"I think {number + 1}"


def provider(seen: Seen, writer: asyncio.StreamWriter) -> Any:
    message = {"role": "assistant", "content": said(seen)}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
    return whole(json.dumps(body).encode())(seen, writer)


class Bench:
    """A gateway, its provider, and a folder in which the command runs."""

    def __init__(self, app: App, upstream: FixtureUpstream, folder: Path) -> None:
        self.app, self.upstream, self.folder = app, upstream, folder
        self.out = folder / "labels.csv"

    async def start(self, data: Path, *more: str) -> asyncio.subprocess.Process:
        url = f"http://127.0.0.1:{self.app.http_port}"
        arguments = ["--data", str(data), "--weak", "p/weak", "--strong", "p/strong", "--out", str(self.out)]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "model_gateway.cli", "routing", "label", *arguments, "--url", url, *more),
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, data: Path, *more: str, code: int = 0) -> dict[str, Any]:
        process = await self.start(data, *more)
        out, errors = await process.communicate()
        assert process.returncode == code, errors.decode()
        return json.loads(out) if out else {"error": errors.decode()}

    def rows(self) -> list[dict[str, str]]:
        with self.out.open(newline="") as file:
            return list(csv.DictReader(file))

    def charged(self) -> int:
        return len(self.upstream.seen)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with FixtureUpstream(provider) as upstream:
        offered = fixture_provider(upstream.url, supported_models=("weak", "strong", "judge"))
        config = config_for(tmp_path, {"p": offered})
        told = {"p": offered.model_dump(mode="json", exclude_unset=True)}
        (tmp_path / "gateway.yaml").write_text(json.dumps({"providers": told}))
        async with App(config) as app:
            yield Bench(app, upstream, tmp_path)


def sums(folder: Path, count: int) -> Path:
    path = folder / "sums.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "answer", "domain", "language"])
        writer.writerows([f'Say, "with care",\nthe number {n}', n, "math", "en"] for n in range(count))
    return path


async def test_references_tell_who_was_right_and_a_second_run_asks_nothing(bench: Bench) -> None:
    data = sums(bench.folder, 6)
    summary = await bench.run(data, "--references", "answer", "--match", "number")
    assert (summary["ended"], summary["rows_written"], summary["failed"], summary["left"]) == ("done", 6, 0, 0)
    assert (summary["weak_mean"], summary["strong_mean"]) == (0.5, 1.0)
    assert summary["spent_usd"] == pytest.approx(12 * USD_PER_CALL)
    rows = sorted(bench.rows(), key=lambda row: row["prompt"])
    assert [row["weak"] for row in rows] == ["0.0", "1.0"] * 3
    assert rows[0] == {
        "prompt": 'Say, "with care",\nthe number 0',
        "weak": "0.0",
        "strong": "1.0",
        "domain": "math",
        "language": "en",
        "weak_model": "p/weak",
        "strong_model": "p/strong",
    }
    again = await bench.run(data, "--references", "answer", "--match", "number")
    assert (again["rows_written"], again["rows_before"], bench.charged()) == (0, 6, 12)


async def test_a_judge_sees_both_orders_and_no_names(bench: Bench) -> None:
    data = bench.folder / "prompts.txt"
    data.write_text("The number 2\n\nThe number 3\nThe number 2\n")
    await bench.run(data, "--judge", "p/judge")
    scores = {row["prompt"]: (row["weak"], row["strong"]) for row in bench.rows()}
    assert scores == {"The number 2": ("0.2", "0.9"), "The number 3": ("0.9", "0.9")}
    judged = [seen.json["messages"][-1]["content"] for seen in bench.upstream.seen if seen.json["model"] == "judge"]
    assert len(judged) == 4
    assert not any("p/weak" in text or "p/strong" in text or "weak" in text for text in judged)
    firsts = [re.search(r"ANSWER A>>>\n(.*)", text) for text in judged if "The number 2" in text]
    assert {found[1] for found in firsts if found} == {"I think 3", "right, it is 2."}


async def test_the_budget_is_never_passed_not_even_by_later_runs(bench: Bench) -> None:
    data = sums(bench.folder, 40)
    budget = 0.0012  # a call can cost at most about 0.0004 with 50 tokens out
    more = ("--references", "answer", "--budget-usd", str(budget), "--max-tokens", "50", "--match", "number")
    summary = await bench.run(data, *more)
    assert summary["ended"] == "budget" and summary["rows_written"] > 0 and summary["left"] > 0
    assert bench.charged() * USD_PER_CALL <= summary["spent_usd"] + 1e-12 <= budget + 1e-12
    calls = bench.charged()
    again = await bench.run(data, *more)
    assert again["ended"] == "budget" and again["spent_usd"] <= budget
    assert bench.charged() - calls <= 1, "what earlier runs have spent counts"


async def test_killed_and_resumed_no_row_is_lost_or_twice_and_nothing_is_forgotten(bench: Bench) -> None:
    data = sums(bench.folder, 30)
    more = ("--references", "answer", "--match", "number", "--concurrency", "2")
    process = await bench.start(data, *more)
    await until(lambda: bench.out.exists() and bench.out.read_bytes().count(b"p/strong") >= 5, 30)
    process.kill()
    await process.wait()
    kept = bench.rows()
    with bench.out.open("ab") as file:
        file.write(b'"a row, torn in\nits mid')
    summary = await bench.run(data, *more)
    assert summary["rows_before"] == len(kept) and len(kept) >= 5
    assert summary["rows_written"] == 30 - len(kept)
    rows = bench.rows()
    assert rows[: len(kept)] == kept
    assert len({row["prompt"] for row in rows}) == len(rows) == 30
    assert summary["spent_usd"] >= bench.charged() * USD_PER_CALL - 1e-12


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ((), "--judge and --match"),
        (("--match", "number"), "--references"),
        (("--judge", "p/nobody"), "p/nobody is no model"),
        (("--judge", "p/judge", "--url", "http://127.0.0.1:1"), "no gateway listens"),
    ],
)
async def test_what_cannot_work_is_said(bench: Bench, more: tuple[str, ...], told: str) -> None:
    data = bench.folder / "prompts.txt"
    data.write_text("The number 2\n")
    failed = await bench.run(data, *more, code=1)
    assert told in failed["error"] and "Traceback" not in failed["error"]
