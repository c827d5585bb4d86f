"""Cascades against routing by score, on the embedded model: quality, share escalated, calls, cost and latency.

    .venv/bin/python bench/cascade.py            about five minutes on two cores; prints the tables of docs/routing.md

The weak model is the embedded one, asked once for each prompt through a running gateway, log-probabilities included.
The strong one is scripted: it answers what the reference says, at 1 and 8 USD per million tokens, after 0.8 s, so that
an escalated answer is always right. All policies judge the same weak answers with the gateway's own check; one of them
is then run through the gateway as a cascade, and must come to the same. The prompts are written for this file: small
sums, plain facts in two languages, extraction to JSON. They measure whether a check knows a bad answer of this model,
not how good any model is.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from gateway import config_for, embedded_provider, fixture_provider
from model_gateway.app import App
from model_gateway.assess.features import FeatureAssessor
from model_gateway.cascade.check import Policy, Said, check
from model_gateway.config.cascades import CascadeCheck, CascadeConfig
from model_gateway.config.schema import CacheConfig, ComplexityConfig, RoutingConfig
from model_gateway.domain.conversation import ResponseFormat
from upstream import FixtureUpstream, Seen, whole

STRONG_S = 0.8
MAX_TOKENS = 48
STOP = ["\n\n", "```"]  # this model goes on and on
LIVE = -0.5  # the threshold that is run through the gateway too

SUMS = [(2, "+", 3), (7, "+", 8), (12, "+", 9), (25, "+", 17), (48, "+", 36), (130, "+", 45), (9, "-", 4), (20, "-", 7),
        (51, "-", 18), (100, "-", 37), (3, "*", 4), (6, "*", 7), (8, "*", 9), (12, "*", 11), (15, "*", 14),
        (23, "*", 17), (125, "*", 8), (36, "+", 64), (81, "-", 27), (5, "*", 5)]  # fmt: skip
FACTS = [
    ("What is the capital of France?", "Paris"), ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Italy?", "Rome"), ("What is the capital of Canada?", "Ottawa"),
    ("What is the capital of Australia?", "Canberra"), ("What is the capital of Mongolia?", "Ulaanbaatar|Ulan"),
    ("What is the capital of Kenya?", "Nairobi"), ("How many days are in a week?", "7|seven"),
    ("How many months are in a year?", "12|twelve"), ("How many legs does a spider have?", "8|eight"),
    ("What color is the sky on a clear day?", "blue"), ("What is the opposite of hot?", "cold"),
    ("What is the chemical symbol of gold?", r"\bAu\b"), ("Which planet is closest to the sun?", "Mercury"),
    ("What is the largest planet?", "Jupiter"), ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("Who painted the Mona Lisa?", "Leonardo|Vinci"), ("In which year did World War II end?", "1945"),
    ("What gas do plants take in from the air?", "carbon dioxide|CO2"), ("How many continents are there?", "7|seven"),
    ("What is the boiling point of water in degrees Celsius?", "100"), ("What is the plural of mouse?", "mice"),
    ("Which ocean is the largest?", "Pacific"), ("What language is spoken in Brazil?", "Portuguese"),
    ("What is the square root of 81?", "9|nine"),
]  # fmt: skip
CHINESE = [
    ("中国的首都是哪里？", "北京"), ("一年有几个月？", "12|十二"), ("水的化学式是什么？", "H2O|H₂O"),
    ("太阳从哪个方向升起？", "东"), ("一周有几天？", "7|七"), ("日本的首都是哪里？", "东京"),
    ("三加五等于几？", "8|八"), ("《红楼梦》的作者是谁？", "曹雪芹"), ("世界上最高的山峰是什么？", "珠穆朗玛|珠峰"),
    ("法国的首都是哪里？", "巴黎"),
]  # fmt: skip
PEOPLE = [("Anna", 31, "Oslo"), ("Ben", 45, "Lima"), ("Chen", 28, "Xi'an"), ("Dora", 62, "Graz"), ("Emil", 19, "Bonn"),
          ("Fatima", 37, "Fez"), ("Goran", 53, "Split"), ("Hana", 24, "Kobe"), ("Ivan", 70, "Varna"),
          ("Julia", 41, "Porto"), ("Karim", 33, "Tunis"), ("Lena", 29, "Kiel"), ("Marco", 58, "Turin"),
          ("Nora", 22, "Bergen"), ("Omar", 47, "Cairo"), ("Petra", 36, "Brno"), ("Quinn", 50, "Cork"),
          ("Rosa", 64, "Cusco"), ("Sven", 39, "Malmö"), ("Tara", 27, "Pune")]  # fmt: skip


class Case:
    """`right(text)`: is this the answer? `reference`: what the strong model says."""

    def __init__(self, kind: str, prompt: str, reference: str, pattern: str) -> None:
        self.kind, self.prompt, self.reference, self.pattern = kind, prompt, reference, pattern
        self.score = FeatureAssessor(ComplexityConfig()).assess(prompt).score
        self.text, self.finish, self.seconds, self.tokens = "", "", 0.0, (0, 0)
        self.logprobs: list[float] = []

    @property
    def mean(self) -> float:
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else -99.0

    @property
    def json(self) -> bool:
        return self.kind == "json"

    def right(self, text: str) -> bool:
        if not self.json:
            return re.search(self.pattern, text, re.IGNORECASE) is not None
        try:
            return json.loads(text) == json.loads(self.reference)
        except ValueError:
            return False

    def said(self) -> Said:
        return Said(
            self.text, self.finish, logprobs=self.logprobs, wanted=ResponseFormat("json") if self.json else None
        )


def cases() -> list[Case]:
    """Seventy-five."""
    found: list[Case] = []
    for one, sign, other in SUMS:
        value = {"+": one + other, "-": one - other, "*": one * other}[sign]
        found.append(Case("sum", f"What is {one} {sign} {other}? Answer with the number.", str(value), rf"\b{value}\b"))
    found += [Case("fact", q, p.split("|")[0].replace(r"\b", ""), p) for q, p in FACTS]
    found += [Case("chinese", q, p.split("|")[0], p) for q, p in CHINESE]
    for name, age, city in PEOPLE:
        prompt = (
            f'Write JSON with the keys "name", "age" and "city" for: {name} is {age} years old and lives in {city}.'
        )
        found.append(Case("json", prompt, json.dumps({"name": name, "age": age, "city": city}), ""))
    return found


def body_for(case: Case, model: str, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "max_tokens": MAX_TOKENS, "temperature": 0, "stop": STOP, **more}
    return {**body, "messages": [{"role": "user", "content": case.prompt}]}


def strong_of(found: list[Case]) -> Any:
    by_prompt = {case.prompt: case.reference for case in found}

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(STRONG_S)
        prompt = seen.json["messages"][-1]["content"]
        text = by_prompt[prompt]
        usage = {"prompt_tokens": len(prompt) // 4 + 8, "completion_tokens": len(text) // 4 + 1, "total_tokens": 0}
        message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        reply = {"id": "s", "object": "chat.completion", "model": "strong", "usage": usage, "choices": [message]}
        await whole(json.dumps(reply).encode())(seen, writer)

    return answer


async def ask_weak(client: httpx.AsyncClient, url: str, case: Case) -> None:
    begun = time.monotonic()
    reply = await client.post(url, json=body_for(case, "smollm2-135m-instruct", logprobs=True, top_logprobs=1))
    case.seconds = time.monotonic() - begun
    choice = reply.raise_for_status().json()["choices"][0]
    case.text, case.finish = choice["message"]["content"], choice["finish_reason"]
    case.logprobs = [token["logprob"] for token in choice["logprobs"]["content"]]


def strong_nano(case: Case) -> int:
    return 1_000 * (len(case.prompt) // 4 + 8) + 8_000 * (len(case.reference) // 4 + 1)


def row(name: str, found: list[Case], escalated: list[bool], *, tried: bool) -> str:
    """`tried`: the weak model was asked even where the strong one answered."""
    count = len(found)
    right = sum(gone or case.right(case.text) for case, gone in zip(found, escalated, strict=True))
    kept_wrong = sum(not gone and not case.right(case.text) for case, gone in zip(found, escalated, strict=True))
    wasted = sum(gone and case.right(case.text) for case, gone in zip(found, escalated, strict=True))
    calls = sum((2 if tried else 1) if gone else 1 for gone in escalated)
    cost = sum(strong_nano(case) for case, gone in zip(found, escalated, strict=True) if gone) / count / 1e3
    times = [
        (case.seconds if tried or not gone else 0.0) + (STRONG_S if gone else 0.0)
        for case, gone in zip(found, escalated, strict=True)
    ]
    return (
        f"| {name} | {sum(escalated) / count:.0%} | {right / count:.0%} | {kept_wrong} | {wasted} |"
        f" {calls / count:.2f} | {cost:.1f} | {sum(times) / count:.2f} |"
    )


def verdicts(found: list[Case], logprob: float | None) -> list[bool]:
    """True: escalated."""
    policy = Policy(CascadeCheck(logprob=logprob))
    return [not check(case.said(), policy).passed for case in found]


def telling(found: list[Case], sign: Callable[[Case], float]) -> str:
    """How often `sign` is greater for a right answer than for a wrong one; 0.5: it tells nothing."""
    right = [sign(case) for case in found if case.right(case.text)]
    wrong = [sign(case) for case in found if not case.right(case.text)]
    if not right or not wrong:
        return "-"
    wins = sum((one > other) + 0.5 * (one == other) for one in right for other in wrong)
    return f"{wins / len(right) / len(wrong):.2f}"


def tables(found: list[Case]) -> None:
    print("| policy | escalated | right | wrong and kept | right and escalated | calls | µUSD | s |")
    print("|---|---|---|---|---|---|---|---|")
    print(row("weak alone", found, [False] * len(found), tried=False))
    for threshold in (0.08, 0.1, 0.15, 0.2, 0.3):
        print(row(f"score ≥ {threshold}", found, [case.score >= threshold for case in found], tried=False))
    print(row("form alone", found, verdicts(found, None), tried=True))
    for threshold in (-1.0, -0.7, -0.5, -0.35, -0.25, -0.15):
        print(row(f"logprob < {threshold} alone", found, [case.mean < threshold for case in found], tried=True))
    for threshold in (-1.0, -0.7, -0.5, -0.35, -0.25, -0.15):
        print(row(f"form, logprob < {threshold}", found, verdicts(found, threshold), tried=True))
    print(row("strong alone", found, [True] * len(found), tried=False))
    print(f"\nall: told apart by logprob {telling(found, lambda c: c.mean)}", end="")
    print(f", by score {telling(found, lambda c: -c.score)}")
    for kind in ("sum", "fact", "chinese", "json"):
        mine = [case for case in found if case.kind == kind]
        weak = sum(case.right(case.text) for case in mine)
        means = [case.mean for case in mine]
        scores = [case.score for case in mine]
        print(f"\n{kind}: {weak} of {len(mine)} right; mean logprob {min(means):.2f} to {max(means):.2f}; ", end="")
        print(
            f"score {min(scores):.2f} to {max(scores):.2f}; {sum(c.seconds for c in mine) / len(mine):.2f} s; ", end=""
        )
        print(f"told apart by logprob {telling(mine, lambda c: c.mean)}, by score {telling(mine, lambda c: -c.score)}")
        for name, threshold in (("form alone", None), (f"form, logprob < {LIVE}", LIVE)):
            print(row(f"{kind}: {name}", mine, verdicts(mine, threshold), tried=True))


async def main() -> None:
    found = cases()
    cascades = {
        name: CascadeConfig(first="local", then="remote", check=CascadeCheck(logprob=LIVE, format=form))
        for name, form in (("checked", "asked"), ("checked-json", "json"))
    }
    async with FixtureUpstream(strong_of(found)) as upstream:
        providers = {
            "embedded": embedded_provider(),
            "strong": fixture_provider(
                upstream.url, default_model="strong", supported_model_types=("remote",), price_per_million_output=8.0
            ),
        }
        config = config_for(
            Path(tempfile.mkdtemp()), providers, cache=CacheConfig(enabled=False),
            routing=RoutingConfig(cascades=cascades),
        )  # fmt: skip
        async with App(config) as app, httpx.AsyncClient(timeout=120) as client:
            url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
            await ask_weak(client, url, found[0])  # it starts the model
            for case in found:
                await ask_weak(client, url, case)
            tables(found)
            if "--answers" in sys.argv:
                for case in found:
                    print(case.right(case.text), f"{case.mean:.3f} {case.score:.3f}", case.finish, repr(case.text[:90]))
            asked, right, escalated, begun = len(upstream.seen), 0, 0, time.monotonic()
            for case in found:
                reply = await client.post(url, json=body_for(case, "checked-json" if case.json else "checked"))
                escalated += reply.headers["x-gateway-cascade"].startswith("escalated")
                right += case.right(reply.json()["choices"][0]["message"]["content"])
            seconds = (time.monotonic() - begun) / len(found)
            assert escalated == len(upstream.seen) - asked, "every escalation asks once"
            print(
                f"\nthrough the gateway, logprob < {LIVE}: {escalated} of {len(found)} escalated, {right} right, ",
                end="",
            )
            print(f"{seconds:.2f} s each")


if __name__ == "__main__":
    asyncio.run(main())
