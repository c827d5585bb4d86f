"""What dashboards and alerts ask is what a gateway tells: a real Prometheus asks a real one."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from containers import free_ports

from certificates import Authority
from gateway import QUESTION
from model_gateway.telemetry.outcome import CALLER_STATUSES
from upstream import FixtureUpstream, events, fixture

COMPOSE = Path(__file__).parents[2] / "deploy/compose"
ALERTS = COMPOSE / "prometheus/alerts.yml"
DASHBOARD = json.loads((COMPOSE / "grafana/dashboards/gateway.json").read_text())
METRIC = re.compile(r"\b(?:model_gateway|process)_[a-z_]+")

pytestmark = pytest.mark.timeout(240)


def panels() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def promtool(*arguments: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_files_and_the_alerts_ring_when_they_shall(tmp_path: Path) -> None:
    promtool("check", "config", COMPOSE / "prometheus/prometheus.yml")
    shutil.copy(ALERTS, tmp_path)
    shutil.copy(Path(__file__).parent / "alerts_test.yml", tmp_path)
    promtool("test", "rules", "alerts_test.yml", cwd=tmp_path)


def test_failures_are_the_gateways_own() -> None:
    named = re.compile(r'status!~"([a-z_|]+)"')
    asked = [found for _, expression in panels() if (found := named.search(expression))]
    asked += [found for rule in rules() if (found := named.search(rule["expr"]))]
    assert len(asked) == 2
    for found in asked:
        assert {*found[1].split("|")} == {"ok", *map(str, CALLER_STATUSES)}


def test_panels_do_not_overlap_and_name_the_provisioned_data_source() -> None:
    source = yaml.safe_load((COMPOSE / "grafana/provisioning/datasources/prometheus.yml").read_text())
    uid = source["datasources"][0]["uid"]
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        assert {each["datasource"]["uid"] for each in (panel, *panel["targets"])} == {uid}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


async def test_every_question_is_answered(tmp_path: Path) -> None:
    authority = Authority()
    pair = authority.issue("server").write(tmp_path)
    tls = {"cert": pair[0], "key": pair[1]}
    async with (
        FixtureUpstream(events(fixture("stream.sse"))) as upstream,
        serving(tmp_path, upstream.url, tls) as (https, control),
        prometheus(tmp_path, control) as api,
    ):
        asking = asyncio.create_task(keep_asking(authority.http(https)))
        try:
            await until_scraped(api)
            async with httpx.AsyncClient() as client:
                told = (await client.get(f"http://{control}/metrics")).text
            asked = [*panels(), *((rule["alert"], rule["expr"]) for rule in rules())]
            for title, expression in asked:
                for metric in METRIC.findall(expression):
                    assert f"\n{metric}{{" in told or f"\n{metric} " in told, f"{title}: {metric}"
            for title, expression in panels():
                assert await answer(api, expression), f"{title}: {expression}"
            loaded = (await api.get("/api/v1/rules")).json()["data"]["groups"]
            assert {rule["health"] for group in loaded for rule in group["rules"]} == {"ok"}
            assert {rule["state"] for group in loaded for rule in group["rules"]} <= {"inactive", "pending"}
        finally:
            asking.cancel()


async def keep_asking(client: httpx.AsyncClient) -> None:
    async with client:
        while True:  # until it is cancelled
            body = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}], "stream": True}
            reply = await client.post("/v1/chat/completions", json=body)
            assert reply.status_code == 200, reply.text
            await asyncio.sleep(0.1)


@asynccontextmanager
async def serving(folder: Path, url: str, tls: dict[str, str]) -> AsyncGenerator[tuple[int, str]]:
    """Of two workers. Its HTTP port, and its control plane's address."""
    ports = free_ports()
    http, control = int(ports["HTTP_PORT"]), f"127.0.0.1:{ports['CONTROL_PORT']}"
    server = {"port": int(ports["PORT"]), "httpPort": http, "controlPort": int(ports["CONTROL_PORT"]), "tls": tls}
    provider = {
        "baseUrl": url, "defaultModel": "fixture-model", "supportedModelTypes": ["local", "hybrid"],
        "pricePerMillionInput": 1, "pricePerMillionOutput": 2,
    }  # fmt: skip
    written = {"server": server, "providers": {"embedded": {"status": "offline"}, "fixture": provider}}
    (folder / "gateway.yaml").write_text(yaml.safe_dump(written))
    with (folder / "out.log").open("wb") as out:
        command = (sys.executable, "-m", "model_gateway.cli", "serve", "--workers", "2")
        running = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=out, stderr=out)
    try:
        async with asyncio.timeout(90), httpx.AsyncClient() as client:
            while True:
                with suppress(httpx.HTTPError):
                    if (await client.get(f"http://{control}/health/ready")).status_code == 200:
                        break
                await asyncio.sleep(0.1)
        yield http, control
    finally:
        running.terminate()
        await running.wait()


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncGenerator[httpx.AsyncClient]:
    """With the configuration as it is, but for the gateway's address and a faster clock."""
    written = yaml.safe_load((COMPOSE / "prometheus/prometheus.yml").read_text())
    written["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    written["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(written))
    shutil.copy(ALERTS, folder)
    address = f"127.0.0.1:{free_ports()['PORT']}"
    with (folder / "prometheus.log").open("wb") as out:
        running = await asyncio.create_subprocess_exec(
            "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", f"--web.listen-address={address}",
            cwd=folder, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=10) as api:
            yield api
    finally:
        running.terminate()
        await running.wait()


async def answer(api: httpx.AsyncClient, expression: str) -> list[Any]:
    asked = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
    reply = (await api.get("/api/v1/query", params={"query": asked})).json()
    assert reply["status"] == "success", reply
    return reply["data"]["result"]


async def until_scraped(api: httpx.AsyncClient) -> None:
    """Rates need two samples of each counter; requests and the rules' first evaluation come between them."""
    async with asyncio.timeout(90):
        while True:
            try:
                found = await answer(api, "count_over_time(model_gateway_first_token_seconds_count[1m])")
                rules = (await api.get("/api/v1/rules")).json()["data"]["groups"]
                evaluated = rules and all(rule["health"] == "ok" for group in rules for rule in group["rules"])
                if evaluated and found and min(float(each["value"][1]) for each in found) >= 3:
                    return
            except (httpx.HTTPError, AssertionError, ValueError):
                pass  # it starts
            await asyncio.sleep(0.2)
