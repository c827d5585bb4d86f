"""The real gateway with what the chart renders: probes, drain, and ConfigMaps, Secrets, certificates that change."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from charts import CHART, Object, one, rendered
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pods import READ_ONLY, Mounts, Pod, free_ports, grace_s, pod

import postgres
from certificates import Authority
from gateway import QUESTION
from upstream import FixtureUpstream, Seen, chat, fixture, pieces, until, whole

SERVICE = "modelgateway.ModelGatewayService"


def values(upstream: FixtureUpstream, **more: Any) -> list[str]:
    """For ports of its own, and one provider whose key is in the Secret."""
    ports = dict(zip(("grpc", "http", "control"), free_ports(3), strict=True))
    provider = {
        "baseUrl": upstream.url, "defaultModel": "fixture-model", "supportedModelTypes": ["local", "hybrid", "remote"],
    }  # fmt: skip
    config = {
        "providers": {"embedded": {"status": "offline"}, "fixture": provider},
        "cache": {"enabled": False},
        **more.pop("config", {}),
    }
    entries = {"providers": {"fixture": "FIXTURE_KEY"}, **more.pop("entries", {})}
    options = {"ports": ports, "config": config, "secrets": {"entries": entries}, **more}
    return [part for name, value in options.items() for part in ("--set-json", f"{name}={json.dumps(value)}")]


def alone(upstream: FixtureUpstream, **config: Any) -> tuple[str, ...]:
    """One replica without a database."""
    config = {"server": {"allowAnonymous": True}, **config}
    return (*values(upstream, config=config, postgresql={"enabled": False}), "--set", "replicas=1")


async def ask(pod: Pod, key: str = "", **more: Any) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}], **more}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(timeout=30) as client:
        return await client.post(f"{pod.doors}/v1/chat/completions", json=body, headers=headers)


async def grpc_probe(pod: Pod) -> str:
    """What the kubelet's gRPC probe meets."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{pod.ports['grpc']}") as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=2)
            return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
        except grpc.aio.AioRpcError as error:
            return error.code().name


async def test_probes_answer_and_a_stream_outlives_sigterm(tmp_path: Path) -> None:
    may_end = asyncio.Event()

    async def held(seen: Seen, writer: asyncio.StreamWriter) -> None:
        first, *others = pieces(fixture("stream.sse"))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        writer.write(head + first)
        await writer.drain()
        await may_end.wait()
        writer.write(b"".join(others))
        await writer.drain()
        writer.close()

    async with FixtureUpstream(held) as upstream:
        objects = rendered("default", *alone(upstream))
        async with pod(tmp_path, objects) as gateway:
            assert not READ_ONLY or root_is_read_only(gateway)
            assert await gateway.probe("livenessProbe") == 200
            assert await grpc_probe(gateway) == "SERVING"
            stream = asyncio.create_task(ask(gateway, stream=True))
            await until(lambda: upstream.busy == 1)

            asked_s = time.monotonic()
            gateway.process.send_signal(signal.SIGTERM)
            await gateway.until_probe("readinessProbe", 503)
            assert await gateway.probe("livenessProbe") == 200, "nobody shall kill it while it drains"
            assert await grpc_probe(gateway) in ("UNAVAILABLE", "NOT_SERVING")
            assert not stream.done()
            may_end.set()
            assert (await stream).text.rstrip().endswith("[DONE]")
            async with asyncio.timeout(grace_s(objects)):
                assert await gateway.process.wait() == 0
            assert time.monotonic() - asked_s < grace_s(objects)


async def test_the_tests_pod_finds_the_doors(tmp_path: Path) -> None:
    """As `helm test` runs it, with this machine in place of the Services."""
    async with FixtureUpstream(whole(b'{"object": "list", "data": [{"id": "fixture-model"}]}')) as upstream:
        objects = rendered("default", *alone(upstream))
        async with pod(tmp_path, objects) as gateway:
            doors, doctor = one(objects, "Pod")["spec"]["containers"]
            environ = {
                each["name"]: each["value"].replace("gw-model-gateway-control", "127.0.0.1").replace(
                    "gw-model-gateway", "127.0.0.1"
                )
                for each in doors["env"]
            }  # fmt: skip
            _, flag, program = doors["command"]
            done = await run(sys.executable, flag, program, env=environ)
            assert done.returncode == 0, done.stderr
            assert done.stdout.count(": 200\n") == 3 and ": connected\n" in done.stdout
            arguments = [
                part.replace("/etc/model-gateway", str(gateway.mounts.config.parent)) for part in doctor["args"]
            ]
            done = await run(
                sys.executable, "-m", "model_gateway.cli", *arguments,
                env=gateway.mounts.environ(), cwd=gateway.mounts.data,
            )  # fmt: skip
            assert "0 errors" in done.stdout, done.stdout
        done = await run(sys.executable, flag, program, env=environ)
        assert done.returncode == 1 and "onnection refused" in done.stderr


async def test_a_swapped_configmap_and_secret_are_taken_up(tmp_path: Path) -> None:
    async with FixtureUpstream(chat) as upstream:
        options = alone(upstream)
        objects = rendered("default", *options)
        async with pod(tmp_path, objects, {"FIXTURE_KEY": "sk-first"}) as gateway:
            assert (await ask(gateway)).status_code == 200
            assert upstream.seen[-1].headers["authorization"] == "Bearer sk-first"

            secrets = {name: path.read_text() for name, path in secrets_of(gateway).items()}
            gateway.mounts.put("/run/secrets/model-gateway", {**secrets, "FIXTURE_KEY": "sk-second"})
            await gateway.until_health("configuration", generation=2)
            assert (await ask(gateway)).status_code == 200
            assert upstream.seen[-1].headers["authorization"] == "Bearer sk-second"

            changed = rendered("default", *options, "--set", "config.security.maxQueryLength=5")
            assert checksum(changed) == checksum(objects), "or the pods would be replaced instead"
            gateway.mounts.put_config(changed)
            await gateway.until_health("configuration", generation=3)
            assert (await ask(gateway)).status_code == 400

            gateway.mounts.put_config(rendered("default", *options, "--set", "config.security.maxQueryLenght=5"))
            health = await gateway.until_health("configuration", refused=1)
            assert health["status"] == "degraded" and health["ready"], "the last good one goes on"
            assert "did you mean maxQueryLength?" in health["configuration"]["error"]
            gateway.mounts.put_config(objects)
            await gateway.until_health("configuration", generation=4, error="")
            assert (await ask(gateway)).status_code == 200
            assert gateway.process.returncode is None


async def test_a_renewed_certificate_is_taken_up(tmp_path: Path) -> None:
    async with FixtureUpstream(chat) as upstream:
        tls = ("--set", "tls.enabled=true,tls.secretName=from-elsewhere")
        async with pod(tmp_path, rendered("default", *alone(upstream), *tls)) as gateway:
            first, second = Authority("first"), Authority("second")
            for authority in (first, second):
                pair = authority.issue()
                files = {"tls.crt": pair.cert.decode(), "tls.key": pair.key.decode()}
                gateway.mounts.put("/run/tls/server", files)
                async with asyncio.timeout(10):
                    while not await trusts(authority, gateway.ports["http"]):  # noqa: ASYNC110 (another process)
                        await asyncio.sleep(0.1)
            assert not await trusts(first, gateway.ports["http"])
            assert await gateway.probe("readinessProbe") == 200


async def test_clients_need_a_certificate_and_probes_do_not(tmp_path: Path) -> None:
    async with FixtureUpstream(chat) as upstream:
        tls = ("--set", "tls.enabled=true,tls.secretName=server,tls.clientCa.secretName=clients")
        async with pod(tmp_path, rendered("default", *alone(upstream), *tls)) as gateway:
            authority, port = gateway.mounts.authority, gateway.ports["http"]
            assert not await trusts(authority, port), "without a certificate"
            assert await trusts(authority, port, authority.issue("client").write(tmp_path, "client"))
            assert [await gateway.probe(name) for name in ("livenessProbe", "readinessProbe")] == [200, 200]


async def test_replicas_of_one_database_know_each_others_keys(tmp_path: Path) -> None:
    """The default values: PostgreSQL and the same KEY_SECRET; callers need keys."""
    with postgres.server(tmp_path / "postgres") as url:
        async with FixtureUpstream(chat) as upstream:
            one_, other = (rendered("default", *values(upstream)) for _ in range(2))
            async with (
                pod(tmp_path / "1", one_, {"DATABASE_URL": url}) as first,
                pod(tmp_path / "2", other, {"DATABASE_URL": url}) as second,
            ):
                assert [(await ask(each)).status_code for each in (first, second)] == [401, 401]
                config = str(first.mounts.config)
                done = await run(
                    sys.executable, "-m", "model_gateway.cli", "keys", "create", "app", "--config", config,
                    env=first.mounts.environ(), cwd=first.mounts.data,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
                key = done.stdout.split()[0]
                async with asyncio.timeout(10):
                    while {(await ask(each, key)).status_code for each in (first, second)} != {200}:  # noqa: ASYNC110
                        await asyncio.sleep(0.2)


async def test_without_the_secrets_entry_the_log_says_which(tmp_path: Path) -> None:
    async with FixtureUpstream(chat) as upstream:
        mounts = Mounts(tmp_path, rendered("default", *values(upstream)))
        mounts.put("/run/secrets/model-gateway", {"DATABASE_URL": "postgresql://x@127.0.0.1/x"})
        done = await run(
            sys.executable, "-m", "model_gateway.cli", *mounts.arguments(), env=mounts.environ(), cwd=mounts.data
        )
        assert done.returncode == 2
        assert "KEY_SECRET cannot be read: No such file or directory" in done.stderr


@pytest.mark.parametrize("program", ["files/doors.py"])
def test_what_runs_in_the_tests_pod_needs_nothing_installed(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(CHART / program)], env={"URLS": "", "ADDRESSES": ""}, timeout=20
    )
    assert done.returncode == 0


def root_is_read_only(gateway: Pod) -> bool:
    mounts = [line.split() for line in Path(f"/proc/{gateway.process.pid}/mounts").read_text().splitlines()]
    return [options.split(",")[0] for _, place, _, options, *_ in mounts if place == "/"][-1] == "ro"


async def trusts(authority: Authority, port: int, client_files: tuple[str, str] | None = None) -> bool:
    """Whether a caller of this authority and the gateway get on."""
    async with authority.http(port, client_files) as client:
        try:
            return (await client.get("/")).status_code == 200
        except (httpx.HTTPError, OSError):  # TLS 1.3 refuses at the first read, which httpx does not translate
            return False


def secrets_of(gateway: Pod) -> dict[str, Path]:
    folder = gateway.mounts.path("/run/secrets/model-gateway")
    return {path.name: path for path in folder.iterdir() if not path.name.startswith("..")}


def checksum(objects: tuple[Object, ...]) -> str:
    return one(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/start"]


async def run(*command: str, env: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, command, env=env, cwd=cwd, capture_output=True, text=True, timeout=60
    )
