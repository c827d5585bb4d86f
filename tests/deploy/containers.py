"""A container without an engine: the image's root read-only in namespaces of its own, started as its description says.

As `docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --network host` would.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

_START = r"""
root=$1 data=$2 config=$3 user=$4 workdir=$5; shift 5
mount --bind "$root" "$root"
mount --bind "$data" "$root/data"
mount --bind "$config" "$root/config"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/dev"
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
for device in null zero random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user" --groups= "$root" \
    /bin/sh -c 'cd "$0" && exec "$@"' "$workdir" "$@"
"""


@dataclass(frozen=True, slots=True)
class Image:
    root: Path
    config: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Image:
        return cls(folder / "root", json.loads((folder / "image.json").read_text())["Docker"]["config"])

    @property
    def environment(self) -> dict[str, str]:
        return dict(variable.split("=", 1) for variable in self.config["Env"])


def free_ports() -> dict[str, str]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    numbers = [str(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return dict(zip(("PORT", "HTTP_PORT", "CONTROL_PORT"), numbers, strict=True))


class Container:
    """What a test holds of a running one."""

    def __init__(self, image: Image, process: asyncio.subprocess.Process, environment: dict[str, str]) -> None:
        self.image = image
        self.process = process
        self.environment = environment
        self.http = f"http://127.0.0.1:{environment['HTTP_PORT']}"
        self.grpc = f"127.0.0.1:{environment['PORT']}"
        self.control = f"http://127.0.0.1:{environment['CONTROL_PORT']}"

    @property
    def init(self) -> psutil.Process:
        """The one that is PID 1 inside."""
        return psutil.Process(self.process.pid).children()[0]

    async def until_ready(self) -> None:
        async with asyncio.timeout(60), httpx.AsyncClient() as client:
            while self.process.returncode is None:
                with suppress(httpx.HTTPError):
                    if (await client.get(f"{self.control}/health/ready")).status_code == 200:
                        return
                await asyncio.sleep(0.05)
        raise AssertionError(f"it ended with {self.process.returncode}")

    async def run(self, *command: str, **environment: str) -> tuple[int, str]:
        """As `docker exec` would: exit code and what was printed."""
        entering = ("nsenter", "-t", str(self.init.pid), "-m", "-p", "-r", "-w", "-S", "65532", "-G", "65532")
        process = await asyncio.create_subprocess_exec(
            *entering, *command, env=self.environment | environment, stdout=-1, stderr=asyncio.subprocess.STDOUT
        )
        printed, _ = await asyncio.wait_for(process.communicate(), 30)
        return process.returncode or 0, printed.decode()

    async def ended(self, timeout_s: float = 20) -> int:
        return await asyncio.wait_for(self.process.wait(), timeout_s)


@asynccontextmanager
async def container(
    image: Image, folder: Path, gateway_yaml: str = "", **environment: str
) -> AsyncGenerator[Container]:
    """Its /data is folder/data; what it prints is in folder/out.log."""
    data, config = folder / "data", folder / "config"
    data.mkdir(exist_ok=True)
    config.mkdir(exist_ok=True)
    os.chown(data, 65532, 65532)
    if gateway_yaml:
        (config / "gateway.yaml").write_text(gateway_yaml)
    whole = image.environment | environment
    described = image.config
    start = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")
    with (folder / "out.log").open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *start, "/bin/sh", "-euc", _START, "sh",
            str(image.root), str(data), str(config), described["User"], described["WorkingDir"],
            *described["Entrypoint"], *described["Cmd"],
            env=whole | {"PATH": f"{whole['PATH']}:/usr/sbin"}, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        yield Container(image, process, whole)
    finally:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children():
                child.kill()  # PID 1 of the inside: all others go with it
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
