"""Several payments in a row in doubt stop all payments, until an operator has looked."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest

from settlement_core.core.config import CoreConfig
from settlement_core.values.events import PaymentsResumed, PaymentsStopped
from tests.core.worlds import D, FakeConnector, MinimalEngine, World, until

pytestmark = pytest.mark.anyio


async def lose(amount: Decimal) -> Decimal:
    """Give no answer."""
    del amount
    raise ConnectionError("no answer from the ledger")


async def ask_in_turn(world: World, core: object, numbers: range) -> None:
    """Request one payment in an account of its own after the other."""
    for number in numbers:
        await core.create_account(f"a{number}")  # type: ignore[attr-defined]
        await core.request_settlement(f"a{number}", D(1), "k")  # type: ignore[attr-defined]
        await anyio.sleep(1)


async def test_five_doubts_in_a_row_stop_payments_in_every_account_until_they_are_resumed() -> None:
    """Also after a restart; requests are still taken and credits offered, and what waited is paid in the end."""
    engine = MinimalEngine(script=[lose] * 100)
    world = World(engine, connector=FakeConnector())
    async with world.core() as core:
        await ask_in_turn(world, core, range(8))
        assert len(engine.calls) == 5
        (stopped,) = world.ears.of(PaymentsStopped)
        assert stopped.in_a_row == 5
        assert "5 payments in a row are in doubt" in (await core.engine_status())["alarm"]
        await world.services[-1].credit_settlement("a0", D(3), "tx")
        await until(lambda: world.connector.total() == 3)
    async with world.core() as core:
        await anyio.sleep(10_000)
        assert len(engine.calls) == 5
        assert "alarm" in await core.engine_status()
        assert world.account("a6").outgoing.queued == 1
        engine.script.clear()
        await core.resume_payments(reason="the ledger answers", by="ann")
        await until(lambda: world.account("a7").outgoing.settled == 1)
        assert await core.engine_status() == {}
    assert world.ears.of(PaymentsResumed) == [PaymentsResumed(by="ann", reason="the ledger answers")]
    assert sorted(account_id for _, account_id, _ in engine.calls[5:]) == ["a5", "a6", "a7"]


async def test_a_payment_between_doubts_begins_the_count_again() -> None:
    """Single losses are no sign that all will be lost."""

    async def pay(amount: Decimal) -> Decimal:
        return amount

    engine = MinimalEngine(script=[*[lose] * 4, pay] * 3)
    world = World(engine)
    async with world.core() as core:
        await ask_in_turn(world, core, range(15))
    assert len(engine.calls) == 15
    assert world.ears.of(PaymentsStopped) == []


async def test_crashes_in_the_middle_of_payments_count_across_runs() -> None:
    """One doubt a run: a process that dies of each payment stops after five of them."""
    engine = MinimalEngine(takes_s=1e9)
    world = World(engine, config=CoreConfig(shutdown_s=0.1))
    for number in range(8):
        async with world.core() as core:
            await anyio.sleep(1)  # what the run before left is looked at first
            await ask_in_turn(world, core, range(number, number + 1))
    assert len(engine.calls) == 5


async def test_without_a_limit_payments_never_stop() -> None:
    """As asked for."""
    engine = MinimalEngine(script=[lose] * 100)
    world = World(engine, config=CoreConfig(stop_after_doubts=0))
    async with world.core() as core:
        await ask_in_turn(world, core, range(12))
    assert len(engine.calls) == 12
