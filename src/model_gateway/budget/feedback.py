"""What callers thought of their answers, in the ledger's database: the last word on each request.

Decides what a rating may hold and whose request it may be about: of the caller's own key, or none. Written at once, on
a thread beside the ledger's writer, because whoever rates is told whether there is such a request; few at a time, so
that the data plane does not notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from sqlalchemy import Connection, text

from model_gateway.budget.ledger import Ledger
from model_gateway.domain.caller import Caller
from model_gateway.domain.errors import InvalidRequest, Overloaded, UnknownRequest

MAX_COMMENT_CHARACTERS = 2_000
MAX_LABELS = 16
MAX_LABEL_CHARACTERS = 256
MAX_AT_ONCE = 4
MAX_WAITING = 64

_MAX_ID_CHARACTERS = 128
_PATIENCE_S = 2.0
_LOOKS = 3  # a request's row is written a flush interval after its answer: whoever rates at once is not turned away

_OURS = text("SELECT uid FROM requests WHERE uid = :id AND request_id = :id AND tenant = :tenant AND key_name = :key")
_GIVEN = text(
    "SELECT uid FROM requests WHERE request_id = :id AND request_id <> uid AND tenant = :tenant AND key_name = :key"
    " ORDER BY started_at DESC LIMIT 1"
)
_PUT = text(
    "INSERT INTO feedback (uid, at, score, comment, labels) VALUES (:uid, :at, :score, :comment, :labels)"
    " ON CONFLICT (uid) DO UPDATE SET at = :at, score = :score, comment = :comment, labels = :labels"
)


class Rating(msgspec.Struct, frozen=True):
    """`score`: 0 (of no use) to 1 (right)."""

    request_id: str
    score: float
    comment: str = ""
    labels: dict[str, str] = {}


class Feedback:
    """`wall_clock`: epoch seconds; `flush_s`: how long a request's row may take until it is written."""

    def __init__(self, ledger: Ledger, wall_clock: Callable[[], float], flush_s: float) -> None:
        self._ledger = ledger
        self._clock = wall_clock
        self._flush_s = flush_s
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._waiting = 0

    async def give(self, rating: Rating, caller: Caller) -> None:
        """Raises InvalidRequest, UnknownRequest, or Overloaded where it cannot be written now."""
        check(rating)
        if self._waiting >= MAX_WAITING:
            raise Overloaded("too much feedback at once", retry_after_s=1)
        self._waiting += 1
        try:
            async with self._places:
                await self._put(rating, caller)
        except OSError as error:
            raise Overloaded(
                "the ledger's database does not answer: send the feedback again",
                retry_after_s=5,
                logged=f"no feedback: {error}",
            ) from None
        finally:
            self._waiting -= 1

    async def _put(self, rating: Rating, caller: Caller) -> None:
        if not self._ledger.reachable:
            raise OSError("the database has not answered")
        for look in range(_LOOKS):
            if look:
                await asyncio.sleep(self._flush_s)
            if await asyncio.to_thread(self._ledger.run, lambda c: put(c, rating, caller, self._clock()), _PATIENCE_S):
                return
        raise UnknownRequest(
            f"no request of this key has the id `{rating.request_id}`: send the x-request-id of its answer",
            param="request_id",
            logged="feedback on a request that this key has not made",
        )


def put(connection: Connection, rating: Rating, caller: Caller, now: float) -> bool:
    """Within the caller's transaction. False: no such request."""
    mine = {"id": rating.request_id, "tenant": caller.tenant, "key": caller.key_name}
    uid = connection.execute(_OURS, mine).scalar() or connection.execute(_GIVEN, mine).scalar()
    if uid is None:
        return False
    labels = msgspec.json.encode(rating.labels).decode()
    values = {"uid": uid, "at": now, "score": rating.score, "comment": rating.comment, "labels": labels}
    connection.execute(_PUT, values)
    return True


def check(rating: Rating) -> None:
    """Raises InvalidRequest that names the field."""
    if not rating.request_id or len(rating.request_id) > _MAX_ID_CHARACTERS or not rating.request_id.isprintable():
        raise InvalidRequest("`request_id` must be the x-request-id of an answer", param="request_id")
    if not 0 <= rating.score <= 1:  # a NaN is not
        raise InvalidRequest("`score` must be a number from 0 to 1", param="score")
    if len(rating.comment) > MAX_COMMENT_CHARACTERS:
        raise InvalidRequest(f"`comment` may have {MAX_COMMENT_CHARACTERS} characters", param="comment")
    if len(rating.labels) > MAX_LABELS:
        raise InvalidRequest(f"at most {MAX_LABELS} `labels`", param="labels")
    for name, value in rating.labels.items():
        if not name or max(len(name), len(value)) > MAX_LABEL_CHARACTERS:
            raise InvalidRequest(
                f"names and values of `labels` have 1 to {MAX_LABEL_CHARACTERS} characters", param="labels"
            )
    for word, field in ((rating.comment, "comment"), *((f"{k}{v}", "labels") for k, v in rating.labels.items())):
        if "\0" in word or any("\ud800" <= c <= "\udfff" for c in word):
            raise InvalidRequest(f"`{field}` must be text without NUL or halves of characters", param=field)
