"""The three queries that the contract names, in Chinese and English, and the tier of each. Data only."""

from __future__ import annotations

from model_gateway.domain.route import Tier

CONTRACT_QUERIES = (
    ("今天天气怎么样？", "What's the weather like today?", Tier.LOCAL),
    ("解释一下量子计算的基本原理", "Explain the basic principles of quantum computing", Tier.HYBRID),
    (
        "请详细分析人工智能在医疗领域的应用，包括技术原理、伦理问题、监管挑战以及未来十年的发展前景，并给出具体案例",
        "Please analyse in detail the application of AI in medicine, including technical principles, ethical "
        "issues, regulatory challenges and the outlook for the next ten years, with concrete cases",
        Tier.REMOTE,
    ),
)
