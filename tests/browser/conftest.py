"""Real Chromium before a real gateway, whose control plane serves the pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright
from pydantic import SecretStr
from visits import CHROMIUM, EVIL, QUESTIONS, TOKEN, asked

from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.config.callers import CallerKey
from model_gateway.config.schema import BudgetConfig, BudgetsConfig, LedgerConfig, ServerConfig
from upstream import FixtureUpstream, chat, until


@pytest.fixture
async def app(tmp_path: Path) -> AsyncGenerator[App]:
    prices = {"local": (0.1, 0.2), "hybrid": (1.0, 2.0), "remote": (15.0, 75.0)}
    async with FixtureUpstream(chat) as upstream:
        providers = {
            f"{tier}-one": fixture_provider(
                upstream.url,
                default_model=f"{tier}-model",
                supported_model_types=(tier,),
                price_per_million_input=prices[tier][0],
                price_per_million_output=prices[tier][1],
            )
            for tier in prices
        }
        config = config_for(
            tmp_path,
            {**providers, "away": fixture_provider(upstream.url, status="offline")},
            keys=(
                CallerKey(name="ada", key=SecretStr("k1")),
                CallerKey(name=EVIL, key=SecretStr("k2"), requests_per_minute=2),
            ),
            budgets=BudgetsConfig(limits=(BudgetConfig(name="all", usd=0.02, per="month"),)),
            ledger=LedgerConfig(path=str(tmp_path / "ledger.db"), flush_interval=10),
            server=ServerConfig(port=0, http_port=0, control_port=0, admin_token=SecretStr(TOKEN), shutdown_grace=1000),
        )
        async with App(config) as running:
            yield running


@pytest.fixture
async def busy(app: App) -> App:
    """With requests in its ledger: of every tier, from the cache, and refused."""
    statuses = [await asked(app.http_port, "k1", question) for question in (*QUESTIONS, QUESTIONS[2])]
    statuses += [await asked(app.http_port, "k2", f"{QUESTIONS[0]} {number}") for number in range(3)]
    assert statuses == [200] * 6 + [429]
    ledger = app.ledger
    assert ledger is not None
    await until(lambda: not ledger.pending)  # a page shows what is written when it is opened
    return app


@pytest.fixture
async def browser() -> AsyncGenerator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        await launched.close()
