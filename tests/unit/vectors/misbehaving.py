"""A child process as vectors/child.py is one, which does as its texts say: die, hang, lie, or wait so many seconds."""

from __future__ import annotations

import os
import struct
import sys
import time

OUT = os.fdopen(os.dup(1), "wb")


def vector(text: str) -> bytes:
    first = float("nan") if text == "lie" else 1.0
    return struct.pack("<384f", first, *[0.0] * 383)


def main() -> None:
    text = "ready"
    while True:
        if text == "die":
            os._exit(3)
        if text == "hang":
            time.sleep(600)
        if text.startswith("wait "):
            time.sleep(float(text.split()[1]))
        OUT.write(vector(text))
        OUT.flush()
        head = sys.stdin.buffer.read(4)
        if len(head) < 4:
            return
        text = sys.stdin.buffer.read(int.from_bytes(head, "little")).decode()


if __name__ == "__main__":
    main()
