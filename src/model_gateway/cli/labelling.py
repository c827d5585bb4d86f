"""`routing label`: asks a weak and a strong model the same prompts, and writes how right each was.

Decides the order of work and when it ends: all done, the limit, the budget, or Ctrl-C. What was written stays written;
the next run asks only what is missing. A prompt that could not be judged is left out, never guessed.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer

from model_gateway.budget.prices import price_of
from model_gateway.cli import judging
from model_gateway.cli.output import CommandFailed
from model_gateway.cli.paid_calls import CallFailed, OutOfBudget, PaidCalls, Place
from model_gateway.cli.rows_file import Prompt, RowsFile
from model_gateway.cli.spending import Spending
from model_gateway.config.load import load
from model_gateway.domain.route import Target
from model_gateway.domain.usage import NANO_PER_USD, usd_from_nano
from model_gateway.providers.adapters import features_of
from model_gateway.routing.catalog import build_targets

_PROGRESS_S = 2.0


@dataclass(frozen=True, slots=True)
class Task:
    """`judge` or `match`, one of both. `budget_usd` over all runs into `out`."""

    place: Place
    prompts: Sequence[Prompt]
    weak: str
    strong: str
    judge: str
    match: str
    limit: int | None
    budget_usd: float | None
    max_tokens: int
    concurrency: int
    out: Path
    config: Path | None


def label(task: Task) -> Mapping[str, Any]:
    """Returns the summary. Raises CommandFailed."""
    _check(task)
    models = [name for name in (task.weak, task.strong, task.judge) if name]
    targets = _targets(task, models)
    file = RowsFile(task.out)
    stop = threading.Event()
    limit = None if task.budget_usd is None else int(task.budget_usd * NANO_PER_USD)
    spending = Spending(task.out.with_name(task.out.name + ".spent"), limit, stop.is_set)
    try:
        calls = PaidCalls(task.place, targets, spending, task.max_tokens, stop)
        return _Run(task, file, calls, spending, stop).go()
    finally:
        spending.close()
        file.close()


class _Run:
    def __init__(self, task: Task, file: RowsFile, calls: PaidCalls, spending: Spending, stop: threading.Event) -> None:
        self._task, self._file, self._calls, self._spending, self._stop = task, file, calls, spending, stop
        self._missing = [prompt for prompt in task.prompts if prompt.text not in file.done]
        self._before = len(task.prompts) - len(self._missing)
        self._sums = [0.0, 0.0]
        self._rows = 0
        self._failed: list[str] = []
        self._ended = "done"

    def go(self) -> Mapping[str, Any]:
        todo = iter(self._missing[: self._task.limit])
        running: set[Future[tuple[float, float]]] = set()
        told_at = time.monotonic()
        with ThreadPoolExecutor(self._task.concurrency) as pool:
            try:
                while True:
                    while len(running) < self._task.concurrency and not self._stop.is_set():
                        prompt = next(todo, None)
                        if prompt is None:
                            break
                        running.add(pool.submit(self._row, prompt))
                    if not running:
                        break
                    done, running = wait(running, timeout=_PROGRESS_S, return_when=FIRST_COMPLETED)
                    for each in done:
                        self._count(each)
                    if time.monotonic() - told_at >= _PROGRESS_S:
                        told_at = time.monotonic()
                        self._tell()
            except KeyboardInterrupt:
                self._ended = "interrupted"
            finally:
                self._stop.set()
        self._tell()
        return self._summary()

    def _row(self, prompt: Prompt) -> tuple[float, float]:
        task = self._task
        weak, strong = self._calls.ask(task.weak, prompt.text), self._calls.ask(task.strong, prompt.text)
        if task.match:
            compare = judging.MATCHES[task.match]
            scores = compare(weak, prompt.reference), compare(strong, prompt.reference)
        else:
            scores = self._judged(prompt, weak, strong)
        row = {"prompt": prompt.text, "weak": round(scores[0], 4), "strong": round(scores[1], 4)}
        names = {"domain": prompt.domain, "language": prompt.language}
        self._file.append(row | names | {"weak_model": task.weak, "strong_model": task.strong})
        return scores

    def _judged(self, prompt: Prompt, weak: str, strong: str) -> tuple[float, float]:
        orders = [(weak, strong), (strong, weak)]
        random.SystemRandom().shuffle(orders)
        total_weak, total_strong = 0.0, 0.0
        for first, second in orders:
            asked = judging.question(prompt.text, first, second, secrets.token_hex(6), prompt.reference)
            found = judging.verdict(self._calls.ask(self._task.judge, asked, judging.JUDGE_TOKENS))
            if found is None:
                raise CallFailed("the judge gave no scores")
            a, b = found if first is weak else (found[1], found[0])
            total_weak, total_strong = total_weak + a, total_strong + b
        return total_weak / 2, total_strong / 2

    def _count(self, each: Future[tuple[float, float]]) -> None:
        try:
            weak, strong = each.result()
        except OutOfBudget:
            if self._ended == "done":
                self._ended = "budget"
            self._stop.set()
        except CallFailed as error:
            self._failed.append(str(error))
        else:
            self._rows += 1
            self._sums[0] += weak
            self._sums[1] += strong

    def _tell(self) -> None:
        left = len(self._missing) - self._rows
        spent = usd_from_nano(self._spending.nano)
        typer.echo(
            f"{self._rows} rows written, {len(self._failed)} failed, {left} left, {spent:.6f} USD spent", err=True
        )

    def _summary(self) -> Mapping[str, Any]:
        rows, task = self._rows, self._task
        return {
            "out": str(task.out),
            "ended": self._ended,
            "rows_written": rows,
            "rows_before": self._before,
            "failed": len(self._failed),
            "first_failure": self._failed[0] if self._failed else None,
            "left": len(self._missing) - rows,
            "spent_usd": usd_from_nano(self._spending.nano),
            "budget_usd": task.budget_usd,
            "weak_mean": round(self._sums[0] / rows, 4) if rows else None,
            "strong_mean": round(self._sums[1] / rows, 4) if rows else None,
        }


def _check(task: Task) -> None:
    parts = urlsplit(task.place.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandFailed(f"--url {task.place.url}: is no web address", "such as http://127.0.0.1:8080")
    if not task.prompts:
        raise CommandFailed("--data holds no prompts")
    if bool(task.judge) == bool(task.match):
        raise CommandFailed("one of --judge and --match is needed", "--match compares with the column of --references")
    if task.match and task.match not in judging.MATCHES:
        raise CommandFailed(f"--match {task.match}: not known", ", ".join(judging.MATCHES))
    if task.match and not all(prompt.reference.strip() for prompt in task.prompts):
        raise CommandFailed("--match needs a reference for every prompt", "name its column with --references")


def _targets(task: Task, models: Sequence[str]) -> Mapping[str, Target]:
    """With their prices, which tell the most that a call can cost."""
    config = load(task.config, os.environ, Path.cwd()).config
    known = {f"{each.provider}/{each.model}": each for each in build_targets(config, price_of, features_of)}
    for name in models:
        if name not in known:
            raise CommandFailed(
                f"{name} is no model of the configuration", f"PROVIDER/MODEL, one of {', '.join(known) or 'none'}"
            )
        target = known[name]
        if task.budget_usd is not None and not target.price.known and not target.base_cost_nano:
            raise CommandFailed(
                f"nobody knows what {name} costs, so no budget can be kept",
                f"set providers.{target.provider}.pricePerMillionInput and pricePerMillionOutput",
            )
    return {name: known[name] for name in models}
