"""What small slips would change without anybody being told: places, moments and looks that are not to be wasted."""

from __future__ import annotations

from decimal import Decimal

import anyio
import anyio.lowlevel
import pytest

from settlement_core.core import supervisor
from settlement_core.core.batching import Shares
from settlement_core.core.core import Core
from settlement_core.core.journal import open_journal
from settlement_core.values.commands import Enqueue, OpenAccount
from settlement_core.values.errors import StoreUnavailable
from settlement_core.values.records import Direction
from tests.core.shared_books import NAMES, Fleet
from tests.core.stores import FlakyStore, unavailable
from tests.core.test_journal import enqueue, entered, opened
from tests.core.test_sharing import LEASE_S
from tests.core.worlds import D, Ears, MinimalEngine, World, until

pytestmark = pytest.mark.anyio


async def test_a_claim_that_waits_behind_requests_sees_them_all() -> None:
    """Sixty requests in three batches, each ahead of the claim: one payment, and no second look for more."""
    world = World(MinimalEngine())

    async def ask_three_times(core: Core, client: int) -> None:
        for number in range(3):
            await core.request_settlement("alice", D(1), f"{client} {number}")

    async with world.core() as core:
        await core.create_account("alice")
        await until(lambda: core.statistics().recovered and core.statistics().active_lanes == 0)
        before = core.statistics().journal.commands
        async with anyio.create_task_group() as tasks:
            for client in range(20):
                tasks.start_soon(ask_three_times, core, client)
        await until(lambda: core.statistics().active_lanes == 0)
        assert core.statistics().journal.commands - before == 60 + 2
    assert world.engine.paid == [D(60)]


async def test_a_cancelled_owner_waits_for_its_store_no_longer_than_another() -> None:
    """Its journal is drained for seven seconds, not for as long as the store stays away, and what is lost is said."""
    store = opened(FlakyStore(unavailable(1000)))
    with pytest.raises(ExceptionGroup) as caught, anyio.CancelScope() as scope:
        async with open_journal(store, observer=Ears(), drain_s=7.0) as journal:
            journal.submit(enqueue("a"))
            scope.cancel()
            await anyio.sleep_forever()
    assert anyio.current_time() == pytest.approx(7.0)
    assert caught.group_contains(StoreUnavailable, match="1 commands were not recorded")
    assert entered(store) == 0


async def test_a_lease_ends_at_the_very_moment_at_which_others_may_take_it() -> None:
    """Just before it an effect may begin; from then on it waits for what the store says."""
    fleet = Fleet()
    async with fleet.worker("a", MinimalEngine()) as core:
        while not core.statistics().recovered:
            await anyio.lowlevel.checkpoint()
        sharing = core._context.sharing
        token = sharing.token(NAMES[0])
        assert token
        waited = {}
        for silent_s in (LEASE_S - 0.001, LEASE_S):
            # by the wall clock, which went on while the machine was suspended
            fleet.wall_ahead_s["a"] = silent_s
            with anyio.move_on_after(0) as scope:
                await sharing.confirm(NAMES[0], token)
            waited[silent_s] = scope.cancelled_caught
    assert waited == {LEASE_S - 0.001: False, LEASE_S: True}


async def test_accounts_that_are_at_work_already_take_no_place_in_a_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """One account is looked at after the other; bob's new request was quicker, and holds up nobody after him."""
    monkeypatch.setattr(supervisor, "RECOVERING_AT_ONCE", 1)

    class Slow(MinimalEngine):
        async def settle(self, account_id: str, amount: Decimal) -> Decimal:
            await anyio.sleep({"alice": 5.0, "bob": 1e6}.get(account_id, 0.0))
            return await super().settle(account_id, amount)

    world = World(Slow())
    for name in ("alice", "bob", "carol"):
        debt = Enqueue(account_id=name, direction=Direction.OUTGOING, entry_id="old", amount=D(1), at=0.0)
        world.store.apply([OpenAccount(account_id=name, at=0.0), debt])
    async with world.core() as core:
        await anyio.sleep(1)
        assert [lane.account_id for lane in core.lanes()] == ["alice"]
        await core.request_settlement("bob", D(2), "new")
        await until(lambda: world.account("carol").outgoing.settled == 1, within_s=10)
    assert world.account("bob").outgoing.open == 3


def test_a_new_journal_shares_its_batches_as_an_old_one_does() -> None:
    """Many requests go alone in three batches of four; without any, ever more of what the core itself asks goes."""
    shares = Shares()
    assert [shares.next(20, 70) for _ in range(5)] == [(20, 0), (20, 0), (20, 0), (20, 17), (20, 0)]
    assert [shares.next(0, 2000) for _ in range(5)] == [(0, 64), (0, 128), (0, 256), (0, 512), (0, 512)]
    # fewer than many, or as many accounts at work for each
    assert [shares.next(16, 63), shares.next(16, 64), shares.next(15, 70)] == [(16, 0), (16, 16), (15, 17)]
    assert [shares.next(15, 40), shares.next(0, 2000), shares.next(600, 3000)] == [(15, 16), (0, 64), (512, 512)]
    assert shares.next(0, 9) == (0, 9)
