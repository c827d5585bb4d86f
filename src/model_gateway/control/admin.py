"""The admin API, below /admin/v1 of the control plane: callers' keys, costs, budgets.

Every request needs the admin token as `Authorization: Bearer …`; a browser sends that to no strange page's wish. What
changes anything is in the audit log, with who asked from where; so are refused tokens. Decides nothing about keys or
money: it reads and writes what the commands do.
"""

from __future__ import annotations

import asyncio
import csv
import hmac
import io
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeVar

import msgspec
import structlog
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from model_gateway.admission import issuing
from model_gateway.budget import recent, report
from model_gateway.budget.budgets import Budgets
from model_gateway.budget.ledger import Ledger
from model_gateway.config.errors import StartupError
from model_gateway.control.health import Configuration, Reloaded
from model_gateway.control.recalling import row_of
from model_gateway.control.refusals import Refusals
from model_gateway.control.sight import Sight
from model_gateway.control.trying import Query, asked_in, told
from model_gateway.domain.caller import Allowance
from model_gateway.domain.errors import GatewayError, InvalidRequest, Overloaded, Unauthenticated
from model_gateway.explaining import Asked, Explanation
from model_gateway.storage import audit
from model_gateway.storage.audit import Act, Actor
from model_gateway.storage.keys import StoredKey
from model_gateway.telemetry.outcome import is_failure

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]
Reload = Callable[[str, Actor], Awaitable[Reloaded]]
"""Read the configuration anew, for this reason, as this one wishes. Raises StartupError where it is wrong."""

REPORT_S: Final = 60.0
"""A report may read many rows."""

MAX_BODY_BYTES = 64 * 1024
MAX_ENTRIES: Final = 1_000
PREFIX: Final = "/admin/v1"
PATHS: Final = {
    "GET /admin/v1/keys": "the keys that commands and this API have made",
    "POST /admin/v1/keys": "a new key: name, team, expires_in (seconds) and options as in `keys` of the configuration",
    "POST /admin/v1/keys/{name}/rotate": "a new key of that name; the old one goes on for overlap (seconds)",
    "DELETE /admin/v1/keys/{name}": "revoked at once",
    "GET /admin/v1/costs": "by=day,team,…&since=2026-11-01&until=2026-11-30&format=json|csv",
    "GET /admin/v1/configuration": "its generation, and why the newest one was refused, if it was",
    "POST /admin/v1/reload": "read the configuration anew: what has changed, or what is wrong with it",
    "GET /admin/v1/budgets": "what each budget's period has spent, holds and has left",
    "GET /admin/v1/overview": "today, this month, tiers, hours, providers, what is wrong: what the dashboard shows",
    "GET /admin/v1/requests": "the newest rows of the ledger: limit=50&before=SEQ&status=failed",
    "GET /admin/v1/requests/{seq}/decision": "why one of them went where it went: the factors of its score",
    "POST /admin/v1/explain": "how a prompt would be routed now, and why; nobody is asked",
    "GET /admin/v1/audit": "the audit log, newest first: since=2026-11-01&action=key&before=SEQ&limit=100",
}

_log = structlog.get_logger("model_gateway.admin")


class _NewKey(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    team: str = "default"
    expires_in: float | None = None
    models: list[str] = []
    tiers: list[str] = []
    doors: list[str] = []
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None
    max_queue: int | None = None
    budget: float | None = None
    budget_per: str | None = None


class _Rotation(msgspec.Struct, forbid_unknown_fields=True):
    overlap: float = 0.0


class Admin:
    """`secret`: of the keys' seals. `refresh`: makes this process know of changed keys at once.

    `own_budgets`: of keys, by their names; it may block.
    """

    def __init__(
        self,
        ledger: Ledger,
        budgets: Callable[[], Budgets],
        *,
        token: str,
        secret: bytes,
        refresh: Callable[[], Awaitable[None]],
        own_budgets: Callable[[], Mapping[str, Allowance]],
        configuration: Callable[[], Configuration],
        reload: Reload,
        sight: Sight,
        explain: Callable[[Asked], Awaitable[Explanation]],
        recall: Callable[[str], Awaitable[Explanation | None]],
    ) -> None:
        self._ledger = ledger
        self._budgets = budgets
        self._token = token.encode()
        self._secret = secret
        self._refresh = refresh
        self._own_budgets = own_budgets
        self._configuration = configuration
        self._reload = reload
        self._sight = sight
        self._explain = explain
        self._recall = recall
        self._refusals = Refusals()

    def mount(self) -> Mount:
        return Mount(
            PREFIX,
            routes=[
                Route("/", self._guarded(self._index)),
                Route("/keys", self._guarded(self._list_keys), methods=["GET"]),
                Route("/keys", self._guarded(self._create_key), methods=["POST"]),
                Route("/keys/{name}/rotate", self._guarded(self._rotate_key), methods=["POST"]),
                Route("/keys/{name}", self._guarded(self._revoke_key), methods=["DELETE"]),
                Route("/costs", self._guarded(self._costs), methods=["GET"]),
                Route("/configuration", self._guarded(self._show_configuration), methods=["GET"]),
                Route("/reload", self._guarded(self._reload_now), methods=["POST"]),
                Route("/audit", self._guarded(self._show_audit), methods=["GET"]),
                Route("/budgets", self._guarded(self._show_budgets), methods=["GET"]),
                Route("/overview", self._guarded(self._show_overview), methods=["GET"]),
                Route("/requests", self._guarded(self._show_requests), methods=["GET"]),
                Route("/requests/{seq}/decision", self._guarded(self._show_decision), methods=["GET"]),
                Route("/explain", self._guarded(self._explain_one), methods=["POST"]),
            ],
        )

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                await self._check(request)
                return await handler(request)
            except GatewayError as error:
                return _refusal(error)
            except OSError as error:
                _log.warning("the admin API cannot read or write the database", error=str(error))
                return _told(503, {"error": {"message": "the ledger's database does not answer", "field": None}})

        return guarded

    async def _check(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            by = actor(request, "no valid token")
            for count in self._refusals.told(by.source, time.time()):
                await self._note(by, Act("admin.refused", request.url.path, "refused", {"attempts": count}))
            raise Unauthenticated(
                "the admin API wants Authorization: Bearer TOKEN: server.admin_token, or the file admin.token beside "
                "the ledger"
            )

    async def _note(self, by: Actor, act: Act) -> None:
        try:
            await asyncio.to_thread(self._ledger.run, lambda c: audit.append(c, by, act, time.time()))
        except OSError as error:
            _log.error("the audit log cannot be written", action=act.action, actor=by.name, error=str(error))

    async def _index(self, _request: Request) -> Response:
        return _told(200, {"paths": PATHS})

    # --- keys ------------------------------------------------------------------------------------------------------

    async def _list_keys(self, _request: Request) -> Response:
        now = time.time()
        found = await asyncio.to_thread(self._ledger.stored_keys)
        return _told(200, {"keys": [issuing.facts(each, now) for each in found]})

    async def _create_key(self, request: Request) -> Response:
        asked = await _body(request, _NewKey)
        now = time.time()
        expires_at = None if asked.expires_in is None else now + _positive("expires_in", asked.expires_in)
        options = {
            name: value
            for name, value in msgspec.structs.asdict(asked).items()
            if name not in ("name", "team", "expires_in")
        }

        def work(connection: Connection) -> tuple[str, StoredKey]:
            by = actor(request)
            return issuing.issue(connection, self._secret, asked.name, asked.team, options, now, expires_at, by)

        made = await self._changed(request, "key created", asked.name, work)
        return _told(201, {"key": made[0], **issuing.facts(made[1], now)})

    async def _rotate_key(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        overlap_s = _positive("overlap", (await _body(request, _Rotation)).overlap)
        now = time.time()
        made = await self._changed(
            request,
            "key rotated",
            name,
            lambda c: issuing.rotate(c, self._secret, name, overlap_s, now, actor(request)),
        )
        return _told(201, {"key": made[0], **issuing.facts(made[1], now)})

    async def _revoke_key(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        now = time.time()
        gone = await self._changed(
            request, "key revoked", name, lambda c: issuing.withdraw(c, name, now, actor(request))
        )
        return _told(200, {"revoked": [each.shown for each in gone]})

    async def _changed(self, request: Request, what: str, name: str, work: Callable[[Connection], T]) -> T:
        made = await asyncio.to_thread(self._ledger.run, work)
        _log.info(what, key_name=name, peer=request.client.host if request.client else "")
        await self._refresh()
        return made

    # --- the configuration ------------------------------------------------------------------------------------------

    async def _show_configuration(self, _request: Request) -> Response:
        return _told(200, self._configuration())

    async def _reload_now(self, request: Request) -> Response:
        try:
            return _told(200, await self._reload("the admin API", actor(request)))
        except StartupError as error:
            return _told(422, {"error": {"message": error.message, "remedy": error.remedy, "field": None}})

    # --- money -----------------------------------------------------------------------------------------------------

    async def _costs(self, request: Request) -> Response:
        asked = request.query_params
        by = [name for name in asked.get("by", "day").split(",") if name]
        unknown = [name for name in by if name not in report.GROUPS]
        if unknown:
            raise InvalidRequest(f"{unknown[0]} is not known; one or several of {', '.join(report.GROUPS)}", param="by")
        form = asked.get("format", "json")
        if form not in ("json", "csv"):
            raise InvalidRequest("json or csv", param="format")
        since = _day(asked.get("since"), "since", date(1970, 1, 1))
        until = _day(asked.get("until"), "until", datetime.now(UTC).date()) + timedelta(days=1)
        begin, end = (datetime(each.year, each.month, each.day, tzinfo=UTC).timestamp() for each in (since, until))
        lines = await asyncio.to_thread(self._ledger.run, lambda c: report.costs(c, by, begin, end), REPORT_S)
        rows = [report.as_row(by, line) for line in lines]
        if form == "json":
            return _told(200, {"costs": rows})
        written = io.StringIO()
        if rows:
            writer = csv.DictWriter(written, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return Response(written.getvalue(), media_type="text/csv", headers={"Cache-Control": "no-store"})

    async def _show_budgets(self, _request: Request) -> Response:
        now = time.time()
        own = await asyncio.to_thread(self._own_budgets)
        found = await asyncio.to_thread(self._ledger.run, lambda c: self._budgets().states(c, now, own))
        return _told(200, {"budgets": found})

    # --- what the dashboard shows -----------------------------------------------------------------------------------

    async def _show_overview(self, _request: Request) -> Response:
        return _told(200, await self._sight.overview())

    async def _show_requests(self, request: Request) -> Response:
        asked = request.query_params
        limit = _whole(asked.get("limit", "50"), "limit", recent.MOST_REQUESTS)
        before = _whole(asked["before"], "before", 2**62) if "before" in asked else None
        if asked.get("status", "all") not in ("all", "failed"):
            raise InvalidRequest("all or failed", param="status")
        failed = asked.get("status") == "failed"
        found = await asyncio.to_thread(
            self._ledger.run, lambda c: recent.newest(c, limit, before, failed=failed), REPORT_S
        )
        return _told(200, {"requests": [row | {"failure": is_failure(row["status"])} for row in found]})

    async def _show_decision(self, request: Request) -> Response:
        seq = _whole(request.path_params["seq"], "seq", 2**62)
        row = await asyncio.to_thread(self._ledger.run, lambda c: row_of(c, seq))
        if row is None:
            return _told(404, {"error": {"message": f"the ledger has no row {seq}", "field": "seq"}})
        unknown = row.unknown()
        found = None if unknown else await self._recall(row.uid)
        decision = None if found is None else told(found)
        return _told(200, {"decision": decision, "unknown": unknown or ("" if decision else "gone")})

    async def _explain_one(self, request: Request) -> Response:
        asked = asked_in(await _body(request, Query))
        return _told(200, told(await self._explain(asked)))

    # --- the audit log ----------------------------------------------------------------------------------------------

    async def _show_audit(self, request: Request) -> Response:
        asked = request.query_params
        since = _day(asked.get("since"), "since", date(1970, 1, 1))
        begin = datetime(since.year, since.month, since.day, tzinfo=UTC).timestamp()
        limit = _whole(asked.get("limit", "100"), "limit", MAX_ENTRIES)
        before = _whole(asked["before"], "before", 2**62) if "before" in asked else None
        found = await asyncio.to_thread(
            self._ledger.run, lambda c: audit.entries(c, begin, asked.get("action", ""), before, limit)
        )
        return _told(200, {"audit": [audit.facts(each) for each in found]})


def actor(request: Request, name: str = "admin token") -> Actor:
    """Whoever asks: the one token, or the certificate that came with it, from this address."""
    certified = getattr(request.state, "client_name", "")
    return Actor(
        f"{name}, certificate {certified}" if certified else name, request.client.host if request.client else ""
    )


async def _body(request: Request, kind: type[T]) -> T:
    read = b""
    async for piece in request.stream():
        read += piece
        if len(read) > MAX_BODY_BYTES:
            raise InvalidRequest(f"the body is longer than {MAX_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(read or b"{}", type=kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$.")
        raise InvalidRequest(text, param=place.rstrip("`") or None) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest("the body is not a JSON object") from None


def _positive(name: str, seconds: float) -> float:
    if not 0 <= seconds <= 10 * 365 * 86_400:
        raise InvalidRequest("seconds from 0 to ten years", param=name)
    return seconds


def _whole(text: str, name: str, most: int) -> int:
    if not text.isdecimal() or not 0 < int(text) <= most:
        raise InvalidRequest(f"a number from 1 to {most}", param=name)
    return int(text)


def _day(text: str | None, name: str, default: date) -> date:
    try:
        return default if text is None else date.fromisoformat(text)
    except ValueError:
        raise InvalidRequest("a day such as 2026-11-23 (UTC)", param=name) from None


def _refusal(error: GatewayError) -> Response:
    if isinstance(error, Unauthenticated):
        status = 401
    elif isinstance(error, Overloaded):
        status = 503
    else:
        status = 404 if isinstance(error, issuing.NoSuchKey) else 409 if isinstance(error, issuing.KeyExists) else 400
    return _told(status, {"error": {"message": error.message, "field": error.param}})


def _told(status: int, content: object) -> Response:
    return Response(msgspec.json.encode(content), status, {"Cache-Control": "no-store"}, "application/json")
