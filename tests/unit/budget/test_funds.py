"""Money is held once, settled once and never overdrawn, whatever comes in between; on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

from sqlalchemy import Engine, text

from model_gateway.budget import funds
from model_gateway.budget.funds import Charge, Claim, Verdict


def charge(account: str = "key:a", limit: int | None = 100) -> Charge:
    return Charge(account, "2026-11", limit, f"budget of {account}")


def claim(uid: str, amount: int = 40, least: int | None = None, *must: Charge, targets: object = ()) -> Claim:
    return Claim(uid, amount, amount if least is None else least, 1e12, must or (charge(),), targets)  # pyright: ignore[reportArgumentType]


def take(engine: Engine, wanted: Claim, *, last: bool = False) -> Verdict:
    with engine.begin() as connection:
        return funds.take(connection, wanted, last=last)


def settle(engine: Engine, uid: str, cost: int, provider: str = "p", model: str = "m") -> None:
    with engine.begin() as connection:
        funds.settle(connection, uid, provider, model, cost)


def balance(engine: Engine, account: str = "key:a") -> tuple[int, int]:
    with engine.begin() as connection:
        return funds.balance(connection, account, "2026-11")


def test_what_is_held_is_not_given_twice_and_comes_back(engine: Engine) -> None:
    assert take(engine, claim("1")).granted_nano == 40
    assert take(engine, claim("2")).granted_nano == 40
    third = take(engine, claim("3"))
    assert (third.granted_nano, third.waiting, third.left_nano) == (0, True, 100)
    settle(engine, "1", 10)
    assert take(engine, claim("3")).granted_nano == 40
    settle(engine, "2", 30)
    settle(engine, "3", 40)
    assert balance(engine) == (80, 0)
    refused = take(engine, claim("4"))
    assert (refused.granted_nano, refused.waiting, refused.left_nano) == (0, False, 20)
    assert refused.refused == charge()


def test_settling_twice_books_once(engine: Engine) -> None:
    take(engine, claim("1"))
    for _ in range(3):
        settle(engine, "1", 25)
    assert balance(engine) == (25, 0)


def test_the_last_money_is_given_in_part_to_who_can_use_it(engine: Engine) -> None:
    take(engine, claim("1", 70))
    assert take(engine, claim("2", 50, 10)).waiting, "others hold what they may not need"
    assert take(engine, claim("2", 50, 10), last=True).granted_nano == 30
    settle(engine, "1", 60)
    settle(engine, "2", 5)
    assert take(engine, claim("3", 50, 10)).granted_nano == 35, "nobody else holds any: no need to wait"
    settle(engine, "3", 35)
    assert take(engine, claim("4", 50, 10)).granted_nano == 0
    assert balance(engine) == (100, 0)


def test_one_account_that_is_short_leaves_the_others_as_they_were(engine: Engine) -> None:
    team, gateway = charge("team:x", 30), charge("gateway", 1000)
    assert not take(engine, claim("1", 40, None, charge(), team, gateway)).granted_nano
    assert (balance(engine), balance(engine, "team:x"), balance(engine, "gateway")) == ((0, 0), (0, 0), (0, 0))
    assert take(engine, claim("1", 30, None, charge(), team, gateway)).granted_nano == 30
    settle(engine, "1", 12)
    assert (balance(engine), balance(engine, "team:x"), balance(engine, "gateway")) == ((12, 0), (12, 0), (12, 0))


def test_a_target_without_money_is_left_out_and_only_who_answered_pays(engine: Engine) -> None:
    poor, rich = charge("provider:poor", 10), charge("provider:rich", 500)
    verdict = take(engine, claim("1", 40, None, charge(), targets=[[poor], [rich], []]))
    assert (verdict.granted_nano, list(verdict.targets)) == (40, [False, True, True])
    settle(engine, "1", 7, provider="elsewhere")
    assert (balance(engine), balance(engine, "provider:rich")) == ((7, 0), (0, 0))
    take(engine, claim("2", 40, None, charge(), targets=[[rich]]))
    settle(engine, "2", 8, provider="rich")
    assert (balance(engine), balance(engine, "provider:rich")) == ((15, 0), (8, 0))
    nobody = take(engine, claim("3", 40, None, charge(), targets=[[poor], [poor]]))
    assert (nobody.granted_nano, nobody.refused) == (0, poor)
    assert balance(engine) == (15, 0)


def test_a_soft_limit_only_counts(engine: Engine) -> None:
    assert take(engine, claim("1", 10**15, None, charge(limit=None))).granted_nano == 10**15
    settle(engine, "1", 7)
    assert balance(engine) == (7, 0)


def test_what_a_dead_owner_held_is_spent(engine: Engine) -> None:
    take(engine, Claim("dead", 40, 40, 100.0, (charge(),)))
    take(engine, Claim("alive", 40, 40, 300.0, (charge(),)))
    with engine.begin() as connection:
        assert list(funds.expired(connection, 200.0)) == ["dead"]
        assert funds.forfeit(connection, "dead") == 40
        assert funds.forfeit(connection, "dead") == 0
    assert balance(engine) == (40, 40)


def test_many_at_once_never_spend_more_than_there_is(engine: Engine) -> None:
    """Eight threads, two accounts each in another order, until the money is gone."""
    limit = 10_000
    accounts = [charge("team:x", limit), charge("key:a", limit), charge("key:b", limit)]
    spent = [0]
    lock = threading.Lock()

    def caller(seed: int) -> None:
        chance = Random(seed)
        for number in range(40):
            uid = f"{seed}-{number}"
            must = chance.sample(accounts, 2)
            if accounts[0] not in must:
                must.append(accounts[0])
            amount = chance.randrange(1, 200)
            if take(engine, claim(uid, amount, None, *must)).granted_nano:
                cost = chance.randrange(amount + 1)
                settle(engine, uid, cost)
                with lock:
                    spent[0] += cost

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(caller, range(8)))
    assert balance(engine, "team:x") == (spent[0], 0)
    assert spent[0] <= limit
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM holds")).scalar() == 0
