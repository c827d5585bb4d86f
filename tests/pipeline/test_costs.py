"""What `costs` tells is what happened: to the nano-dollar, in every form, on both databases."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.cli.app import app as commands
from model_gateway.config.schema import LedgerConfig
from postgres import emptied, server
from upstream import FixtureUpstream

CHEAP, DEAR = (1.0, 2.0), (10.0, 30.0)  # USD per million tokens, in and out
TOKENS = 39, 27  # of the recorded reply


def cost(price: tuple[float, float]) -> int:
    return int(TOKENS[0] * price[0] * 1000 + TOKENS[1] * price[1] * 1000)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with server(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerConfig:
    path = str(tmp_path / "ledger.db")
    if request.param == "sqlite":
        return LedgerConfig(path=path, flush_interval=20)
    url = SecretStr(emptied(request.getfixturevalue("postgres")))
    return LedgerConfig(path=path, url=url, flush_interval=20)


def told(tmp_path: Path, ledger: LedgerConfig, *arguments: str) -> Any:
    written: dict[str, Any] = {"path": ledger.path}
    if ledger.url is not None:
        written["url"] = ledger.url.get_secret_value()
    (tmp_path / "gateway.yaml").write_text(json.dumps({"ledger": written}))
    done = CliRunner().invoke(commands, ["costs", "--config", str(tmp_path / "gateway.yaml"), *arguments])
    assert done.exit_code == 0, done.output
    return done.output


async def test_costs_and_savings(tmp_path: Path, ledger: LedgerConfig) -> None:
    async with FixtureUpstream() as upstream:
        prices = ("price_per_million_input", "price_per_million_output")
        tiers = {"small": (("local", "hybrid"), CHEAP), "large": (("remote",), DEAR)}
        providers = {
            name: fixture_provider(
                upstream.url, default_model=name, supported_model_types=served, **dict(zip(prices, price, strict=True))
            )
            for name, (served, price) in tiers.items()
        }
        async with App(config_for(tmp_path, providers, ledger=ledger)) as app, httpx.AsyncClient() as client:
            for model, question in [("small", "a"), ("small", "a"), ("large", "b"), ("small", "c"), ("nobody", "d")]:
                body = {"model": model, "messages": [{"role": "user", "content": question}]}
                await client.post(f"http://127.0.0.1:{app.http_port}/v1/chat/completions", json=body)
    small, large = cost(CHEAP), cost(DEAR)
    rows = {row["model"]: row for row in json.loads(told(tmp_path, ledger, "--by", "model", "--format", "json"))}
    assert rows["small"] == {
        "model": "small",
        "requests": 3,
        "answered": 3,
        "estimated": 0,
        "cache_hits": 1,
        "input_tokens": 3 * TOKENS[0],
        "output_tokens": 3 * TOKENS[1],
        "cost_usd": f"{2 * small / 1e9:.9f}",
        "strongest_model_usd": f"{3 * large / 1e9:.9f}",
        "saved_usd": f"{(3 * large - 2 * small) / 1e9:.9f}",
        "saved_by_routing_usd": f"{3 * (large - small) / 1e9:.9f}",
        "saved_by_cache_usd": f"{small / 1e9:.9f}",
    }
    assert rows["large"]["saved_usd"] == "0.000000000" and rows["large"]["cost_usd"] == f"{large / 1e9:.9f}"
    assert (rows[""]["requests"], rows[""]["answered"], rows[""]["cost_usd"]) == (1, 0, "0.000000000")
    today = datetime.now(UTC).date().isoformat()
    days = list(csv.DictReader(io.StringIO(told(tmp_path, ledger, "--by", "day,tier", "--format", "csv"))))
    assert {row["day"] for row in days} <= {today} and sum(int(row["requests"]) for row in days) == 5
    table = told(tmp_path, ledger, "--by", "provider")
    assert "small" in table and "saved by cache" in table and f"{(2 * small + large) / 1e9:.6f}" in table
    assert json.loads(told(tmp_path, ledger, "--until", "2020-01-01", "--format", "json")) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--by", "moon"], "--by moon: not known"),
        (["--since", "yesterday"], "--since yesterday: not a day"),
        (["--format", "xml"], "--format xml: not known"),
        ([], "there is no ledger at"),
    ],
)
def test_a_mistake_is_explained(
    tmp_path: Path, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    done = CliRunner().invoke(commands, ["costs", *arguments])
    assert done.exit_code != 0 and says in done.output and "hint:" in done.output
