from __future__ import annotations

import pytest

from model_gateway.domain.conversation import Media
from model_gateway.wire.media import media_from_file, media_from_url, url_of

PDF = "JVBERi0xLjQK"


@pytest.mark.parametrize(
    ("url", "media"),
    [
        ("https://x/y.png", Media("image", url="https://x/y.png")),
        ("data:image/png;base64,AAAA", Media("image", mime="image/png", data="AAAA")),
        ("data:image/svg+xml;charset=utf-8;base64,AAAA", Media("image", mime="image/svg+xml", data="AAAA")),
        ("data:;base64,AAAA", None),
        ("data:image/png;base64,", None),
        ("data:image/png,AAAA", None),
        ("data:image/png;base64", None),
        ("data:", None),
        ("", None),
    ],
)
def test_urls_are_taken_apart(url: str, media: Media | None) -> None:
    found = media_from_url("image", url)
    assert found == media
    if found is not None and "charset" not in url:
        assert url_of(found) == url


def test_what_the_url_does_not_say_the_caller_may() -> None:
    assert media_from_url("file", "data:;base64,AAAA", mime="text/csv", name="a") == Media(
        "file", mime="text/csv", data="AAAA", name="a"
    )
    found = media_from_url("image", "data:image/png;base64,AAAA", mime="image/gif", detail="low")
    assert found is not None and (found.mime, found.detail) == ("image/png", "low")


@pytest.mark.parametrize(
    ("data", "name", "mime"),
    [
        (f"data:application/pdf;base64,{PDF}", "", "application/pdf"),
        (PDF, "", "application/pdf"),
        (PDF, "notes.txt", "application/pdf"),
        ("aGk=", "notes.TXT", "text/plain"),
        ("aGk=", "a.pdf", "application/pdf"),
        ("aGk=", "a.zip", None),
        ("aGk=", "", None),
        ("https://x/a.pdf", "a.pdf", None),
        ("data:,hi", "a.pdf", None),
        ("", "a.pdf", None),
    ],
)
def test_files_may_be_bare_base64(data: str, name: str, mime: str | None) -> None:
    found = media_from_file(data, name)
    assert (found.mime if found is not None else None) == mime
    assert found is None or (found.kind, found.name, found.url) == ("file", name, "")
