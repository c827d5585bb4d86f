"""Batches of rows: each stored once with all its values, and paid by whom it concerns; SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, select, text

from model_gateway.budget import booking, funds, leasing, rows
from model_gateway.budget.budgets import Budgets
from model_gateway.budget.funds import Part, Place
from model_gateway.budget.leases import Change
from model_gateway.budget.ledger import Ledger
from model_gateway.config.schema import BudgetConfig, BudgetsConfig, LedgerConfig
from model_gateway.domain.record import Attempt, Record
from model_gateway.domain.route import Tier
from model_gateway.domain.usage import Usage
from model_gateway.storage.database import open_database
from model_gateway.storage.schema import requests
from postgres import emptied

NOW = 1_764_000_000.0
PERIODS = ("2025-11", "2025-11-24", "total")
LEASED = rows.leased(50)


def stored(engine: Engine) -> list[rows.Row]:
    with engine.begin() as connection:
        found = connection.execute(select(*(requests.columns[name] for name in rows.COLUMNS)).order_by(requests.c.id))
        return [tuple(row) for row in found]


def balances(engine: Engine) -> dict[Place, tuple[int, int]]:
    with engine.begin() as connection:
        return {(name, period): (spent, held) for name, period, spent, held in funds.accounts_in(connection, PERIODS)}


def odd(uid: str) -> Record:
    return Record(
        "50% of 'it' \"\\\\\" \\u0041 :uid %s 你好\n", "http", 0.1 + 0.2, "", "null", "true", True, "ok", "", "p",
        "m", 1e-9, uid=uid,
        tier=Tier.LOCAL, cost_nano=2**63 - 1, usage=Usage(2**62, 0, 0, 0, estimated=True), labels={"a": "😀"},
        duration_s=1 / 3, attempts=[Attempt("p", "m"), Attempt("q", "m")],
    )  # fmt: skip


def test_every_value_is_stored_as_it_is(engine: Engine) -> None:
    found = [rows.row_of(record) for record in (odd("1"), Record("", "grpc", 1e9, uid="2"), odd("3"))]
    with engine.begin() as connection:
        assert rows.insert(connection, found) == 3
    assert stored(engine) == found


def test_a_row_is_new_once(engine: Engine) -> None:
    one, two, three = (rows.row_of(Record(uid, "http", NOW, uid=uid)) for uid in "123")
    with engine.begin() as connection:
        assert rows.insert(connection, []) == 0
        assert rows.insert(connection, [two, two]) == 1
        assert rows.insert(connection, [one, two, three]) == 2
        assert rows.insert(connection, [one, two, three]) == 0
    assert [row[rows.UID] for row in stored(engine)] == ["2", "1", "3"]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_odd_values_are_made_to_fit_and_hold_up_nobody(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = SecretStr(emptied(request.getfixturevalue("postgres"))) if database == "postgresql" else None
    config = LedgerConfig(path=str(tmp_path / "ledger.db"), url=url)
    ledger = Ledger(config)
    ledger.start()
    ledger.append(Record("before", "http", NOW))
    ledger.append(Record("NUL \0", "http", NOW, cost_nano=2**70))
    ledger.append(Record("half \ud800", "http", NOW))
    ledger.append(Record("nan", "http", float("nan")))
    ledger.append(Record("after", "http", NOW))
    assert ledger.close() == 0
    assert (ledger.dropped, ledger.pending) == (1, 0)
    engine = open_database(config)
    assert [row[1] for row in stored(engine)] == ["before", "NUL ?", "half ?", "after"]
    engine.dispose()


class Dice:
    """Rows of several keys, some of which have budgets of their own, providers and days."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        limits = (
            BudgetConfig(name="all", usd=1, per="month"),
            BudgetConfig(name="team", usd=1, per="day", scope="team", match="red"),
            BudgetConfig(name="provider", usd=1, per="total", scope="provider"),
        )
        self.budgets = Budgets(BudgetsConfig(limits=limits))
        self.known: dict[Place, int] = {}

    def row(self) -> rows.Row:
        pick = self._random.choice
        hold = pick((LEASED, LEASED, rows.UNHELD))
        record = Record(
            "r", "http", NOW + pick((0.0, 1.0, 86_400.0)), pick(("red", "blue")), pick("abcdefgh"), hold_nano=hold
        )
        record.provider, record.model, record.cost_nano = pick("pq"), "m", pick((0, 5, 30))
        if record.cost_nano and self._random.random() < 0.3:
            parts = record.cost_nano - 1, 1
            record.attempts = [Attempt(name, "m", cost_nano=cost) for name, cost in zip("pq", parts, strict=True)]
        row = rows.row_of(record)
        self._note(record)
        return row

    def _note(self, record: Record) -> None:
        """The same by hand: what each account has to pay of this row."""
        cost, day = record.cost_nano, "2025-11-24" if record.started_at < NOW + 86_000 else "2025-11-25"
        paid = {each.provider: each.cost_nano for each in record.attempts} or {record.provider: cost}
        due = {("gateway", "2025-11"): cost, **{(f"provider:{name}", "total"): part for name, part in paid.items()}}
        if record.tenant == "red":
            due["team:red", day] = cost
        if record.key_name == "a":
            due["key:a", "2025-11"] = due["key:a", "total"] = cost
        for place, part in due.items():
            self.known[place] = self.known.get(place, 0) + part


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_in_a_batch_every_account_pays_its_part(engine: Engine, seed: int) -> None:
    dice, random = Dice(seed), Random(seed)
    lease = [Change(("gateway", "2025-11"), 200, 10**9), Change(("provider:p", "total"), 50, 10**9)]
    with engine.begin() as connection:
        funds.spend(connection, [Part(("key:a", period), 0, opened=True) for period in ("2025-11", "total")])
    for _ in range(25):
        with engine.begin() as connection:
            for change in lease:
                assert leasing.more(connection, "lease:a", change, NOW)
        batch = [dice.row() for _ in range(random.choice((1, 1, 2, 7)))]
        for _ in range(2):  # a batch that is repeated changes nothing
            booking.store(engine, batch, dice.budgets.book, "lease:a")
    with engine.begin() as connection:
        found = connection.execute(text("SELECT account, period, spent_nano FROM accounts")).all()
        leasing.end(connection, "lease:a")
    assert {(account, period): spent for account, period, spent in found} == dice.known
    assert {held for _, held in balances(engine).values()} == {0}


def test_who_pays_for_many_rows_is_who_pays_for_each() -> None:
    dice = Dice(7)
    found = [dice.row() for _ in range(200)]
    sums: dict[Place, tuple[int, bool]] = {}
    for row in found:
        for place, cost, opened in dice.budgets.book([row]):
            known = sums.get(place, (0, False))
            sums[place] = known[0] + cost, known[1] or opened
    together: Sequence[Part] = dice.budgets.book(found)
    assert len(together) == len({part.place for part in together})
    assert {part.place: (part.cost_nano, part.opened) for part in together} == sums
    assert dice.budgets.book([]) == ()
