"""What an examination says. Plain data."""

from __future__ import annotations

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """`what`: the part that was looked at; `remedy`: what to do, empty where all is well."""

    what: str
    state: Literal["ok", "warning", "error"]
    detail: str
    remedy: str = ""


def ok(what: str, detail: str) -> Finding:
    return Finding(what, "ok", detail)


def warning(what: str, detail: str, remedy: str) -> Finding:
    return Finding(what, "warning", detail, remedy)


def error(what: str, detail: str, remedy: str) -> Finding:
    return Finding(what, "error", detail, remedy)
