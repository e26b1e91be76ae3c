"""More faults of earlier engines that no other test here is named after; see tests/README.md for the whole list."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import anyio
import pytest

from settlement_core.core.config import CoreConfig
from settlement_core.values.errors import InvalidAmount, UnknownAccount
from settlement_core.values.records import AccountState, Payment
from tests.core.worlds import D, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio


async def test_a_refusal_is_not_remembered_under_its_key() -> None:
    """Only what was recorded answers for its key: what was refused may come again, put right, and is settled."""
    world = World(MinimalEngine())
    async with world.core() as core:
        with pytest.raises(UnknownAccount):
            await core.request_settlement("alice", D(5), "key")
        await core.create_account("alice")
        with pytest.raises(InvalidAmount):
            await core.request_settlement("alice", D(0), "key")
        assert await core.request_settlement("alice", D(5), "key") == 5
        await until(lambda: world.account().outgoing.settled == 5)
    assert world.engine.paid == [D(5)]


async def test_the_same_request_a_hundred_times_at_once_is_one_settlement() -> None:
    """Nobody looks first and records later: the same key at the same moment is still one amount."""
    world = World(MinimalEngine(takes_s=1))
    answers: list[Decimal] = []
    async with world.core() as core:
        await core.create_account("alice")

        async def ask() -> None:
            answers.append(await core.request_settlement("alice", D(5), "key"))

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(ask)
        await until(lambda: core.statistics().active_lanes == 0)
    assert answers == [D(5)] * 100
    assert world.engine.paid == [D(5)]
    assert world.account().outgoing.entered == 5


@pytest.mark.parametrize("hanging", ["prepare", "submit", "verify"])
async def test_a_ledger_call_that_never_ends_holds_up_nobody_else(hanging: str) -> None:
    """Not another account, not this one's credits, not the shutdown; the next life goes on with the same payment."""

    class Stuck(VerifiableEngine):
        async def _hang(self, where: str, payment: Payment | None) -> None:
            ours = payment is None or payment.amount == 5
            if where == hanging and ours and "stuck" in self.fail:
                await anyio.sleep_forever()

        async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
            if amount == 5:
                await self._hang("prepare", None)
            return await super().prepare(account_id, amount, attempt_id)

        async def submit(self, payment: Payment) -> None:
            await self._hang("submit", payment)
            await super().submit(payment)

        async def verify(self, payment: Payment) -> object:  # type: ignore[override]
            await self._hang("verify", payment)
            return await super().verify(payment)

    engine = Stuck(MemoryLedger(), fail=["stuck"])
    world = World(engine, config=CoreConfig(shutdown_s=3))
    async with world.core() as core:
        for name, amount in (("alice", 5), ("bob", 7)):
            await core.create_account(name)
            await core.request_settlement(name, D(amount), "key")
        await world.services[0].credit_settlement("alice", D(3), "tx")
        await until(lambda: world.account("bob").outgoing.settled == 7)
        await until(lambda: world.account("alice").incoming.settled == 3)
        stopping_at = anyio.current_time()
    assert anyio.current_time() - stopping_at == pytest.approx(3, abs=0.1)
    assert world.account("alice").outgoing.settled == 0
    engine.fail.clear()
    async with world.core():
        await until(lambda: world.account("alice").outgoing.settled == 5)
    assert engine.ledger.total() == 12


@dataclass
class OneAtATime(MinimalEngine):
    """Knows how many payments of an account are under way at once."""

    under_way: dict[str, int] = field(default_factory=dict)
    most: int = 0

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Count, and pay."""
        self.under_way[account_id] = self.under_way.get(account_id, 0) + 1
        self.most = max(self.most, self.under_way[account_id])
        try:
            return await super().settle(account_id, amount)
        finally:
            self.under_way[account_id] -= 1


async def test_an_account_deleted_and_made_anew_while_it_pays_pays_one_at_a_time() -> None:
    """Nothing of the earlier account goes on beside the later one, or writes over its books."""
    world = World(OneAtATime(takes_s=5))
    async with world.core() as core:
        for number in range(10):
            await core.create_account("alice")
            await core.request_settlement("alice", D(1), str(number))
            await anyio.sleep(1)
            await core.delete_account("alice")
        await until(lambda: world.account().outgoing.settled == 10)
        assert world.account().state is AccountState.DELETED
    assert sum(world.engine.paid) == 10
    assert world.engine.most == 1


async def test_what_was_left_over_outlives_a_crash() -> None:
    """A part is settled, the power fails during the back-off: the next life settles the rest, and no more."""

    async def part(_: Decimal) -> Decimal:
        return D("1.2")

    world = World(MinimalEngine([part]))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "key")
        await until(lambda: world.account().outgoing.settled == D("1.2"))
        crashed = world.crashed()
    async with crashed.core():
        await until(lambda: crashed.account().outgoing.settled == 5)
        await anyio.sleep(10_000)
    assert crashed.engine.paid == [D("1.2"), D("3.8")]
    assert world.engine.paid == [D("1.2")]
