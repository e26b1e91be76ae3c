"""Accounts at which the connector hangs, or fails, hold up themselves and nobody else."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.abc import Acknowledged, CreditOutcome, Unanswered
from settlement_core.core import crediting
from settlement_core.core.crediting import Turns
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until

pytestmark = pytest.mark.anyio


@dataclass
class HangingConnector(FakeConnector):
    """Answers within a millisecond; for some accounts it never does, for 30 s, or is busy."""

    hangs: set[str] = field(default_factory=set)
    busy: dict[str, Unanswered] = field(default_factory=dict)
    offers: dict[str, list[float]] = field(default_factory=dict)
    at_once: int = 0
    most_at_once: int = 0

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Answer, or not."""
        self.offers.setdefault(account_id, []).append(anyio.current_time())
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
    for offers in connector.offers.values():
        times = [0.0, *offers, 4 * 3600.0]
        assert max(after - before for before, after in itertools.pairwise(times)) <= 3600


async def test_the_connectors_retry_after_is_obeyed() -> None:
    """It says 503 with a time: the credit is offered again after it, however short the back-off is."""
    connector = HangingConnector(busy={"alice": Unanswered("503", retry_after_s=120.0)})
    world = make_world(connector)
    async with world.core() as core:
        await pay_all(world, core, ["alice"])
        await anyio.sleep(300)
    first, second, *_ = connector.offers["alice"]
    assert 120 <= second - first < 121


async def test_more_than_an_hour_of_retry_after_is_not_obeyed() -> None:
    """Tries are never more than an hour apart (RFC 38, "Retry behavior")."""
    connector = HangingConnector(busy={"alice": Unanswered("503", retry_after_s=1e9)})
    world = make_world(connector)
    async with world.core() as core:
        await pay_all(world, core, ["alice"])
        await anyio.sleep(7300)
    assert len(connector.offers["alice"]) == 3


async def test_the_oldest_of_too_many_slow_offers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place left, and after some seconds only; as after a timeout the credit is offered again."""
    monkeypatch.setattr(crediting, "SLOW_AT_ONCE", 2)
    stuck = [f"hanging{number}" for number in range(12)]
    connector = HangingConnector(hangs=set(stuck))
    world = make_world(connector)
    async with world.core() as core:
        await pay_all(world, core, [*stuck, "alice"])
        await until(lambda: world.account("alice").incoming.settled == 1, within_s=60)
        assert anyio.current_time() - connector.offers["hanging0"][0] < 15
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
