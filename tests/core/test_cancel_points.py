"""A settlement and a credit, cut at every single step: by cancellation, and by a crash without clean-up."""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.core.config import CoreConfig
from settlement_core.testing.stepping import every_cancel_point
from settlement_core.values.amounts import total
from settlement_core.values.events import CreditAcknowledged, SettlementInDoubt, SettlementRecorded
from tests.core.stores import LoneRedis
from tests.core.worlds import D, FakeConnector, MemoryLedger, MinimalEngine, VerifiableEngine, World, until


async def live(world: World) -> None:
    """Ask for 10, be paid 3, and wait until both are dealt with; repeated, it is the same request and payment."""
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await world.services[-1].credit_settlement("alice", D(3), "tx")
        await until(
            lambda: (
                world.account().incoming.settled == 3
                and world.account().outgoing.settled + world.account().outgoing.parked == 10
                and core.statistics().active_lanes == 0
            ),
            every_s=2.0,
        )


pytestmark = pytest.mark.slow


def every_cut(backend: str, make_world: Callable[[], World], check: Callable[[World], None], *, crash: bool) -> int:
    """Cut a life at every step, on Redis at every few unless told otherwise; check the world after a second life."""
    survivors = World.crashed if crash else None
    stride = int(os.environ.get("CANCEL_STRIDE", "5")) if isinstance(make_world().store, LoneRedis) else 1
    cuts = every_cancel_point(live, world=make_world, check=check, survivors=survivors, backend=backend, stride=stride)
    return cuts * stride


@pytest.mark.parametrize("crash", [False, True], ids=["cancelled", "crashed"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("final_after_s", [0.0, 30.0])
def test_a_verifiable_settlement_cut_anywhere_is_paid_once(backend: str, crash: bool, final_after_s: float) -> None:
    """Whatever the step, the ledger has the 10 once and the connector the 3 once, and nobody is asked."""

    def check(world: World) -> None:
        assert world.engine.ledger.total() == 10
        assert len(world.engine.ledger.transactions) == 1
        assert world.account().outgoing.settled == 10
        assert world.connector.total() == 3
        assert world.account().incoming.settled == 3

    def make_world() -> World:
        config = CoreConfig(shutdown_s=1)
        return World(VerifiableEngine(MemoryLedger(final_after_s=final_after_s)), config=config)

    assert every_cut(backend, make_world, check, crash=crash) > 20


@pytest.mark.parametrize("crash", [False, True], ids=["cancelled", "crashed"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_minimal_settlement_cut_anywhere_is_paid_at_most_once(backend: str, crash: bool) -> None:
    """Paid and in doubt never make more than was asked, and whatever was paid is settled or in doubt."""
    outcomes: set[tuple[Decimal, Decimal, Decimal]] = set()

    class Paying(MinimalEngine):
        """Has paid as soon as it is called, and takes some steps to answer."""

        async def settle(self, account_id: str, amount: Decimal) -> Any:
            self.paid.append(amount)
            for _ in range(3):
                await anyio.sleep(0.5)
            return amount

    def check(world: World) -> None:
        books = world.account().outgoing
        paid = sum(world.engine.paid, D(0))
        assert books.settled <= paid <= books.settled + books.parked
        assert books.settled + books.parked == 10
        assert paid <= 10
        assert world.connector.total() == 3
        outcomes.add((paid, books.settled, books.parked))

    assert every_cut(backend, lambda: World(Paying(), config=CoreConfig(shutdown_s=1)), check, crash=crash) > 20
    assert (D(10), D(10), D(0)) in outcomes, "some cuts do no harm at all"
    assert (D(10), D(0), D(10)) in outcomes, "a cut within settle leaves the amount in doubt"
    if not crash:
        assert all(paid == 10 for paid, _, _ in outcomes), "a cancellation never leaves unpaid money in doubt"


@pytest.mark.parametrize("crash", [False, True], ids=["cancelled", "crashed"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_credit_cut_anywhere_is_credited_once_under_one_key(backend: str, crash: bool) -> None:
    """A slow connector is cut before, in and after its answer."""

    def check(world: World) -> None:
        assert world.connector.total() == 3
        assert len({key for _, _, key, _ in world.connector.offers if key}) == 1

    def make_world() -> World:
        return World(MinimalEngine(), connector=FakeConnector(takes_s=0.5), config=CoreConfig(shutdown_s=0.1))

    assert every_cut(backend, make_world, check, crash=crash) > 20


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("verifiable", [True, False], ids=["verifiable", "minimal"])
def test_what_observers_are_told_adds_up_wherever_a_life_is_cut(backend: str, *, verifiable: bool) -> None:
    """Between a record and the telling of it there is nothing to cut: what is in the books was told, once."""

    def check(world: World) -> None:
        outgoing, incoming = world.account().outgoing, world.account().incoming
        assert total(event.amount for event in world.ears.of(SettlementRecorded)) == outgoing.settled
        assert total(event.amount for event in world.ears.of(SettlementInDoubt)) == outgoing.parked
        assert total(event.amount for event in world.ears.of(CreditAcknowledged)) == incoming.settled == 3
        assert outgoing.settled + outgoing.parked == 10

    def make_world() -> World:
        return World(VerifiableEngine(MemoryLedger()) if verifiable else MinimalEngine())

    assert every_cut(backend, make_world, check, crash=False) > 20
