"""The image, built from the Dockerfile and run as it is meant to be: read-only, without privileges, as a stranger."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
import yaml
from containers import Image, container, free_ports

from gateway import QUESTION
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from upstream import FixtureUpstream, events, fixture, until

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("IMAGE_FOLDER", Path.home() / ".cache/model-gateway/image"))
KEY = "a-key-of-a-caller"
MOST_BYTES = 250_000_000
CHAT = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}
BEARER = {"Authorization": f"Bearer {KEY}"}
HEALTHCHECK = ("python3", "-m", "model_gateway.cli.healthcheck")

possible = os.geteuid() == 0 and shutil.which("buildah") and shutil.which("mmdebstrap")
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not possible and "CI" not in os.environ, reason="needs root, buildah and mmdebstrap"),
]


@pytest.fixture(scope="module")
def image() -> Image:
    built = subprocess.run([ROOT / "scripts/image.sh", FOLDER], capture_output=True, text=True)
    assert built.returncode == 0, f"{built.stdout[-2000:]}{built.stderr[-4000:]}"
    return Image.read(FOLDER)


def privileges_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def files(image: Image) -> list[tuple[Path, os.stat_result]]:
    return [(path, path.lstat()) for path in image.root.rglob("*") if not path.is_dir() or path.is_symlink()]


def test_it_is_small_and_holds_nothing_that_installs_or_raises_privileges(image: Image) -> None:
    found = files(image)
    weights = sum(status.st_size for path, status in found if path.suffix == ".gguf")
    whole = sum({status.st_ino: status.st_size for _, status in found}.values())
    print(f"\n{whole / 1e6:.1f} MB, {(whole - weights) / 1e6:.1f} MB without the weights")
    assert weights > 90_000_000
    assert whole - weights < MOST_BYTES
    names = {path.name for path, _ in found}
    assert not names & {"pip", "pip3", "apt-get", "dpkg", "perl", "gcc", "uv", "curl", "su", ".env", "compile.py"}
    assert [path for path, status in found if status.st_mode & (stat.S_ISUID | stat.S_ISGID)] == []
    assert [path for path, status in found if stat.S_ISREG(status.st_mode) and status.st_uid == 65532] == []


def test_its_description(image: Image) -> None:
    config = image.config
    assert config["User"] == "65532:65532"
    assert config["ExposedPorts"].keys() == {"50051/tcp", "8080/tcp", "9090/tcp"}
    assert config["Volumes"].keys() == {"/data"}
    assert config["Healthcheck"]["Test"] == ["CMD", *HEALTHCHECK]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["StopSignal"] == "SIGTERM"


def test_the_dockerfile_is_what_its_linter_wants() -> None:
    linted = subprocess.run([Path(sys.executable).with_name("hadolint"), ROOT / "Dockerfile"], capture_output=True)
    assert (linted.returncode, linted.stdout) == (0, b"")


async def test_it_answers_with_nothing_but_a_callers_key(image: Image, tmp_path: Path) -> None:
    async with container(image, tmp_path, CALLER_KEY=KEY, **free_ports()) as running:
        await running.until_ready()
        async with httpx.AsyncClient(timeout=60) as client:
            refused = await client.post(f"{running.http}/v1/chat/completions", json=CHAT)
            answered = await client.post(f"{running.http}/v1/chat/completions", json=CHAT, headers=BEARER)
        assert refused.status_code == 401
        assert answered.status_code == 200, answered.text
        assert "black hole" in answered.json()["choices"][0]["message"]["content"].lower()
        async with grpc.aio.insecure_channel(running.grpc) as channel:
            stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
            request = pb.ModelRequest(query=QUESTION)
            reply = await stub.ProcessQuery(request, metadata=[("authorization", f"Bearer {KEY}")], timeout=60)
            assert reply.model_used == "embedded"
            with pytest.raises(grpc.aio.AioRpcError, match="no API key given"):
                await stub.ProcessQuery(request)

        code, said = await running.run(*HEALTHCHECK)
        assert code == 0 and '"status":"healthy"' in said
        code, said = await running.run(*HEALTHCHECK, CONTROL_PORT="1")
        assert code == 1 and "does not answer on port 1" in said
        assert running.init.name() == "tini"
        for process in (running.init, *running.init.children(recursive=True)):
            privileges = privileges_of(process.pid)
            assert privileges["Uid"] == "65532\t65532\t65532\t65532"
            assert (privileges["CapEff"], privileges["NoNewPrivs"]) == ("0000000000000000", "1")
        code, said = await running.run("touch", "/config/here", "/opt/model-gateway/here")
        assert code == 1 and said.count("Read-only file system") + said.count("Permission denied") == 2
        assert (tmp_path / "data/ledger.db").exists()

        before = running.init.children()
        await running.run("sh", "-c", "sleep 1 >/dev/null 2>&1 & exit 0")  # whose parent has gone is init's to reap
        await until(lambda: len(running.init.children()) > len(before))
        await until(lambda: running.init.children() == before)
        running.init.terminate()
        assert await running.ended() == 0
    assert "Traceback" not in (tmp_path / "out.log").read_text()


async def test_a_key_is_made_inside_where_none_was_given(image: Image, tmp_path: Path) -> None:
    async with container(image, tmp_path, **free_ports()) as running:
        await running.until_ready()
        code, key = await running.run("model-gateway", "keys", "create", "first")
        assert code == 0, key
        async with httpx.AsyncClient(timeout=60) as client:
            headers = {"Authorization": f"Bearer {key.split()[0]}"}
            async with asyncio.timeout(10):
                while (await client.get(f"{running.http}/v1/models", headers=headers)).status_code != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        running.init.terminate()
        assert await running.ended() == 0
    assert "callers  need a key" in (tmp_path / "out.log").read_text()


async def test_sigterm_lets_a_stream_end(image: Image, tmp_path: Path) -> None:
    slow = events(fixture("stream.sse"), pace_s=0.2)
    async with FixtureUpstream(slow) as upstream:
        provider = {
            "base_url": upstream.url, "default_model": "fixture-model", "supported_model_types": ["local", "hybrid"]
        }  # fmt: skip
        written = yaml.safe_dump({"providers": {"embedded": {"status": "offline"}, "fixture": provider}})
        async with container(image, tmp_path, written, CALLER_KEY=KEY, WORKERS="2", **free_ports()) as running:
            await running.until_ready()
            async with httpx.AsyncClient(timeout=60) as client:
                body = CHAT | {"stream": True}
                asked = client.post(f"{running.http}/v1/chat/completions", json=body, headers=BEARER)
                stream = asyncio.create_task(asked)
                await until(lambda: upstream.busy == 1)
                running.init.terminate()
                assert (await stream).text.rstrip().endswith("[DONE]")
            assert await running.ended() == 0


async def test_sigterm_counts_before_it_has_begun(image: Image, tmp_path: Path) -> None:
    async with container(image, tmp_path, CALLER_KEY=KEY, **free_ports()) as running:
        await until(lambda: any(child.name() == "tini" for child in psutil.Process(running.process.pid).children()))
        await until(lambda: bool(running.init.children()))
        running.init.terminate()
        assert await running.ended(10) in (0, 143)


async def test_it_says_when_nobody_can_reach_it_and_when_everybody_could(image: Image, tmp_path: Path) -> None:
    async with container(image, tmp_path, HOST="127.0.0.1", **free_ports()) as running:
        await running.until_ready()
    assert "nobody outside this container reaches it" in (tmp_path / "out.log").read_text()
    async with container(image, tmp_path, REQUIRE_KEYS="false", **free_ports()) as running:
        assert await running.ended() == 2
    said = (tmp_path / "out.log").read_text()
    assert "HOST (environment)" in said and "CALLER_KEY" in said
