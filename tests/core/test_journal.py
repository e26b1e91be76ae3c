"""The journal: what is submitted is durable, whoever waits for it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from settlement_core.core.journal import Journal, open_journal
from settlement_core.values.commands import Command, Enqueue, Entered, OpenAccount, Overview
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


def keys_of(batch: list[Command[Any]]) -> list[str]:
    """Return the keys of the requests in a batch, and the ids of the accounts opened in it."""
    return [command.entry_id if isinstance(command, Enqueue) else getattr(command, "account_id") for command in batch]  # noqa: B009


async def test_a_few_requests_are_applied_before_what_the_core_asks_in_the_same_batch() -> None:
    """Whatever came first."""
    store = opened(FlakyStore())
    async with open_journal(store, observer=Ears()) as journal:
        for number in range(3):
            journal.submit(OpenAccount(account_id=f"core {number}", at=0.0))
        handles = [journal.offer(enqueue(f"request {number}")) for number in range(3)]
        for handle in handles:
            await handle.wait()
    assert keys_of(store.batches[0]) == [f"{who} {number}" for who in ("request", "core") for number in range(3)]


async def test_many_requests_have_a_batch_of_their_own_but_the_core_has_its_turn_in_every_fourth() -> None:
    """Twenty clients ask again as soon as they are answered; what the core asked waits for three batches, not for ever.

    Then a quarter of what waits is applied, and at least sixteen.
    """
    store = opened(FlakyStore())
    async with open_journal(store, observer=Ears()) as journal, anyio.create_task_group() as tasks:

        async def ask_again_and_again(client: int) -> None:
            for number in range(20):
                await journal.offer(enqueue(f"{client} {number}")).wait()
                if (client, number) == (0, 2):
                    for core in range(40):
                        journal.submit(OpenAccount(account_id=f"core {core}", at=0.0))

        # else the journal may begin while only some have asked
        await anyio.wait_all_tasks_blocked()
        for client in range(20):
            tasks.start_soon(ask_again_and_again, client)
    turns = {
        place: len(batch) - 20
        for place, batch in enumerate(store.batches)
        if len(batch) > 20 and sum(isinstance(command, Enqueue) for command in batch) == 20
    }
    first = min(turns)
    assert turns == {first: 16, first + 4: 16, first + 8: 8}
    assert entered(store) == 400


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("pause_s", [0.0, 0.001])
def test_those_who_are_answered_together_ask_together_again(pause_s: float, backend: str) -> None:
    """Two crowds that ask in turns become one: else each commit of the store would be for half of them only.

    In real time, since a thread is at work; one of several chances to meet is enough.
    """
    store = opened(FlakyStore(threaded=True, slow_s=0.02))

    async def ask_again_and_again(journal: Journal, client: str) -> None:
        for number in range(5):
            await journal.offer(enqueue(f"{client} {number}")).wait()
            await anyio.sleep(pause_s)

    async def main() -> None:
        async with open_journal(store, observer=Ears()) as journal, anyio.create_task_group() as tasks:
            for client in range(16):
                tasks.start_soon(ask_again_and_again, journal, f"early {client}")
            while not store.batches:
                await anyio.sleep(0.001)
            for client in range(16):
                tasks.start_soon(ask_again_and_again, journal, f"late {client}")

    anyio.run(main, backend=backend)
    assert entered(store) == 160
    assert len(store.batches) < 10
