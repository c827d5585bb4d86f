"""A network of their own for commands that use the default ports: other gateways may run on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from types import TracebackType

_HOLD = """
import fcntl, socket, struct, sys
control = socket.socket()
fcntl.ioctl(control, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
print("up", flush=True)
sys.stdin.read()
"""


class Namespace:
    """`within(arguments)` runs them there. Without the right to make one, on this machine's own ports."""

    def __init__(self) -> None:
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Namespace:
        if sys.platform == "linux" and os.geteuid() == 0:
            self._holder = subprocess.Popen(
                ["unshare", "-n", sys.executable, "-c", _HOLD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._holder.stdout is not None
            assert self._holder.stdout.readline() == "up\n"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._holder is not None:
            self._holder.communicate(timeout=10)

    def within(self, arguments: list[str]) -> list[str]:
        if self._holder is None:
            return arguments
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *arguments]
