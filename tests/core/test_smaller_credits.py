"""A connector that credits less than it is offered: what it credited is booked, the rest waits until it can go."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

import anyio
import pytest

from settlement_core.abc import Acknowledged, CreditOutcome
from settlement_core.core.config import CoreConfig
from settlement_core.values.amounts import floor
from settlement_core.values.events import CreditAcknowledged, CreditedLess
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until

pytestmark = pytest.mark.anyio


@dataclass
class Flooring(FakeConnector):
    """Counts every account with this scale, drops what is finer, and answers with what it credited."""

    scale: int = 6

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Credit the floored amount."""
        credited = floor(amount, self.scale)
        answer = await super().credit(account_id, amount, idempotency_key)
        self.credited[f"{account_id} {idempotency_key}"] = credited
        return Acknowledged(credited, self.scale) if credited < amount else answer


def make_world(connector: FakeConnector, **config: Any) -> World:
    """Return a world with this connector."""
    return World(MinimalEngine(), connector=connector, config=CoreConfig(**config))


async def test_only_what_the_connector_says_it_credited_is_booked_and_the_rest_waits_until_it_adds_up() -> None:
    """Of 0.001234567 a connector of scale 6 credits 0.001234; the rest is not offered again before it is a unit."""
    world = make_world(Flooring())
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D("0.001234567"), "a")
        await until(lambda: world.account().incoming.settled == D("0.001234"))
        await anyio.sleep(100_000)
        assert world.account().incoming.queued == D("0.000000567")
        assert len(world.connector.offers) == 1
        await world.services[0].credit_settlement("alice", D("0.000000432"), "b")
        await anyio.sleep(100_000)
        assert len(world.connector.offers) == 1
        await world.services[0].credit_settlement("alice", D("0.000000001"), "c")
        await until(lambda: world.account().incoming.settled == D("0.001235"))
        await world.services[0].credit_settlement("alice", D("1.0000009"), "d")
        await until(lambda: world.account().incoming.settled == D("1.001235"))
    assert world.connector.total() == D("1.001235")
    assert world.account().incoming.queued == D("0.0000009")
    assert sum(event.amount for event in world.ears.of(CreditAcknowledged)) == D("1.001235")


async def test_one_warning_per_account_names_the_setting() -> None:
    """However often, and also when a connector turns out to be coarser still; every account has its own."""
    world = make_world(Flooring())
    async with world.core() as core:
        for account_id in ("alice", "bob"):
            await core.create_account(account_id)
            for number in range(3):
                world.connector.scale = 6 - number  # type: ignore[attr-defined]
                await world.services[0].credit_settlement(account_id, D("1.123456789"), str(number))
                await until(lambda: not core.lanes())
    told = world.ears.of(CreditedLess)
    assert [event.account_id for event in told] == ["alice", "bob"]
    assert "credited 1.123456 of 1.123456789" in str(told[0])
    assert str(told[0]).endswith("set --connector-scale 6")
    assert world.connector.total() == world.account("alice").incoming.settled + world.account("bob").incoming.settled


async def test_a_credit_of_which_nothing_was_credited_does_not_spin() -> None:
    """Half a unit of a connector of scale 0 waits for the other half."""
    world = make_world(Flooring(scale=0))
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D("0.5"), "a")
        await anyio.sleep(100_000)
        assert len(world.connector.offers) == 1
        assert world.account().incoming.queued == D("0.5")
        await world.services[0].credit_settlement("alice", D("0.5"), "b")
        await until(lambda: world.account().incoming.settled == 1)
    assert len(world.connector.offers) == 2


@pytest.mark.parametrize("credited", [D(0), D(1)])
async def test_what_no_scale_explains_is_offered_again_only_after_a_back_off(credited: Decimal) -> None:
    """Of 5 a connector credits 0, or 1: the rest is offered after 0.5 s, and later and later if nothing is credited."""
    world = make_world(FakeConnector([Acknowledged(credited, 0)] * 3))
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(5), "a")
        await until(lambda: world.account().incoming.settled == 5)
    gaps = [round(b - a, 6) for (a, *_), (b, *_) in pairwise(world.connector.offers)]
    assert gaps == ([0.5, 0.5, 0.5] if credited else [0.5, 1, 2])
    assert len({key for _, _, key, _ in world.connector.offers}) == 4
    assert not world.ears.of(CreditedLess)


@pytest.mark.parametrize("credited", [D("5.01"), D(-1), D("NaN"), 1.5])
async def test_a_connector_that_credits_the_impossible_halts_the_account(credited: Any) -> None:
    """More than it was offered, or no amount: nothing is recorded, and the attempt stays open."""
    world = make_world(FakeConnector([Acknowledged(credited, 2)]))
    async with world.core() as core:
        await core.create_account("alice")
        await world.services[0].credit_settlement("alice", D(5), "a")
        await until(lambda: bool(core.statistics().halted))
        assert "the connector broke its contract" in core.statistics().halted["alice incoming"]
    assert world.account().incoming.open == 5
