"""The child process of vectors/process.py: embeds one text after the other.

Protocol: the length of a text in UTF-8 (4 bytes, little endian) and the text on standard input; 384 floats of 32 bits,
little endian, on standard output. First it embeds a text of its own, which says that it is ready. It ends when standard
input closes, which happens when the parent stops it or dies. Run as `python -m model_gateway.vectors.child`.
"""

from __future__ import annotations

import os
import signal
import sys

from model_gateway.providers.embedded_server import die_with_parent
from model_gateway.vectors.engine import Engine

_FIRST = "ready"


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides when to stop
    with os.fdopen(os.dup(1), "wb") as out:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)  # whatever the library prints
        os.dup2(silence, 2)
        engine = Engine()
        text = _FIRST
        while True:
            out.write(engine.embed([text]).astype("<f4").tobytes())
            out.flush()
            head = sys.stdin.buffer.read(4)
            if len(head) < 4:
                break
            text = sys.stdin.buffer.read(int.from_bytes(head, "little")).decode()
    os._exit(0)  # the library's threads are not worth waiting for


if __name__ == "__main__":
    main()
