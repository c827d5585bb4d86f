"""A pod without a cluster: what the chart renders, mounted as the kubelet mounts it, and the real gateway in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import yaml
from charts import Object, gateway_yaml, one, pod_of

from certificates import Authority

READ_ONLY = sys.platform == "linux" and os.geteuid() == 0
"""Only root may mount."""

_VERSIONS = count(1)
_FOLDERS = ("/etc/model-gateway", "/run/secrets/model-gateway", "/run/tls/server", "/run/tls/clients", "/data")
_IMAGES = {"HOST": "0.0.0.0", "PORT": "50051", "HTTP_PORT": "8080", "CONTROL_PORT": "9090", "REQUIRE_KEYS": "true"}  # noqa: S104
"""Variables such as an image sets for those who mount no file: here they must not count."""

_SECRETS = {
    "DATABASE_URL": "postgresql://gateway:secret@127.0.0.1:5432/gateway",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "KEY_SECRET": "0f" * 32,
    "ADMIN_TOKEN": "1e" * 32,
}


_READ_ONLY = (
    "unshare", "--mount", "sh", "-c",
    'for each in "$1" "$2"; do mount --bind "$each" "$each" || exit; done; mount -o remount,ro,bind / || exit; '
    'shift 2; exec "$@"', "pod",
)  # fmt: skip
"""readOnlyRootFilesystem, as far as this machine lets us: what follows are /data, /tmp and the command."""


class Mounts:
    """The folders of a pod, below one of the test's. `secrets`: entries beside those that the chart itself names."""

    def __init__(self, root: Path, objects: tuple[Object, ...], secrets: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._container = pod_of(objects)["spec"]["containers"][0]
        self.data = self.path("/data")
        self.data.mkdir(parents=True)
        self.tmp = self.path("/tmp")
        self.tmp.mkdir()
        self.config = self.path("/etc/model-gateway/gateway.yaml")
        self.put_config(objects)
        config = yaml.safe_load(gateway_yaml(objects))
        named = [value["api_key"] for value in config.get("providers", {}).values() if "api_key" in value]
        keys = {Path(value).name: "sk-of-a-test" for value in named}
        self.put("/run/secrets/model-gateway", {**_SECRETS, **keys, **(secrets or {})})
        self.authority = Authority()
        """Of the server's certificate and of those that clients must have."""
        pair = self.authority.issue()
        self.put("/run/tls/server", {"tls.crt": pair.cert.decode(), "tls.key": pair.key.decode()})
        self.put("/run/tls/clients", {"ca.crt": self.authority.pem.decode()})

    def path(self, path: str) -> Path:
        return self._root / path.removeprefix("/")

    def put_config(self, objects: tuple[Object, ...]) -> None:
        text = gateway_yaml(objects)
        for folder in _FOLDERS[1:]:
            text = text.replace(folder, str(self.path(folder)))
        self.put("/etc/model-gateway", {"gateway.yaml": text})

    def put(self, folder: str, files: Mapping[str, str]) -> None:
        """As the kubelet does: files are links through `..data`, which is swapped for a new folder."""
        mount = self.path(folder)
        mount.mkdir(parents=True, exist_ok=True)
        link = mount / "..data"
        before = link.resolve() if link.is_symlink() else None
        fresh = mount / f"..2026_11_25_{next(_VERSIONS)}"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_text(text)
        swapping = mount / "..data_tmp"
        swapping.symlink_to(fresh.name)
        os.replace(swapping, link)  # noqa: PTH105 (the point is the call)
        for name in files:
            if not (mount / name).is_symlink():
                (mount / name).symlink_to(f"..data/{name}")
        if before is not None:
            shutil.rmtree(before)

    def environ(self) -> dict[str, str]:
        """The container's variables, and nothing of this machine's that could matter."""
        return {
            **_IMAGES,
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.tmp),
            **{each["name"]: each["value"] for each in self._container["env"]},
        }

    def arguments(self) -> list[str]:
        given = self._container["args"]
        return [each.replace("/etc/model-gateway", str(self.config.parent)) for each in given]


class Pod:
    """A running container."""

    def __init__(self, process: asyncio.subprocess.Process, mounts: Mounts, objects: tuple[Object, ...]) -> None:
        self.process = process
        self.mounts = mounts
        self.objects = objects
        self.container: dict[str, Any] = pod_of(objects)["spec"]["containers"][0]
        self.ports = {port["name"]: int(port["containerPort"]) for port in self.container["ports"]}
        self.control = f"http://127.0.0.1:{self.ports['control']}"
        self.doors = f"http://127.0.0.1:{self.ports['http']}"

    async def probe(self, name: str) -> int:
        """What the kubelet meets there, 0 where nobody answers."""
        get = self.container[name]["httpGet"]
        url = f"{get['scheme'].lower()}://127.0.0.1:{self.ports[get['port']]}{get['path']}"
        # Nor does the kubelet ask whose certificate it is.
        async with httpx.AsyncClient(timeout=self.container[name]["timeoutSeconds"], verify=False) as client:  # noqa: S501
            try:
                return (await client.get(url)).status_code
            except httpx.HTTPError:
                return 0

    async def until_probe(self, name: str, status: int, timeout_s: float = 30) -> None:
        async with asyncio.timeout(timeout_s):
            while await self.probe(name) != status:
                assert self.process.returncode is None or status == 0, self.log()
                await asyncio.sleep(0.05)

    async def until_health(self, what: str, **wanted: object) -> dict[str, Any]:
        """Until /health says so in its section `what`."""
        async with asyncio.timeout(10), httpx.AsyncClient() as client:
            while True:
                health = (await client.get(f"{self.control}/health")).json()
                if wanted.items() <= health[what].items():
                    return health
                await asyncio.sleep(0.05)

    def log(self) -> str:
        return (self.mounts.data / "out.log").read_text()


@asynccontextmanager
async def pod(root: Path, objects: tuple[Object, ...], secrets: Mapping[str, str] | None = None) -> AsyncGenerator[Pod]:
    """Started as the Deployment says, and ready."""
    mounts = Mounts(root, objects, secrets)
    with (mounts.data / "out.log").open("wb") as out:
        prefix = (*_READ_ONLY, str(mounts.data), str(mounts.tmp)) if READ_ONLY else ()
        command = (*prefix, sys.executable, "-m", "model_gateway.cli", *mounts.arguments())
        process = await asyncio.create_subprocess_exec(
            *command, cwd=mounts.data, env=mounts.environ(), stdout=out, stderr=out
        )
    running = Pod(process, mounts, objects)
    try:
        await running.until_probe("startupProbe", 200)
        await running.until_probe("readinessProbe", 200)
        yield running
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def grace_s(objects: tuple[Object, ...]) -> float:
    """From SIGTERM to SIGKILL: what preStop leaves."""
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    sleeps = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    return float(pod["terminationGracePeriodSeconds"] - sleeps)


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("0.0.0.0", 0)) for _ in range(count)]  # noqa: S104 (where the pod listens)
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
