"""A batch is recorded and its answer is lost: what follows from it is not taken for a repetition."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest

from settlement_core.values.commands import Pause
from settlement_core.values.errors import SettlementFailed
from settlement_core.values.events import DecisionTaken, MoneyUnattributed, SettlementReceived, SettlementRequested
from tests.core.stores import FlakyStore, unavailable
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until

pytestmark = pytest.mark.anyio


def lose_next(store: FlakyStore) -> None:
    """Have the store apply the next batch and not say so."""
    store.apply_first = True
    store.failures = unavailable(1)


async def test_every_event_is_emitted_although_the_answer_is_lost() -> None:
    """The batch is applied a second time, which finds everything there: it is new all the same."""
    store = FlakyStore()
    world = World(MinimalEngine(), store=store)
    async with world.core() as core:
        await core.create_account("alice")
        services = world.services[0]
        lose_next(store)
        await services.report_unattributed("stray", D(3), {"memo": "?"})
        lose_next(store)
        await core.request_settlement("alice", D(1), "key")
        lose_next(store)
        await services.credit_settlement("alice", D(2), "tx")
        lose_next(store)
        await core.decide(Pause(account_id="alice", paused=True, reason="a look", by="carol", at=0.0))
        for kind in (MoneyUnattributed, SettlementRequested, SettlementReceived, DecisionTaken):
            assert len(world.ears.of(kind)) == 1, kind
        # a repetition in a batch that is answered is one
        await core.request_settlement("alice", D(1), "key")
        assert len(world.ears.of(SettlementRequested)) == 1


async def test_new_money_ends_a_back_off_although_the_answer_is_lost() -> None:
    """An account in a long back-off is paid at once when more is asked for, as ever."""

    async def fail(_amount: Decimal) -> Decimal:
        raise SettlementFailed("not now")

    engine = MinimalEngine(script=[fail] * 12)
    store = FlakyStore()
    world = World(engine, store=store, connector=FakeConnector())
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "first")
        await until(lambda: engine.script == [], within_s=30_000, every_s=1.0)
        await anyio.sleep(1)
        lose_next(store)
        asked = anyio.current_time()
        await core.request_settlement("alice", D(1), "second")
        await until(lambda: world.account().outgoing.settled == 2)
        assert anyio.current_time() - asked < 10
