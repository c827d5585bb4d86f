"""A person before the dashboard: a page of Chromium, and what happens on it that must not."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

import httpx
from playwright.async_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TOKEN = "let-me-in"
EVIL = "<img src=x onerror=alert(1)>"
"""The name of a key. Were it markup, the page would ask for x and show a dialog."""

QUESTIONS = (
    "What is the weather like today?",
    "解释一下量子计算的基本原理",
    "Analyse in detail how AI changes medicine: 1) imaging 2) drug discovery 3) ethics; compare the EU and the US.",
)


async def asked(http_port: int, key: str, question: str) -> int:
    body = {"model": "auto", "max_tokens": 100, "messages": [{"role": "user", "content": question}]}
    async with httpx.AsyncClient(timeout=30) as client:
        url = f"http://127.0.0.1:{http_port}/v1/chat/completions"
        return (await client.post(url, json=body, headers={"authorization": f"Bearer {key}"})).status_code


Scheme: TypeAlias = Literal["light", "dark"]


class Visit:
    """One page in a context of its own, and what it did that no page may do."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.wrong: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        page.on("console", lambda said: self.wrong.append(f"{said.type}: {said.text}") if said.type != "log" else None)
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((address, "blob:"))
                else self.wrong.append(f"another host: {request.url}")
            ),
        )

    async def enter(self, token: str = TOKEN) -> None:
        await self.page.goto(f"{self.address}/dashboard")
        await self.page.fill("#token", token)
        await self.page.press("#token", "Enter")

    async def text(self) -> str:
        return await self.page.inner_text("#app")


@asynccontextmanager
async def visiting(
    browser: Browser, control_port: int, locale: str = "en-US", scheme: Scheme = "light", width: int = 1280
) -> AsyncGenerator[Visit]:
    opened = await browser.new_context(
        locale=locale, color_scheme=scheme, viewport={"width": width, "height": 844}, accept_downloads=True
    )
    try:
        yield Visit(await opened.new_page(), f"http://127.0.0.1:{control_port}")
    finally:
        await opened.close()
