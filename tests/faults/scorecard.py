"""Runs every fault at every door and keeps the score; `python tests/faults/scorecard.py` prints it as Markdown."""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.clients import DOORS, EMBEDDING_MODEL, Sight
from faults.provider import FAULTS, Fault
from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.schema import BreakerConfig, CacheConfig
from model_gateway.domain.record import Record
from model_gateway.telemetry.around import Around
from model_gateway.telemetry.exposition import rendered
from speed import slowness
from upstream import FixtureUpstream, Seen, recorded, until

FIRST_TOKEN_S = 0.4
IDLE_S = 0.4
ATTEMPT_S = 0.8
RETRIES = 1
# One attempt and one retry, each at its longest, and the second that the house allows (more where the machine is slow).
LIMIT_S = ((RETRIES + 1) * ATTEMPT_S + 1.0) * slowness()


@dataclass
class Score:
    """What became of one fault: a Sight for each door and form, and what the gateway itself says of it."""

    fault: Fault
    fallback: bool
    sights: dict[tuple[str, bool], Sight]
    records: list[Record] = field(default_factory=list[Record])
    calls: list[Seen] = field(default_factory=list[Seen])
    metrics: str = ""
    ledger: list[str] = field(default_factory=list[str])
    left_open: int = 0
    """Calls that the gateway still held open at the provider when all its callers had their answer."""

    def wrong(self) -> list[str]:
        """Every way in which the gateway was not right; empty is what we want."""
        found: list[str] = []
        for (door, stream), sight in self.sights.items():
            where = f"{door}{' streamed' if stream else ''}: {sight}"
            if sight.outcome not in ("answer", "error"):
                found.append(f"neither an answer nor a clear error at {where}")
            if sight.outcome == "answer" and not self.fallback:
                found.append(f"a fault shown as an answer at {where}")
            if sight.outcome == "error" and self.fallback and (self.fault.before or not stream):
                found.append(f"the fallback was not used at {where}")
            if sight.seconds > LIMIT_S:
                found.append(f"not left in time at {where}")
        for record in self.records:
            mine = [a for a in record.attempts if a.provider == "faulty"]
            if any(a.outcome == "ok" for a in mine):
                found.append(f"an attempt at the faulty provider counts as ok: {record}")
            if len(mine) > RETRIES + 1:
                found.append(f"more attempts than configured: {record}")
            if (record.status == "ok") != any(a.outcome == "ok" for a in record.attempts):
                found.append(f"the record's status is not what happened: {record}")
        found += self._counted_wrong()
        return found

    def _counted_wrong(self) -> list[str]:
        """What the records, the ledger, the metrics and the provider itself count, against what callers saw."""
        found: list[str] = []
        answers = sum(sight.outcome == "answer" for sight in self.sights.values())
        if sum(record.status == "ok" for record in self.records) != answers:
            found.append(f"{answers} answers, but the records say {[record.status for record in self.records]}")
        if sorted(self.ledger) != sorted(record.status for record in self.records):
            found.append(f"the ledger says {self.ledger}, the records {[record.status for record in self.records]}")
        if 'outcome="ok",provider="faulty"' in self.metrics:
            found.append("metrics count a fault as a success")
        attempts = sum(a.provider == "faulty" for record in self.records for a in record.attempts)
        if len(self.calls) > attempts:
            found.append(f"{len(self.calls)} calls at the provider, but {attempts} attempts in the records")
        if any("elsewhere" in call.path for call in self.calls):
            found.append("a redirect was followed, and with it went the key")
        if self.left_open:
            found.append(f"{self.left_open} calls left open at the provider")
        return found


@asynccontextmanager
async def faulty(fault: Fault, protocol: str, seed: int) -> AsyncGenerator[tuple[str, FixtureUpstream | None]]:
    """The address of a provider with this fault."""
    if fault.name == "DNS failure":
        yield "http://no-such-host.invalid/v1", None
    elif fault.name == "refused":
        async with FixtureUpstream() as gone:
            pass
        yield gone.url, None
    elif fault.name == "TLS failure":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)  # by an authority nobody knows
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        async with server:
            yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", None
    else:
        assert fault.answer is not None
        async with FixtureUpstream(fault.answer(protocol, seed)) as upstream:
            yield upstream.url, upstream


async def score(fault: Fault, folder: Path, *, fallback: bool, protocol: str = "openai", seed: int = 1) -> Score:
    """One fault at every door at once, whole and streamed."""
    limits: dict[str, Any] = {
        "first_token_timeout": int(FIRST_TOKEN_S * 1000),
        "idle_timeout": int(IDLE_S * 1000),
        "timeout": int(ATTEMPT_S * 1000),
        "connect_timeout": int(FIRST_TOKEN_S * 1000),
        "retry_count": RETRIES,
        "breaker": BreakerConfig(enabled=False),  # so that each request meets the fault itself
    }
    async with faulty(fault, protocol, seed) as (url, upstream), FixtureUpstream(recorded("openai")) as healthy:
        embeds = {"embedding_models": (EMBEDDING_MODEL,)}
        if protocol == "openai":
            limits |= embeds
        providers = {"faulty": fixture_provider(url, kind=protocol, cost_efficiency=1.0, **limits)}
        if fallback:
            dear = {"cost_efficiency": 0.0, "price_per_million_input": 90.0}
            providers["healthy"] = fixture_provider(healthy.url, **dear, **embeds)
        async with App(config_for(folder, providers, cache=CacheConfig(enabled=False))) as app:
            result = Score(fault, fallback, {})
            app.gateway.observers.append(result.records.append)
            asked = [(door, stream) for door in DOORS for stream in door.forms]
            sights = await asyncio.gather(*(door.ask(app, stream) for door, stream in asked))
            for (door, stream), sight in zip(asked, sights, strict=True):
                result.sights[door.name, stream] = sight
            await until(lambda: len(result.records) == len(asked))
            await until(lambda: all(state.load.in_flight == 0 for state in app.gateway.states))
            if upstream is not None:
                with suppress(TimeoutError):
                    await until(lambda: upstream.busy == 0, timeout_s=1.0)
                result.calls, result.left_open = upstream.seen, upstream.busy
            result.metrics = rendered(app.metrics.counts(), Around())[0].decode()
        with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
            result.ledger = [status for (status,) in ledger.execute("SELECT status FROM requests")]
        return result


def cell(score: Score, door: str) -> str:
    sights = [sight for (name, _), sight in score.sights.items() if name == door]
    return " / ".join(
        sight.outcome if sight.outcome == "answer" else f"{sight.outcome} {sight.status}" for sight in sights
    )


def table(scores: list[Score]) -> str:
    """One row a fault: at each door the outcome, whole / streamed, and the longest that any caller waited."""
    doors = [door.name for door in DOORS]
    lines = [f"| fault | {' | '.join(doors)} | longest |", f"|---|{'---|' * len(doors)}---|"]
    for each in scores:
        longest = max(sight.seconds for sight in each.sights.values())
        cells = " | ".join(cell(each, door) for door in doors)
        lines.append(f"| {each.fault.name} | {cells} | {longest:.2f} s |")
    return "\n".join(lines)


def _at_all_doors(score: Score, *forms: bool) -> str:
    found = {sight.outcome for (_, stream), sight in score.sights.items() if stream in forms}
    return " or ".join(sorted(found))


def summary(behind: list[Score], alone: list[Score]) -> str:
    """One row a fault, all doors together: what callers saw, and the longest that any of them waited."""
    lines = [
        "| fault | with a fallback, whole | with a fallback, streamed | alone | longest |",
        "|---|---|---|---|---|",
    ]
    for first, second in zip(behind, alone, strict=True):
        longest = max(sight.seconds for each in (first, second) for sight in each.sights.values())
        cells = (_at_all_doors(first, False), _at_all_doors(first, True), _at_all_doors(second, False, True))
        lines.append(f"| {first.fault.name} | {' | '.join(cells)} | {longest:.1f} s |")
    return "\n".join(lines)


async def main() -> int:
    wrong: list[str] = []
    both: list[list[Score]] = []
    for fallback in (True, False):
        scores: list[Score] = []
        for fault in FAULTS:
            with tempfile.TemporaryDirectory() as folder:
                scores.append(await score(fault, Path(folder), fallback=fallback))
            wrong += [f"{fault.name}: {text}" for text in scores[-1].wrong()]
        print(f"\n{'With a healthy provider behind it' if fallback else 'Alone'} (whole / streamed):\n")
        print(table(scores))
        both.append(scores)
    print("\nAll doors together:\n")
    print(summary(*both))
    requests = sum(len(score.sights) for scores in both for score in scores)
    print(f"\n{len(FAULTS)} faults, {len(DOORS)} doors, whole and streamed, with a fallback and without: ", end="")
    print(f"{requests} requests, ", end="")
    print(f"{len(wrong)} wrong" if wrong else "all right")
    for text in wrong:
        print("-", text[:400])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
