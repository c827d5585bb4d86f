"""What a person sees: true figures, in both languages, on a phone too, and nothing that a caller wrote as markup."""

from __future__ import annotations

import asyncio
import csv
import os
import re
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Route, expect
from visits import CHROMIUM, EVIL, QUESTIONS, TOKEN, Scheme, asked, visiting

from fleets import document, fleet
from model_gateway.app import App
from model_gateway.storage.keys import admin_token
from upstream import FixtureUpstream, chat

pytestmark = pytest.mark.skipif(not CHROMIUM and "CI" not in os.environ, reason="needs Chromium")

SECTIONS = ("overview", "requests", "explain", "costs")


async def costs(app: App) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{app.control_port}/admin/v1/overview"
        return (await client.get(url, headers=headers)).json()["month"]


async def test_the_overview_shows_what_the_ledger_says(busy: App, browser: Browser) -> None:
    async with visiting(browser, busy.control_port) as visit:
        await visit.enter()
        await expect(visit.page.locator(".tiles")).to_contain_text("Requests7")
        told = await visit.text()
        month = await costs(busy)
        saved = float(month["saved_usd"])
        assert saved > 0 and f"${saved:.4f}" in told, told
        assert "1 from the cache" in told and "1 refused or cancelled" in told
        assert "rate limited 1" in told and "answered 6" in told
        for expected in ("local", "hybrid", "remote", "local-one", "away", "configured offline", "online", "closed"):
            assert expected in told
        assert f"${float(month['cost_usd']):.6f} of $0.02" in told
        assert visit.wrong == []


async def test_it_looks_again_by_itself(app: App, browser: Browser) -> None:
    async with visiting(browser, app.control_port) as visit:
        await visit.enter()
        await expect(visit.page.locator(".tile").first).to_contain_text("Requests0")
        await asked(app.http_port, "k1", QUESTIONS[0])
        await expect(visit.page.locator(".tile").first).to_contain_text("Requests1", timeout=20_000)


async def test_requests_say_why_and_what_callers_wrote_is_text(busy: App, browser: Browser) -> None:
    async with visiting(browser, busy.control_port) as visit:
        await visit.enter()
        await visit.page.click("nav a[href='#requests']")
        rows = visit.page.locator("tr.openable")
        await expect(rows).to_have_count(7)
        assert EVIL in await visit.text()
        await rows.filter(has_text="remote-model").last.click()
        details = visit.page.locator(".more:visible")
        await expect(details).to_contain_text("asks for remote")
        await expect(details).to_contain_text("as the provider counted")
        assert await visit.page.locator("#app img[src='x']").count() == 0
        await visit.page.select_option(".tools select", "failed")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("rate limited")
        assert visit.wrong == []


async def test_a_query_is_explained_and_nobody_is_asked(app: App, browser: Browser) -> None:
    async with visiting(browser, app.control_port) as visit:
        await visit.enter()
        await visit.page.click("nav a[href='#explain']")
        more = "weigh the risks, give an outlook"
        await visit.page.fill("textarea", f"{QUESTIONS[2]} {more} <script>alert(2)</script>")
        await visit.page.click("button.primary")
        factors = visit.page.locator(".factors li")
        await expect(factors.first).to_be_visible()
        shown = float(await visit.page.inner_text(".decision .tile-value >> nth=0"))
        parts = [float(each.replace("−", "-")) for each in await factors.locator("strong").all_inner_texts()]
        assert shown == pytest.approx(sum(parts), abs=0.005)
        await expect(visit.page.locator(".decision")).to_contain_text("remote")
        await expect(visit.page.locator(".targets li").first).to_contain_text("remote-one/remote-model")
        await visit.page.fill("#ask-budget_usd", "0")
        await visit.page.click("button.primary")
        await expect(visit.page.locator(".notice.bad")).to_contain_text("budget")
        await visit.page.fill("#ask-max_tokens", "-5")
        await visit.page.click("button.primary")
        await expect(visit.page.locator("main > .notice.bad")).to_contain_text("max_tokens")
        # Chromium itself notes that a request was refused with 400, which is what was asked for.
        assert [each for each in visit.wrong if "400 (Bad Request)" not in each] == []
    assert (await costs(app))["requests"] == 0


async def test_a_late_answer_does_not_replace_a_later_question(busy: App, browser: Browser) -> None:
    async with visiting(browser, busy.control_port) as visit:
        answered = asyncio.Event()

        async def late(route: Route) -> None:
            await asyncio.sleep(0.7)
            await route.continue_()
            answered.set()

        await visit.page.route("**/costs?by=day*", late)
        await visit.enter()
        await visit.page.click("nav a[href='#costs']")
        await visit.page.select_option("select >> nth=0", "key")
        await expect(visit.page.locator("tbody")).to_contain_text("ada")
        await answered.wait()
        await asyncio.sleep(0.3)
        await expect(visit.page.locator("tbody")).to_contain_text("ada")


async def test_costs_are_shown_and_downloaded(busy: App, browser: Browser, tmp_path: Path) -> None:
    async with visiting(browser, busy.control_port) as visit:
        await visit.enter()
        await visit.page.click("nav a[href='#costs']")
        await visit.page.select_option("select >> nth=0", "key")
        await expect(visit.page.locator("tbody")).to_contain_text("ada")
        assert EVIL in await visit.text()
        async with visit.page.expect_download() as download:
            await visit.page.click("text=Download CSV")
        file = tmp_path / "costs.csv"
        await (await download.value).save_as(file)
        rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
        assert {row["key"] for row in rows} >= {"ada", EVIL}
        assert visit.wrong == []


async def test_a_wrong_token_is_refused_and_the_right_one_stays_in_its_tab(app: App, browser: Browser) -> None:
    async with visiting(browser, app.control_port) as visit:
        await visit.enter("wrong")
        await expect(visit.page.locator(".notice.bad")).to_contain_text("not the right one")
        assert await visit.page.locator("nav").count() == 0
        await visit.page.fill("#token", TOKEN)
        await visit.page.click("button.primary")
        await expect(visit.page.locator("nav")).to_be_visible()
        assert await visit.page.context.cookies() == []
        assert await visit.page.evaluate("JSON.stringify(localStorage)") == "{}"
        await visit.page.reload()
        await expect(visit.page.locator("nav")).to_be_visible()
        await visit.page.click("text=Sign out")
        await expect(visit.page.locator("#token")).to_be_visible()
        assert await visit.page.evaluate("sessionStorage.length") == 0


async def test_the_address_may_bring_the_token_and_forgets_it(app: App, browser: Browser) -> None:
    async with visiting(browser, app.control_port) as visit:
        await visit.page.goto(f"{visit.address}/dashboard#token={TOKEN}")
        await expect(visit.page.locator("nav")).to_be_visible()
        assert TOKEN not in visit.page.url


async def test_chinese_by_the_browsers_language_and_by_choice(busy: App, browser: Browser) -> None:
    async with visiting(browser, busy.control_port, locale="zh-CN") as visit:
        await visit.enter()
        await expect(visit.page.locator("main")).to_contain_text("本月节省")
        assert await visit.page.get_attribute("html", "lang") == "zh-CN"
        for section in SECTIONS:
            await visit.page.click(f"nav a[href='#{section}']")
            await expect(visit.page.locator("main .card").first).to_be_visible()
            assert not re.search(r"\b[a-z]+\.[a-z][A-Za-z]+\b(?!\.)", await visit.page.inner_text("nav"))
        await visit.page.click("text=English")
        await expect(visit.page.locator("nav")).to_contain_text("Costs")
        await visit.page.reload()
        await expect(visit.page.locator("nav")).to_contain_text("Costs")
        assert visit.wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_phone_needs_no_sideways_scrolling(busy: App, browser: Browser, scheme: Scheme) -> None:
    async with visiting(browser, busy.control_port, "zh-CN", scheme, 390) as visit:
        await visit.enter()
        for section in SECTIONS:
            await visit.page.click(f"nav a[href='#{section}']")
            await expect(visit.page.locator("main .card").first).to_be_visible()
            wide = await visit.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 390, section
        shade = await visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (shade == "rgb(244, 245, 247)") is (scheme == "light")


async def test_with_several_workers_too(tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FixtureUpstream(chat) as upstream, fleet(tmp_path, document(upstream.url), monkeypatch) as gateway:
        monkeypatch.chdir(tmp_path)
        token = admin_token(gateway.gateway.config)
        assert await asked(gateway.gateway.http_port, "any", QUESTIONS[0]) == 200
        async with visiting(browser, gateway.gateway.control_port) as visit:
            await visit.enter(token)
            await expect(visit.page.locator("footer")).to_contain_text("2 processes", timeout=20_000)
            await expect(visit.page.locator(".tile").first).to_contain_text("Requests1", timeout=20_000)
            await visit.page.click("nav a[href='#explain']")
            await visit.page.click("button.chip >> nth=2")
            await expect(visit.page.locator(".targets li").first).to_contain_text("fixture/fixture-model")
            assert visit.wrong == []
