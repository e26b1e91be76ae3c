"""Accounts at which the connector hangs, or fails, hold up themselves and nobody else."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.abc import Acknowledged, CreditOutcome, Unanswered
from settlement_core.core import admission, crediting, outages
from settlement_core.core.config import CoreConfig
from settlement_core.core.crediting import Turns
from settlement_core.values.commands import Enqueue, OpenAccount
from settlement_core.values.errors import SettlementFailed
from settlement_core.values.records import Direction
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until

pytestmark = pytest.mark.anyio


@dataclass
class HangingConnector(FakeConnector):
    """Answers within a millisecond; for some accounts it never does, for 30 s, or is busy."""

    hangs: set[str] = field(default_factory=set)
    busy: dict[str, Unanswered] = field(default_factory=dict)
    tried: dict[str, list[float]] = field(default_factory=dict)
    at_once: int = 0
    most_at_once: int = 0

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Answer, or not."""
        self.tried.setdefault(account_id, []).append(anyio.current_time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await anyio.sleep(30 if account_id in self.hangs else 0.001)
        finally:
            self.at_once -= 1
        if account_id in self.hangs:
            return Unanswered("no answer within 30 s")
        return self.busy.get(account_id) or Acknowledged()


def make_world(connector: HangingConnector) -> World:
    """Return a world with that connector."""
    return World(MinimalEngine(), connector=connector)


async def pay_all(world: World, core: Any, accounts: list[str]) -> None:
    """Have each account's peer pay one."""
    for account_id in accounts:
        await core.create_account(account_id)
    for account_id in accounts:
        await world.services[0].credit_settlement(account_id, D(1), f"from {account_id}")


@pytest.mark.parametrize(("hanging", "healthy"), [(8, 100), (20, 100), (100, 400)])
async def test_a_fifth_of_all_accounts_that_hang_delay_the_others_by_seconds(hanging: int, healthy: int) -> None:
    """Whatever comes first: an offer that takes long gives its place to another account."""
    stuck = [f"hanging{number}" for number in range(hanging)]
    well = [f"healthy{number}" for number in range(healthy)]
    world = make_world(HangingConnector(hangs=set(stuck)))
    async with world.core() as core:
        began = anyio.current_time()
        await pay_all(world, core, stuck + well)
        await until(lambda: all(world.account(one).incoming.settled == 1 for one in well), within_s=600)
        # until the first is answered nobody knows how long offers usually take
        unknown_s = crediting.SLOW_TIMES * crediting.USUAL_S
        assert anyio.current_time() - began < 1 + (hanging / crediting.AT_ONCE + 1) * unknown_s
        # and later, when it is known which accounts hang
        began = anyio.current_time()
        for one in well:
            await world.services[0].credit_settlement(one, D(1), f"again from {one}")
        await until(lambda: all(world.account(one).incoming.settled == 2 for one in well), within_s=600)
        assert anyio.current_time() - began < 3


async def test_two_offers_of_a_credit_are_never_more_than_an_hour_apart() -> None:
    """Two thousand accounts at a connector that takes requests and never answers: each is tried every hour."""
    stuck = [f"hanging{number}" for number in range(2000)]
    connector = HangingConnector(hangs=set(stuck))
    world = make_world(connector)
    async with world.core() as core:
        await pay_all(world, core, stuck)
        await anyio.sleep(4 * 3600)
        # those that were just given up are still ending
        ending = crediting.AT_ONCE
        assert connector.most_at_once <= crediting.SLOW_AT_ONCE + crediting.RETRIES_AT_ONCE + crediting.AT_ONCE + ending
    for offers in connector.tried.values():
        times = [0.0, *offers, 4 * 3600.0]
        assert max(after - before for before, after in itertools.pairwise(times)) <= 3600


async def test_the_connectors_retry_after_is_obeyed() -> None:
    """It says 503 with a time: the credit is offered again after it, however short the back-off is."""
    connector = HangingConnector(busy={"alice": Unanswered("503", retry_after_s=120.0)})
    world = make_world(connector)
    async with world.core() as core:
        await pay_all(world, core, ["alice"])
        await anyio.sleep(300)
    first, second, *_ = connector.tried["alice"]
    assert 120 <= second - first < 121


async def test_more_than_an_hour_of_retry_after_is_not_obeyed() -> None:
    """Tries are never more than an hour apart (RFC 38, "Retry behavior")."""
    connector = HangingConnector(busy={"alice": Unanswered("503", retry_after_s=1e9)})
    world = make_world(connector)
    async with world.core() as core:
        await pay_all(world, core, ["alice"])
        await anyio.sleep(7300)
    assert len(connector.tried["alice"]) == 3


async def test_the_oldest_of_too_many_slow_offers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place left, and after some seconds only; as after a timeout the credit is offered again."""
    monkeypatch.setattr(crediting, "SLOW_AT_ONCE", 2)
    stuck = [f"hanging{number}" for number in range(12)]
    connector = HangingConnector(hangs=set(stuck))
    world = make_world(connector)
    async with world.core() as core:
        await pay_all(world, core, [*stuck, "alice"])
        await until(lambda: world.account("alice").incoming.settled == 1, within_s=60)
        assert anyio.current_time() - connector.tried["hanging0"][0] < 15
        connector.hangs.clear()
        await until(lambda: all(world.account(one).incoming.settled == 1 for one in stuck), within_s=300)


async def test_turns_are_given_back_whoever_is_cancelled() -> None:
    """A waiter that is cancelled takes no place with it."""
    turns = Turns()
    held = [await turns.begin(retry=False)]
    with anyio.move_on_after(0.001):
        await turns.begin(retry=False)
    turns.end(held[0], answered=True)
    with anyio.fail_after(0.001):
        turns.end(await turns.begin(retry=False), answered=True)


async def test_lanes_that_hang_hold_up_no_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier run left more hanging accounts than are looked at together: all others are paid within seconds."""
    monkeypatch.setattr(admission, "AT_ONCE", 5)

    class Hanging(MinimalEngine):
        async def settle(self, account_id: str, amount: Decimal) -> Decimal:
            if account_id.startswith("hanging"):
                await anyio.sleep_forever()
            return await super().settle(account_id, amount)

    world = World(Hanging(), config=CoreConfig(shutdown_s=0.1))
    names = [f"hanging{number}" for number in range(12)] + [f"well{number}" for number in range(12)]
    for name in names:
        debt = Enqueue(account_id=name, direction=Direction.OUTGOING, entry_id="old", amount=D(1), at=0.0)
        world.store.apply([OpenAccount(account_id=name, at=0.0), debt])
    async with world.core() as core:
        await until(lambda: all(world.account(f"well{n}").outgoing.settled == 1 for n in range(12)), within_s=10)
        await until(lambda: core.statistics().recovered, within_s=10)


@pytest.mark.parametrize("accounts", [2, 300])
async def test_after_an_outage_all_are_tried_again_within_two_minutes(accounts: int) -> None:
    """It was long, so that all back-offs have grown to an hour. Then one comes through, and all follow."""
    names = [f"peer{number}" for number in range(accounts)]
    away = Unanswered("502")
    connector = HangingConnector(busy=dict.fromkeys(names, away))
    world = make_world(connector)
    async with world.core() as core:
        await pay_all(world, core, names)
        await anyio.sleep(6 * 3600 + 1800)
        connector.busy.clear()
        core.try_settlement(names[0])
        await until(lambda: all(world.account(one).incoming.settled == 1 for one in names), within_s=120)


async def test_payments_follow_when_the_ledger_is_back() -> None:
    """The same for the other direction."""

    class Away(MinimalEngine):
        away = True

        async def settle(self, account_id: str, amount: Decimal) -> Decimal:
            if self.away:
                raise SettlementFailed("the ledger is away")
            return await super().settle(account_id, amount)

    engine = Away()
    world = World(engine)
    names = [f"peer{number}" for number in range(50)]
    async with world.core() as core:
        for name in names:
            await core.create_account(name)
            await core.request_settlement(name, D(1), "key")
        await anyio.sleep(6 * 3600 + 1800)
        engine.away = False
        await core.create_account("new")
        await core.request_settlement("new", D(1), "key")
        await until(lambda: all(world.account(one).outgoing.settled == 1 for one in names), within_s=120)


async def test_an_account_that_fails_alone_is_tried_early_ever_more_rarely() -> None:
    """Others succeed all the time, which says nothing for this one: its tries soon are an hour apart again."""
    connector = HangingConnector(busy={"alone": Unanswered("500")})
    world = make_world(connector)
    async with world.core() as core:
        await pay_all(world, core, ["alone", "well"])
        for number in range(8 * 3600 // 20):
            await anyio.sleep(20)
            await world.services[0].credit_settlement("well", D(1), f"payment {number}")
    usual = 13 + 8
    assert len(connector.tried["alone"]) < usual + 12


async def test_a_connector_that_falls_over_again_is_left_alone() -> None:
    """One credit came through by chance: after some failures in a row the other accounts go on waiting."""
    names = [f"peer{number}" for number in range(300)]
    connector = HangingConnector(busy=dict.fromkeys(names, Unanswered("502")))
    world = make_world(connector)
    async with world.core() as core:
        await pay_all(world, core, names)
        await anyio.sleep(6 * 3600 + 1800)
        del connector.busy[names[0]]
        before = sum(map(len, connector.tried.values()))
        core.try_settlement(names[0])
        await anyio.sleep(120)
        assert sum(map(len, connector.tried.values())) - before < 2 * outages.RELAPSE + 10
