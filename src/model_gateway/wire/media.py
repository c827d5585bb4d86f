"""Data URLs, in which several schemas carry images, sounds and documents. Pure; decodes no base64."""

from __future__ import annotations

from typing import Literal, TypeAlias

from model_gateway.domain.conversation import Media

_DATA = "data:"
_BASE64 = ";base64"


Kind: TypeAlias = Literal["image", "audio", "file"]


def media_from_url(kind: Kind, url: str, *, detail: str = "", name: str = "", mime: str = "") -> Media | None:
    """A `data:` URL taken apart, any other URL kept. None: a data URL that is not base64."""
    if not url.startswith(_DATA):
        return Media(kind=kind, url=url, detail=detail, name=name, mime=mime)
    head, comma, data = url[len(_DATA) :].partition(",")
    if not comma or not head.endswith(_BASE64):
        return None
    found = head.removesuffix(_BASE64).partition(";")[0]
    return Media(kind=kind, mime=found or mime, data=data, detail=detail, name=name)


def url_of(media: Media) -> str:
    """Where the medium is: its URL, or its data as one."""
    return media.url or f"{_DATA}{media.mime}{_BASE64},{media.data}"
