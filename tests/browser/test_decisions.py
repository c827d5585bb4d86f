"""Why a request went where it went, as a person sees it: its factors, in both languages, and when nobody knows."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, expect
from visits import CHROMIUM, QUESTIONS, Scheme, Visit, asked, visiting

from fleets import document, fleet
from model_gateway.app import App
from model_gateway.storage.keys import admin_token
from upstream import FixtureUpstream, chat

pytestmark = pytest.mark.skipif(not CHROMIUM and "CI" not in os.environ, reason="needs Chromium")


async def opened(visit: Visit, token: str | None = None) -> Locator:
    """The rows of the requests' page, none of them open."""
    await (visit.enter() if token is None else visit.enter(token))
    await visit.page.click("nav a[href='#requests']")
    rows = visit.page.locator("tr.openable")
    await expect(rows.first).to_be_visible(timeout=20_000)
    return rows


def parts_of(texts: list[str]) -> list[float]:
    return [float(each.replace("−", "-")) for each in texts]


async def test_a_row_says_what_its_score_is_made_of(busy: App, browser: Browser) -> None:
    async with visiting(browser, busy.control_port) as visit:
        rows = await opened(visit)
        row = rows.filter(has_text="remote-model").last
        score = float(await row.locator("td").nth(4).inner_text())
        await row.click()
        details = visit.page.locator(".more:visible")
        factors = details.locator(".factors li")
        await expect(factors.first).to_be_visible()
        parts = parts_of(await factors.locator("strong").all_inner_texts())
        assert sum(parts) == pytest.approx(score, abs=0.012) and len(parts) >= 7
        await expect(details.locator(".targets li").first).to_contain_text("remote-one/remote-model")
        await expect(details.locator(".scale")).to_be_visible()
        text = await details.inner_text()
        assert "imaging" not in text and "medicine" not in text, "a word of the prompt is kept"
        assert visit.wrong == []


async def test_what_was_never_judged_says_so(busy: App, browser: Browser) -> None:
    async with visiting(browser, busy.control_port) as visit:
        rows = await opened(visit)
        for kind, said in (("cache", "The cache has answered"), ("rate limited", "refused before it was judged")):
            row = rows.filter(has=visit.page.locator(".badge", has_text=re.compile(f"^{kind}$")))
            await row.click()
            await expect(visit.page.locator(".more:visible .decided").first).to_contain_text(said)
            await row.click()
        assert visit.wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_in_chinese_everything_is_chinese_and_fits_a_phone(busy: App, browser: Browser, scheme: Scheme) -> None:
    async with visiting(browser, busy.control_port, "zh-CN", scheme, 390) as visit:
        rows = await opened(visit)
        count = await rows.count()
        for place in range(count):
            await rows.nth(place).click()
        await expect(visit.page.locator(".decided .factors")).to_have_count(5)
        told = await visit.page.locator(".decided").all_inner_texts()
        # Names of providers and models are what they are.
        names = r"(local|hybrid|remote)-one/\1-model"
        english = [re.findall(r"[A-Za-z]{2,}", re.sub(names, "", each)) for each in told]
        assert english == [[]] * count
        assert await visit.page.evaluate("document.documentElement.scrollWidth") <= 390
        if "SCREENSHOTS" in os.environ:
            await visit.page.screenshot(path=f"{os.environ['SCREENSHOTS']}/zh-{scheme}-phone.png", full_page=True)
        assert visit.wrong == []


async def test_a_tried_query_is_explained_in_chinese(app: App, browser: Browser) -> None:
    async with visiting(browser, app.control_port, "zh-CN") as visit:
        await visit.enter()
        await visit.page.click("nav a[href='#explain']")
        await visit.page.fill("textarea", QUESTIONS[1])
        await visit.page.click("button.primary")
        details = visit.page.locator(".factors li .quiet")
        await expect(details.first).to_be_visible()
        assert not re.search(r"[A-Za-z]{2,}", " ".join(await details.all_inner_texts()))


async def test_the_worker_that_has_answered_is_found(
    tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FixtureUpstream(chat) as upstream, fleet(tmp_path, document(upstream.url), monkeypatch) as gateway:
        monkeypatch.chdir(tmp_path)
        served = gateway.gateway
        for number in range(6):  # by both workers
            assert await asked(served.http_port, "any", f"{QUESTIONS[2]} {number}") == 200
        async with visiting(browser, served.control_port) as visit:
            rows = await opened(visit, admin_token(served.config))
            for place in range(await rows.count()):
                await rows.nth(place).click()
            shown = visit.page.locator(".decided .factors")
            await expect(shown).to_have_count(await rows.count())
            assert visit.wrong == []
