"""The assessor alone, in this process: CPU µs to judge a prompt of 500 and of 32,000 characters, English and Chinese.

Prints one JSON object, microseconds by case. Prompts are cut from ordinary text at another place each time, so that
nothing is remembered; the figure is the median of `CALLS` calls. In the flow of a request it costs two to three times
that, because everything else has emptied the processor's caches in between.
"""

from __future__ import annotations

import json
import statistics
import time

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
CALLS = {500: 400, 32_000: 40}


def main() -> None:
    config = GatewayConfig()
    assessor = assessor_of(config.complexity, config.routing)
    found: dict[str, float] = {}
    for language, text in (("English", ENGLISH), ("Chinese", CHINESE)):
        for size, calls in CALLS.items():
            long = text * (2 * size // len(text) + 2)
            times: list[float] = []
            for number in range(calls + 20):
                prompt = long[number : number + size]
                begun = time.process_time_ns()
                assessor.assess(prompt)
                times.append((time.process_time_ns() - begun) / 1e3)
            found[f"{size:,} characters, {language}"] = statistics.median(times[20:])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
