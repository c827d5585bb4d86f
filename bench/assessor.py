"""The assessor alone, in this process: CPU µs to judge a prompt, English and Chinese, as a request asks for it.

Prints one JSON object, microseconds by case. Prompts are cut from ordinary text at another place each time, so that
no text is judged twice; the figures are the median and the 99th percentile of `CALLS` texts. `explained`: with the
factors, which are made only when somebody asks for them. In the flow of a request it costs up to three times that,
because everything else has emptied the processor's caches in between.
"""

from __future__ import annotations

import json
import statistics
import time

from model_gateway.assess.assessor import Assessor
from model_gateway.assessing import assessor_of
from model_gateway.config.schema import GatewayConfig

ENGLISH = (
    "A distributed cache answers most requests from memory, but every write must reach the replicas before the next "
    "read may see it. Explain step by step how a quorum of nodes agrees on the order of two writes, what happens when "
    "one of them fails halfway, and why a client may still read an old value. Compare this with a single leader: which "
    "guarantees are lost, which become cheaper, and how would you measure the difference in production? "
)
CHINESE = (
    "分布式缓存通常从内存中返回结果，但每一次写入都必须先到达副本，下一次读取才能看到它。请逐步解释多个节点如何就两次写入的"
    "先后顺序达成一致，其中一个节点中途失败时会发生什么，以及客户端为什么仍然可能读到旧值。再与单一主节点的方案进行比较：哪些"
    "保证会丢失，哪些操作会变得更便宜，在生产环境中应当怎样衡量这种差别？"
)
CALLS = {500: 1_200, 32_000: 200, 100_000: 200}
WARM = 20


def cut(text: str, size: int, number: int) -> str:
    """Of that size, another one for each number."""
    long = text * (size // len(text) + 2)
    begin = number % len(text)
    prompt = f"{number} {long[begin : begin + size]}"
    return prompt[:size]


def microseconds(assessor: Assessor, prompts: list[str], *, explain: bool) -> list[float]:
    times: list[float] = []
    for prompt in prompts:
        begun = time.process_time_ns()
        assessor.assess(prompt, explain=explain)
        times.append((time.process_time_ns() - begun) / 1e3)
    return times[WARM:]


def main() -> None:
    config = GatewayConfig()
    assessor = assessor_of(config.complexity, config.routing)
    found: dict[str, float] = {}
    for language, text in (("English", ENGLISH), ("Chinese", CHINESE)):
        for size, calls in CALLS.items():
            prompts = [cut(text, size, number) for number in range(calls + WARM)]
            times = microseconds(assessor, prompts, explain=False)
            name = f"{size:,} characters, {language}"
            found[name] = statistics.median(times)
            found[f"{name}, 99th percentile"] = statistics.quantiles(times, n=100)[98]
            found[f"{name}, explained"] = statistics.median(microseconds(assessor, prompts, explain=True))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
