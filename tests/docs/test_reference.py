"""The pages tell what is so: the generated ones are fresh, links lead somewhere, each option is told in Chinese."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
from pages import ROOT, markdown

from model_gateway.config.options import dotted, options

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts/reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_option_has_a_chinese_meaning_of_its_present_text(reference: ModuleType) -> None:
    told = reference.chinese()
    assert [dotted(option.keys) for option in options() if option.info.description not in told] == []
    used = {option.info.description for option in options()}
    assert [english for english in told if english not in used] == [], "docs/zh/options.yaml translates what is gone"
    assert all(re.search(r"[\u4e00-\u9fff]", chinese) for chinese in told.values())


def test_the_generated_pages_are_fresh(reference: ModuleType) -> None:
    stale = [str(path) for path, text in reference.pages().items() if (ROOT / path).read_text("utf-8") != text]
    assert stale == [], "run: make docs"


def test_the_grpc_page_holds_every_name_of_the_contract(reference: ModuleType) -> None:
    from model_gateway.pb import gateway_pb2

    page = reference.grpc()
    contract = gateway_pb2.DESCRIPTOR
    names = [name for message in contract.message_types_by_name.values() for name in message.fields_by_name]
    names += [name for service in contract.services_by_name.values() for name in service.methods_by_name]
    names += [name for enum in contract.enum_types_by_name.values() for name in enum.values_by_name]
    assert len(names) > 30
    assert [name for name in names if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", markdown(), ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken: list[str] = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """As the usual renderers make them from headings."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in LINK.findall(index)}
    pages = [page for page in markdown() if page.is_relative_to(ROOT / "docs") and "adr" not in page.parts]
    assert [str(page) for page in pages if page not in linked and page.name != "README.md"] == []
