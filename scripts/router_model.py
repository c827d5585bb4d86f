"""Fits the routing model that the wheel carries, from a folder of labelled queries; the same data give the same file.

The files (mmlu_dev.csv, gsm8k_dev.csv, dcrouter.csv, agieval_zh_dev.csv; docs/routing.md names their origin) are not
part of the source tree.
"""

from __future__ import annotations

import hashlib
import sys
from datetime import date
from pathlib import Path

from model_gateway.learning.everyday import everyday_queries
from model_gateway.learning.fitting import fit
from model_gateway.learning.rows import DataInvalid, read_rows

FILES = ("mmlu_dev.csv", "gsm8k_dev.csv", "dcrouter.csv", "agieval_zh_dev.csv")
NAME, MADE = "shipped-2", date(2026, 11, 25)
# Few of those who ask a gateway set it exam questions, of which the labelled queries are made.
ALIKE = 0.05
OUT = Path(__file__).parent.parent / "src" / "model_gateway" / "assess" / "shipped.model"


def main() -> int:
    folder = Path(sys.argv[1])
    try:
        rows = [row for name in FILES for row in read_rows(folder / name)]
    except DataInvalid as error:
        print(f"error: {error}", file=sys.stderr)
        print("hint: make router-model ROUTING=the folder that holds the labelled queries", file=sys.stderr)
        return 1
    data = fit(rows, everyday_queries(), name=NAME, seed=0, today=MADE, alike=ALIKE).dump()
    OUT.write_bytes(data)
    print(f"{OUT}: {len(rows)} rows, {len(data) / 1e6:.2f} MB, sha256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
