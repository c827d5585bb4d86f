"""Data URLs, in which several schemas carry images, sounds and documents. Pure; decodes no base64."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

from model_gateway.domain.conversation import Media

_DATA = "data:"
_BASE64 = ";base64"
_PDF = "application/pdf"
_PDF_BEGINS = "JVBERi0"  # "%PDF-" in base64
_TYPES = {"pdf": _PDF, "txt": "text/plain"}
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=\s]")

Kind: TypeAlias = Literal["image", "audio", "file"]


def media_from_url(kind: Kind, url: str, *, detail: str = "", name: str = "", mime: str = "") -> Media | None:
    """A `data:` URL taken apart, any other URL kept; `mime` where the URL names no type.

    None: there is nothing, or a data URL that is not base64, is empty, or is of a type that nobody named.
    """
    if not url.startswith(_DATA):
        return Media(kind=kind, url=url, detail=detail, name=name, mime=mime) if url else None
    head, _, data = url[len(_DATA) :].partition(",")
    if not data or not head.endswith(_BASE64):
        return None
    found = head.removesuffix(_BASE64).partition(";")[0] or mime
    return Media(kind=kind, mime=found, data=data, detail=detail, name=name) if found else None


def media_from_file(file_data: str, name: str) -> Media | None:
    """A file as OpenAI's schemas hold it: a data URL, or bare base64 whose type its first bytes or its name tell.

    None: as in `media_from_url`, or a type that cannot be told.
    """
    if file_data.startswith(_DATA):
        return media_from_url("file", file_data, name=name)
    mime = _PDF if file_data.startswith(_PDF_BEGINS) else _TYPES.get(name.rpartition(".")[2].lower(), "")
    is_base64 = _NOT_BASE64.search(file_data) is None
    return Media("file", mime=mime, data=file_data, name=name) if file_data and mime and is_base64 else None


def url_of(media: Media) -> str:
    """Where the medium is: its URL, or its data as one."""
    return media.url or f"{_DATA}{media.mime}{_BASE64},{media.data}"
