"""The journal: what is submitted is durable, whoever waits for it."""

from __future__ import annotations

from decimal import Decimal

import anyio
import anyio.lowlevel
import pytest

from settlement_core.core.journal import open_journal
from settlement_core.values.commands import Enqueue, Entered, OpenAccount, Overview
from settlement_core.values.errors import JournalEnded, StoreBroken, StoreUnavailable, UnknownAccount
from settlement_core.values.events import StoreFailed, StoreRecovered
from settlement_core.values.records import Direction
from tests.core.stores import FlakyStore, unavailable
from tests.core.worlds import Ears

pytestmark = pytest.mark.anyio


def enqueue(key: str, amount: str = "1", account_id: str = "alice") -> Enqueue:
    """Return a request."""
    return Enqueue(account_id=account_id, direction=Direction.OUTGOING, entry_id=key, amount=Decimal(amount), at=1.0)


def opened(store: FlakyStore) -> FlakyStore:
    """Return the store with account alice."""
    store.inner.apply([OpenAccount(account_id="alice", at=0.0)])
    return store


def entered(store: FlakyStore) -> Decimal:
    """Return what alice was asked to settle."""
    total = store.inner.apply([Overview(account_id="alice")])[0][0].outgoing.entered
    assert isinstance(total, Decimal)
    return total


async def test_a_cancelled_waiter_takes_nothing_back() -> None:
    """Cancelling whoever waits for a command does not undo it."""
    store = opened(FlakyStore())
    async with open_journal(store, observer=Ears()) as journal:
        with anyio.CancelScope() as scope:
            handle = journal.submit(enqueue("a"))
            scope.cancel()
            await handle.wait()
        assert scope.cancelled_caught
    assert entered(store) == 1


async def test_commands_submitted_together_are_applied_in_one_batch() -> None:
    """A hundred waiting tasks cost one call of the store, not a hundred."""
    store = opened(FlakyStore())
    async with open_journal(store, observer=Ears()) as journal:
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(journal.ask, enqueue(str(number)))
        assert journal.statistics().commands == 100
        assert journal.statistics().batches <= 3
    assert entered(store) == 100


async def test_a_refused_command_fails_only_its_own_waiter() -> None:
    """Its neighbours in the batch are recorded."""
    store = opened(FlakyStore())
    async with open_journal(store, observer=Ears()) as journal:
        good = journal.submit(enqueue("1"))
        bad = journal.submit(enqueue("2", account_id="nobody"))
        also_good = journal.submit(enqueue("3"))
        assert await good.wait() == Entered(Decimal(1), replay=False)
        with pytest.raises(UnknownAccount, match="account 'nobody' does not exist; nothing was recorded"):
            await bad.wait()
        assert await also_good.wait() == Entered(Decimal(1), replay=False)
    assert entered(store) == 2


@pytest.mark.parametrize("apply_first", [False, True])
async def test_a_store_that_fails_is_given_the_same_batch_again(apply_first: bool) -> None:
    """Whether the failed call had an effect or not, nothing is lost or doubled, and tries come at exact times."""
    store, ears = opened(FlakyStore(unavailable(3), apply_first=apply_first)), Ears()
    async with open_journal(store, observer=ears) as journal:
        journal._chance = lambda: 0.0
        began = anyio.current_time()
        answers = [journal.submit(enqueue("a")), journal.submit(enqueue("b"))]
        for answer in answers:
            assert (await answer.wait()).amount == 1
        assert anyio.current_time() - began == pytest.approx(0.05 + 0.1 + 0.2)
        assert [event.delay_s for event in ears.of(StoreFailed)] == [0.05, 0.1, 0.2]
        assert ears.of(StoreRecovered) == [StoreRecovered(failures=3)]
        assert store.batches[0] == store.batches[3]
    assert entered(store) == 2


async def test_a_full_journal_refuses_requests_and_stores_nothing_of_them() -> None:
    """Requests beyond the bound are told to come again; those within are recorded once the store answers."""
    store = opened(FlakyStore(unavailable(2)))
    async with open_journal(store, observer=Ears(), max_pending=2) as journal:
        handles = [journal.offer(enqueue("a")), journal.offer(enqueue("b"))]
        with pytest.raises(StoreUnavailable, match="2 commands already wait for the store; nothing was recorded"):
            journal.offer(enqueue("c"))
        for handle in handles:
            await handle.wait()
    assert entered(store) == 2


async def test_the_journal_is_drained_when_its_owner_is_cancelled() -> None:
    """What was submitted before the cancellation is durable after it, even if the store fails in between."""
    store = opened(FlakyStore(unavailable(2)))
    with anyio.CancelScope() as scope:
        async with open_journal(store, observer=Ears()) as journal:
            journal.submit(enqueue("a"))
            scope.cancel()
            journal.submit(enqueue("b"))
            await anyio.sleep_forever()
    assert entered(store) == 2


async def test_a_store_that_stays_away_at_the_end_is_an_error_that_counts_what_was_lost() -> None:
    """Draining has a deadline, and missing it is said aloud."""
    store = opened(FlakyStore(unavailable(1000)))
    began = anyio.current_time()
    with pytest.raises(ExceptionGroup) as caught:
        async with open_journal(store, observer=Ears(), drain_s=7.0) as journal:
            handle = journal.submit(enqueue("a"))
    assert anyio.current_time() - began == pytest.approx(7.0)
    (problem,) = caught.value.exceptions
    assert isinstance(problem, StoreUnavailable)
    assert "took nothing for 7 s while closing: 1 commands were not recorded" in str(problem)
    with pytest.raises(JournalEnded):
        await handle.wait()
    assert entered(store) == 0


async def test_a_store_broken_for_good_ends_the_block_with_the_real_error() -> None:
    """Nobody waits for ever: waiters, and late commands, are told that the journal has ended."""
    store = opened(FlakyStore([StoreBroken("the disk image is malformed")]))
    outcomes: list[str] = []

    async def ask(key: str) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await journal.ask(enqueue(key))
            except JournalEnded as problem:
                outcomes.append(str(problem))

    with pytest.raises(ExceptionGroup) as caught:
        async with open_journal(store, observer=Ears()) as journal, anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "a")
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
                await ask("b")
    assert caught.group_contains(StoreBroken, match="the disk image is malformed")
    assert outcomes == ["the journal has ended: Enqueue may not have been recorded, try again later"] * 2


async def test_a_threaded_store_is_called_one_batch_at_a_time() -> None:
    """The worker thread never has two calls at once, and the loop stays free meanwhile."""
    store = opened(FlakyStore(threaded=True, slow_s=0.01))
    async with open_journal(store, observer=Ears()) as journal, anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(journal.ask, enqueue(str(number)))
            await anyio.lowlevel.checkpoint()
    assert entered(store) == 20
