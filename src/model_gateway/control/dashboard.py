"""The dashboard's pages, as files of this package: one HTML, one style sheet, scripts without a build step.

They hold nothing secret and are served to anyone who reaches the port; what they show comes from the admin API, by the
token that their reader types in. Decides what the browser may do with them: nothing but talk to this control plane.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

PATH: Final = "/dashboard"
_PAGE: Final = "page.html"
_KINDS: Final = {
    "page.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "main.js": "text/javascript; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "parts.js": "text/javascript; charset=utf-8",
    "said.js": "text/javascript; charset=utf-8",
    "words.js": "text/javascript; charset=utf-8",
    "overview.js": "text/javascript; charset=utf-8",
    "requests.js": "text/javascript; charset=utf-8",
    "explain.js": "text/javascript; charset=utf-8",
    "costs.js": "text/javascript; charset=utf-8",
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def routes() -> list[Route]:
    return [
        Route(PATH, _page, methods=["GET"]),
        Route(f"{PATH}/", _to_page, methods=["GET"]),
        Route(f"{PATH}/{{name}}", _file, methods=["GET"]),
    ]


async def _page(_request: Request) -> Response:
    return _served(_PAGE)


async def _to_page(_request: Request) -> Response:
    return RedirectResponse(PATH)


async def _file(request: Request) -> Response:
    name: str = request.path_params["name"]
    return _served(name) if name in _KINDS else PlainTextResponse("no such file\n", 404, _HEADERS)


def _served(name: str) -> Response:
    return Response(_content(name), 200, {**_HEADERS, "Content-Type": _KINDS[name]})


@cache
def _content(name: str) -> bytes:
    return (files("model_gateway.control") / "pages" / name).read_bytes()
