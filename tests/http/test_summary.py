"""The first look: its figures are the audit's; accounts are found by their names, or by having something to do."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.abc import Refused, Unanswered
from settlement_core.http.admin import create_admin_app
from settlement_core.observers.activity import Activity
from settlement_core.values.amounts import total
from settlement_core.values.commands import History, OpenAccount, Pause, Resolve
from settlement_core.values.errors import SettlementFailed, StoreUnavailable
from settlement_core.values.records import Entry
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until
from tests.http.asgi import Client

pytestmark = pytest.mark.anyio


async def _lose_sight(_amount: Decimal) -> Decimal:
    raise ConnectionError("no answer from the ledger")


def numbers(sums: dict[str, str]) -> dict[str, Decimal]:
    """Return sums as numbers, by the audit's names."""
    return {("parked" if name in {"in_doubt", "held"} else name): Decimal(text) for name, text in sums.items()}


async def test_the_figures_are_those_of_the_audit() -> None:
    """To the digit, with money settled, in doubt, held, on its way, queued and without an owner, on three accounts."""
    connector = FakeConnector([Refused("409 what is this?"), *[Unanswered("gone") for _ in range(50)]])
    world = World(MinimalEngine(script=[_lose_sight]), connector=connector)
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        for name in ("alice", "bob", "carol"):
            await core.create_account(name)
        await core.request_settlement("alice", D("0.000000000000000001"), "a")
        await until(lambda: world.account().outgoing.parked > 0)
        await core.request_settlement("bob", D("98765432109876543210.5"), "b")
        await core.decide(Pause(account_id="carol", paused=True, reason="holidays", by="ann", at=0.0))
        await core.request_settlement("carol", D("7"), "c")
        await world.services[0].credit_settlement("alice", D(3), "d")
        await until(lambda: world.account().incoming.parked == 3)
        await world.services[0].credit_settlement("bob", D("4.25"), "e")
        await world.services[0].report_unattributed("tx 7", D(11), {"memo": "?"})
        await until(lambda: world.account("bob").outgoing.settled > 0)
        await anyio.sleep(30)
        said = (await client.request("GET", "/summary")).json()
        report = (await client.request("GET", "/audit")).json()
        assert report["ok"]
        for direction in ("outgoing", "incoming"):
            audited = numbers(report[direction])
            assert numbers(said[direction]) == {name: audited[name] for name in numbers(said[direction])}
            found = numbers(said[direction])
            assert found["entered"] == total(found[part] for part in ("queued", "open", "settled", "parked"))
        assert numbers(said["outgoing"])["entered"] == D("98765432109876543217.500000000000000001")
        waiting = said["waiting"]
        assert {kind: (lot["count"], Decimal(lot["amount"])) for kind, lot in waiting.items()} == {
            "in_doubt": (1, D("0.000000000000000001")),
            "held": (1, D(3)),
            "unattributed": (1, D(11)),
        }
        assert all(1_000_000 <= lot["since"] < 1_000_100 for lot in waiting.values())
        assert (said["accounts"], said["deleted"], said["complete"]) == (3, 0, True)
        assert said["paused"] == {"count": 1, "accounts": ["carol"]}
        assert said["unbalanced"] == {"count": 0, "accounts": []}
        assert said["under_way"]["incoming"]["count"] == 1
        (lane,) = said["retrying"]["lanes"]
        assert (lane["account_id"], lane["last_error"], lane["direction"]) == ("bob", "gone", "incoming")
        assert lane["next_try_in_s"] > 0
        assert said["halted"] == []
        assert (said["server"]["engine"], said["server"]["halted"]) == ("MinimalEngine", 0)


async def test_what_waits_and_the_sums_are_of_one_moment() -> None:
    """An operator resolves the only attempt right after the attempts were read: the sums beside it are as before."""

    class Moving:
        threaded = False

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def apply(self, commands: Any) -> Any:
            results = self.inner.apply(commands)
            if any(isinstance(command, History) for command in commands):
                self.inner.apply(
                    [Resolve(account_id="alice", attempt_id=attempt_id, settled=D(5), reason="seen", by="ann", at=0.0)]
                )
            return results

        def close(self) -> None:
            pass

    world = World(MinimalEngine(script=[_lose_sight]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: world.account().outgoing.parked == 5)
        (attempt_id,) = [attempt.attempt_id for attempt in world.attempts()]
    world.store = Moving(world.store)
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        for waiting, settled in (("5", "0"), ("0", "5")):
            said = (await client.request("GET", "/summary")).json()
            assert said["waiting"]["in_doubt"]["amount"] == said["outgoing"]["in_doubt"] == waiting
            assert said["outgoing"]["settled"] == settled


async def test_a_halted_account_is_named_with_its_reason() -> None:
    """An engine that says it settled more than it may stops that direction of that account, and it is seen."""

    async def too_much(amount: Decimal) -> Decimal:
        return amount + 1

    world = World(MinimalEngine(script=[too_much]))
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: bool(core.statistics().halted))
        said = (await client.request("GET", "/summary")).json()
    (halted,) = said["halted"]
    assert (halted["account"], halted["direction"]) == ("alice", "outgoing")
    assert "settled 6, more than the 5 it may" in halted["reason"]


async def test_money_that_is_missing_is_named() -> None:
    """A store that lost a digit is found by the sums alone."""

    class Forger:
        threaded = False

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def apply(self, commands: Any) -> Any:
            results = self.inner.apply(commands)
            for result in results:
                if isinstance(result, list) and result and getattr(result[0], "account_id", "") == "bob":
                    object.__setattr__(result[0], "outgoing", type(result[0].outgoing)(entered=D(5), settled=D(4)))
            return results

        def close(self) -> None:
            pass

    world = World(MinimalEngine())
    world.store = Forger(world.store)
    async with world.core() as core:
        await core.create_account("bob")
        said = (await Client(create_admin_app(core), core).request("GET", "/summary")).json()
    assert said["unbalanced"] == {"count": 1, "accounts": ["bob"]}


async def test_accounts_are_found_by_how_they_begin_and_by_having_something_to_do() -> None:
    """In pages that are full, laid end to end all of them and no other; the prefix itself may be an account."""
    world = World(MinimalEngine())
    names = [*(f"peer{number:03}" for number in range(120)), "peer", "peel", "pees", "Peer", "~", "a", "peer0"]
    world.store.apply([OpenAccount(account_id=name, at=0.0) for name in names])
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        for name in ("peer", "peer007", "peer119", "pees"):
            await core.decide(Pause(account_id=name, paused=True, reason="r", by="b", at=0.0))
            await core.request_settlement(name, D(1), "k")

        async def find(query: str, limit: int = 50) -> list[str]:
            found: list[str] = []
            while True:
                after = found[-1] if found else ""
                target = f"/accounts?limit={limit}&after={after}&{query}"
                page = [account["id"] for account in (await client.request("GET", target)).json()]
                found += page
                if len(page) < limit:
                    return found

        assert await find("prefix=peer") == sorted(name for name in names if name.startswith("peer"))
        assert await find("prefix=peer0", 1) == sorted(name for name in names if name.startswith("peer0"))
        assert await find("prefix=peerless") == []
        assert await find("due=true") == ["peer", "peer007", "peer119", "pees"]
        assert await find("due=true&prefix=peer", 2) == ["peer", "peer007", "peer119"]
        assert await find("due=true&prefix=peer0") == ["peer007"]
        assert await find("due=false&prefix=pees") == ["pees"]
        answer = await client.request("GET", "/accounts?due=yes")
        assert (answer.status, answer.detail()) == (400, "due is true or false")


async def test_attempts_come_newest_first_in_pages_if_asked() -> None:
    """Seven settlements of 1 to 7: from the latest back to the first."""
    world = World(MinimalEngine())
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        await core.create_account("alice")
        for amount in range(1, 8):
            await core.request_settlement("alice", D(amount), str(amount))
            await until(lambda: world.account().outgoing.queued + world.account().outgoing.open == 0)
        found: list[Any] = []
        while True:
            after = f"&after={found[-1]['id']}&after_account=alice" if found else ""
            target = f"/attempts?newest=true&limit=3{after}"
            page = (await client.request("GET", target)).json()
            found += page
            if len(page) < 3:
                break
        assert [attempt["amount"] for attempt in found] == ["7", "6", "5", "4", "3", "2", "1"]


async def test_activity_is_what_was_settled_and_who_keeps_none_says_so() -> None:
    """The sum of the points is the audit's sum; an app without an observer answers 404 with one sentence."""
    activity = Activity()
    world = World(MinimalEngine())
    world.ears.observe = activity.observe  # type: ignore[method-assign]
    async with world.core() as core:
        client = Client(create_admin_app(core, activity=activity), core)
        await core.create_account("alice")
        for amount in ("0.1", "0.2", "1000000000000000000000"):
            await core.request_settlement("alice", D(amount), amount)
        await until(lambda: world.account().outgoing.settled > 1)
        points = (await client.request("GET", "/activity?span=day")).json()["points"]
        audited = (await client.request("GET", "/audit")).json()["outgoing"]["settled"]
        assert total(Decimal(point["settled"]) for point in points) == Decimal(audited)
        answer = await client.request("GET", "/activity?span=week")
        assert (answer.status, answer.detail()) == (400, "span is one of hour, day")
        bare = Client(create_admin_app(core), core)
        for path in ("/activity", "/events", "/metrics"):
            answer = await bare.request("GET", path)
            assert answer.status == 404
            assert answer.detail().startswith("this server ")


async def test_a_look_reads_accounts_by_pages_and_no_history_of_theirs() -> None:
    """1,200 accounts cost three pages of sums, one of what is not closed, and one of unattributed money."""

    class Counting:
        threaded = False

        def __init__(self, inner: Any) -> None:
            self.inner, self.asked = inner, list[Any]()

        def apply(self, commands: Any) -> Any:
            self.asked += commands
            return self.inner.apply(commands)

        def close(self) -> None:
            pass

    world = World(MinimalEngine())
    world.store.apply([OpenAccount(account_id=f"peer-{number:04}", at=0.0) for number in range(1200)])
    store = Counting(world.store)
    world.store = store
    async with world.core() as core:
        await until(lambda: core.statistics().recovered)
        client = Client(create_admin_app(core), core)
        store.asked.clear()
        said = (await client.request("GET", "/summary")).json()
        assert said["accounts"] == 1200
        assert sorted(type(command).__name__ for command in store.asked) == [
            *("History", "Overview", "Overview", "Overview", "Suspense")
        ]


async def test_a_store_that_does_not_answer_is_the_verdict_and_figures_stay() -> None:
    """Also for who asks meanwhile; once it answers again, so is that."""

    class Failing:
        threaded = False

        def __init__(self, inner: Any) -> None:
            self.inner, self.broken = inner, False

        def apply(self, commands: Any) -> Any:
            if self.broken:
                raise StoreUnavailable("disk full")
            return self.inner.apply(commands)

        def close(self) -> None:
            pass

    world = World(MinimalEngine())
    store = Failing(world.store)
    world.store = store
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        await core.create_account("alice")
        before = (await client.request("GET", "/summary")).json()
        assert before["verdict"]["grade"] == "good"
        store.broken = True
        with anyio.move_on_after(0.5):
            await core.request_settlement("alice", D(5), "a")
        await anyio.sleep(10)
        said = (await client.request("GET", "/summary")).json()
        assert said["verdict"]["sentence"] == "money is stuck: the store does not answer"
        assert said["verdict"]["reasons"][0]["text"] == "the store does not answer: disk full"
        assert said["accounts"] == 1
        store.broken = False
        await anyio.sleep(60)
        assert (await client.request("GET", "/summary")).json()["verdict"]["grade"] == "good"


async def test_what_an_audit_found_is_the_verdict_until_the_next_one() -> None:
    """Sums of an account may balance while a row of it is wrong: only an audit finds that."""

    class Forger:
        threaded = False

        def __init__(self, inner: Any) -> None:
            self.inner, self.forges = inner, True

        def apply(self, commands: Any) -> Any:
            results = self.inner.apply(commands)
            if self.forges:
                for result in results:
                    if isinstance(result, list) and result and isinstance(result[0], Entry):
                        result[0] = replace(result[0], amount=D(6))
            return results

        def close(self) -> None:
            pass

    world = World(MinimalEngine())
    world.store = Forger(world.store)
    async with world.core() as core:
        client = Client(create_admin_app(core), core)
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: world.account().outgoing.settled == 5)
        assert (await client.request("GET", "/summary")).json()["verdict"]["grade"] == "good"
        report = (await client.request("GET", "/audit")).json()
        assert (report["ok"], report["verdict"]["grade"]) == (False, "wrong")
        assert (await client.request("GET", "/summary")).json()["verdict"] == report["verdict"]
        world.store.forges = False
        assert (await client.request("GET", "/audit")).json()["verdict"]["grade"] == "good"
        assert (await client.request("GET", "/summary")).json()["verdict"]["grade"] == "good"


async def test_ages_of_lanes_are_measured_by_the_loops_clock() -> None:
    """Failing for 15 minutes, or at work for an hour without any money moving: stuck, and not a second earlier."""

    async def no_funds(_amount: Decimal) -> Decimal:
        raise SettlementFailed("insufficient funds")

    async def hang(_amount: Decimal) -> Decimal:
        await anyio.sleep_forever()
        raise AssertionError

    cases: tuple[tuple[list[Any], float, str], ...] = (
        ([no_funds] * 1000, 900.0, "account alice: nothing was settled: insufficient funds since "),
        ([hang], 3600.0, "nothing of account alice moved for more than an hour since "),
    )
    for script, patience_s, text in cases:
        world = World(MinimalEngine(script=script))
        async with world.core() as core:
            client = Client(create_admin_app(core), core)
            await core.create_account("alice")
            await core.request_settlement("alice", D(5), "a")
            await anyio.sleep(patience_s - 2)
            assert (await client.request("GET", "/summary")).json()["verdict"]["grade"] == "good"
            await anyio.sleep(4)
            verdict = (await client.request("GET", "/summary")).json()["verdict"]
            assert verdict["grade"] == "stuck"
            assert verdict["reasons"][0]["text"].startswith(text)
