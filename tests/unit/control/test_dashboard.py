"""The pages as they are served: all of them, with what forbids anything else, and every word in both languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from model_gateway.control import dashboard
from model_gateway.domain.errors import ErrorKind

PAGES: Final = Path(str(files("model_gateway.control") / "pages"))
NAMES: Final = sorted(each.name for each in PAGES.iterdir())
SCRIPTS: Final = {each.name: each.read_text("utf-8") for each in PAGES.glob("*.js")}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(Starlette(routes=dashboard.routes()), follow_redirects=False) as client:
        yield client


def test_every_file_is_served_and_no_other(client: TestClient) -> None:
    for name in NAMES:
        reply = client.get(f"/dashboard/{name}")
        assert reply.status_code == 200 and reply.content == (PAGES / name).read_bytes()
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'") and "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
    for name in ("nothing.js", "..%2fadmin.py", "%2e%2e/admin.py", "words.js.bak"):
        assert client.get(f"/dashboard/{name}").status_code == 404
    assert client.get("/dashboard").headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/dashboard/").headers["location"] == "/dashboard"


def test_nothing_comes_from_elsewhere_and_nothing_is_put_in_as_markup() -> None:
    for name in NAMES:
        text = (PAGES / name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name
    page = (PAGES / "page.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", page)


def words(language: str) -> dict[str, str]:
    block = re.search(rf"^const {language} = \{{\n(.*?)^\}};", SCRIPTS["words.js"], re.MULTILINE | re.DOTALL)
    assert block is not None
    return {name: text for _, name, text in re.findall(r'("?)([\w.]+)\1: "((?:[^"\\]|\\.)*)"', block[1])}


def test_every_word_is_there_in_both_languages_and_is_used() -> None:
    english, chinese = words("en"), words("zh")
    assert english.keys() == chinese.keys() and len(english) > 100
    for name, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[name])), name
    said = "\n".join(text for text in SCRIPTS.values())
    called = set(re.findall(r'\bt\("([\w.]+)"', said))
    assert called - english.keys() == set()
    built = ("status.", "tier.", "alert.", "factor.", "nav.", "costs.", "reason.", "state.", "requests.unknown.")
    unused = {name for name in english if f'"{name}"' not in said.replace(f'"{name}":', "")}
    assert {name for name in unused if not name.startswith(built)} == set()


def test_every_status_and_factor_has_a_word() -> None:
    english = words("en")
    assert {f"status.{kind}" for kind in ErrorKind} - english.keys() == set()
    assert {f"status.{name}" for name in ("ok", "cancelled", "interrupted", "online", "offline", "draining")} <= set(
        english
    )
