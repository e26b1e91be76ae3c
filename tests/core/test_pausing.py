"""A person pauses an account: nothing new is begun there, nothing is lost, and it goes on where it was."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest

from settlement_core.core.core import Core
from settlement_core.values.commands import Pause
from settlement_core.values.errors import UnknownAccount
from settlement_core.values.events import DecisionTaken
from tests.core.worlds import D, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio


async def pause(core: Core, *, paused: bool = True, account_id: str = "alice") -> None:
    """Decide."""
    await core.decide(Pause(account_id=account_id, paused=paused, reason="strange", by="carol", at=1.0))


async def test_a_paused_account_takes_requests_and_payments_and_deals_with_them_once_resumed() -> None:
    """For days nothing is paid or credited; then all of it is, once, and the decisions were told to observers."""
    world = World(VerifiableEngine(MemoryLedger()))
    async with world.core() as core:
        await core.create_account("alice")
        await core.create_account("bob")
        for _ in range(2):
            await pause(core)
        await core.request_settlement("alice", D(10), "key")
        await world.services[-1].credit_settlement("alice", D(3), "tx")
        await core.request_settlement("bob", D(1), "key")
        core.try_settlement("alice")
        await anyio.sleep(3 * 86_400)
        assert world.engine.ledger.total() == 1
        assert world.connector.offers == []
        books = world.account()
        assert (books.paused, books.outgoing.queued, books.incoming.queued) == (True, D(10), D(3))
        assert core.statistics().active_lanes == 0
        await pause(core, paused=False)
        await until(lambda: world.account().outgoing.settled == 10 and world.account().incoming.settled == 3)
    assert world.engine.ledger.total() == 11
    assert world.connector.total() == 3
    told = [(event.decision, event.by, event.reason) for event in world.ears.of(DecisionTaken)]
    assert told == [("pause", "carol", "strange"), ("resume", "carol", "strange")]


async def test_what_is_open_when_the_account_is_paused_goes_on_to_its_end() -> None:
    """A payment under way is paid, verified and recorded; what came meanwhile waits."""
    world = World(VerifiableEngine(MemoryLedger(final_after_s=60.0)))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "first")
        await until(lambda: world.account().outgoing.open == 10)
        await pause(core)
        await core.request_settlement("alice", D(5), "second")
        await until(lambda: world.account().outgoing.settled == 10)
        await anyio.sleep(3600.0)
        assert world.account().outgoing.queued == 5
        assert world.engine.ledger.total() == 10


async def test_a_pause_outlives_a_restart() -> None:
    """The next run begins nothing either, until somebody says so."""
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        await pause(core)
        await core.request_settlement("alice", D(10), "key")
    async with world.core() as core:
        await anyio.sleep(3600.0)
        assert world.engine.paid == []
        await pause(core, paused=False)
        await until(lambda: world.account().outgoing.settled == 10)
    assert sum(world.engine.paid, Decimal(0)) == 10


async def test_a_failing_payment_stops_being_tried_once_the_account_is_paused() -> None:
    """It is in the queue between two tries; there it stays."""
    world = World(VerifiableEngine(MemoryLedger(), fail=["unworthy"]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: len(world.engine.prepared) == 1)
        await pause(core)
        await anyio.sleep(86_400.0)
        assert len(world.engine.prepared) == 1
        assert world.account().outgoing.queued == 10


async def test_an_account_that_is_not_there_cannot_be_paused() -> None:
    """Nothing is recorded."""
    world = World(MinimalEngine())
    async with world.core() as core:
        with pytest.raises(UnknownAccount):
            await pause(core, account_id="nobody")
    assert world.ears.of(DecisionTaken) == []
