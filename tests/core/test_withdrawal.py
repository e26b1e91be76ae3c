"""A request that is not answered is not carried out, unless the store already had it."""

from __future__ import annotations

from decimal import Decimal

import anyio
import anyio.lowlevel
import pytest

from settlement_core.core.handles import SLOW_S
from settlement_core.core.journal import Journal, open_journal
from settlement_core.values.commands import Enqueue, OpenAccount, Overview
from settlement_core.values.errors import AskerLeft, StoreUnavailable
from settlement_core.values.records import Direction
from tests.core.stores import FlakyStore, unavailable
from tests.core.worlds import D, Ears, MinimalEngine, World, until

pytestmark = pytest.mark.anyio


def standing_still() -> FlakyStore:
    """Return a store with account alice that applies its next batch, and answers only seconds later."""
    store = FlakyStore(unavailable(7), apply_first=True)
    store.inner.apply([OpenAccount(account_id="alice", at=0.0)])
    return store


def entered(store: FlakyStore) -> Decimal:
    """Return what alice was asked to settle."""
    total = store.inner.apply([Overview(account_id="alice")])[0][0].outgoing.entered
    assert isinstance(total, Decimal)
    return total


def enqueue(key: str, amount: str = "1") -> Enqueue:
    """Return a request."""
    return Enqueue(account_id="alice", direction=Direction.OUTGOING, entry_id=key, amount=Decimal(amount), at=1.0)


async def batch_under_way(journal: Journal) -> None:
    """Return once the store has failed on a batch, which the journal keeps."""
    await until(lambda: journal.statistics().failures > 0)


async def test_request_that_waits_past_its_deadline_is_withdrawn_and_its_answer_says_so() -> None:
    """While one batch is under way five requests are given up; only the one in that batch is recorded."""
    store = standing_still()
    told: list[str] = []
    async with open_journal(store, observer=Ears(), request_deadline_s=2.0) as journal:

        async def ask(key: str) -> None:
            began = anyio.current_time()
            with pytest.raises(StoreUnavailable) as caught:
                await journal.offer(enqueue(key)).wait()
            assert anyio.current_time() - began == pytest.approx(2.0)
            told.append(str(caught.value))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "under way")
            await batch_under_way(journal)
            for number in range(5):
                tasks.start_soon(ask, f"waiting {number}")
        assert journal.statistics().pending == 1
    assert entered(store) == 1
    unknown, *withdrawn = told
    assert unknown == (
        "the store did not answer within 2 s; whether the request was recorded is not known yet, repeating it with the "
        "same key is safe"
    )
    assert withdrawn == 5 * [
        "the store took nothing for 2 s; the request was withdrawn and nothing was recorded, try again later"
    ]


async def test_cancelled_request_is_withdrawn_unless_a_batch_has_it() -> None:
    """Of two cancelled waiters the first one's request is under way, and recorded; the second one's is not."""
    store = standing_still()
    async with open_journal(store, observer=Ears()) as journal:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.offer(enqueue("under way", "5")).wait)
            await batch_under_way(journal)
            tasks.start_soon(journal.offer(enqueue("waiting", "7")).wait)
            await anyio.sleep(0.01)
            assert journal.statistics().pending == 2
            tasks.cancel_scope.cancel()
        assert journal.statistics().pending == 1
    assert entered(store) == 5


@pytest.mark.parametrize(("in_batch", "recorded"), [(False, 1), (True, 7)])
async def test_request_whose_asker_leaves_is_withdrawn_unless_a_batch_has_it(*, in_batch: bool, recorded: int) -> None:
    """The asker is listened to as soon as the store is slow."""
    store = standing_still()
    gone = anyio.Event()

    async def left() -> None:
        await gone.wait()

    async with open_journal(store, observer=Ears()) as journal, anyio.create_task_group() as tasks:
        if not in_batch:
            journal.submit(enqueue("under way"))
            await batch_under_way(journal)

        async def ask() -> None:
            with pytest.raises(AskerLeft):
                await journal.offer(enqueue("left", "7")).wait(left)
            assert anyio.current_time() == pytest.approx(left_at, abs=1e-6)
            assert journal.statistics().pending == 1

        tasks.start_soon(ask)
        await anyio.sleep(2 * SLOW_S)
        left_at = anyio.current_time()
        gone.set()
    assert entered(store) == recorded


async def test_answer_reaches_an_asker_who_is_listened_to() -> None:
    """A slow store's answer ends the listening, which is never taken for the asker's leaving."""
    store = standing_still()
    store.failures = unavailable(4)
    listening = anyio.Event()

    async def left() -> None:
        listening.set()
        await anyio.sleep_forever()

    async with open_journal(store, observer=Ears()) as journal:
        answer = await journal.offer(enqueue("slow", "7")).wait(left)
    assert listening.is_set()
    assert answer.amount == 7
    assert entered(store) == 7


async def test_asker_who_is_listened_to_is_given_up_in_time() -> None:
    """Listening does not prolong the deadline, within a batch or before it."""
    store = standing_still()
    async with open_journal(store, observer=Ears(), request_deadline_s=2.0) as journal:

        async def ask(key: str) -> None:
            began = anyio.current_time()
            with pytest.raises(StoreUnavailable):
                await journal.offer(enqueue(key)).wait(anyio.sleep_forever)
            assert anyio.current_time() - began == pytest.approx(2.0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "under way")
            await batch_under_way(journal)
            tasks.start_soon(ask, "waiting")
    assert entered(store) == 1


@pytest.mark.parametrize("apply_first", [False, True])
async def test_request_given_up_in_a_failing_batch_is_settled_only_if_it_was_recorded(*, apply_first: bool) -> None:
    """The batch is applied again until the store is back, when nobody waits for the request any more."""
    store = FlakyStore(apply_first=apply_first)
    world = World(MinimalEngine(), store=store)
    async with world.core() as core:
        await core.create_account("alice")
        await until(lambda: core.statistics().recovered and core.lanes() == [])
        store.failures = unavailable(20)
        with pytest.raises(StoreUnavailable, match="not known yet"):
            await core.request_settlement("alice", D(5), "a")
        await until(lambda: not store.failures)
        await anyio.sleep(60)
    assert world.engine.paid == ([D(5)] if apply_first else [])
    assert world.account().outgoing.entered == (5 if apply_first else 0)


async def test_asker_of_a_quick_store_is_not_listened_to() -> None:
    """Listening costs more than the store takes."""
    listened = []

    async def left() -> None:
        listened.append(True)
        await anyio.sleep_forever()

    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        for number in range(20):
            await core.request_settlement("alice", D(1), str(number), left=left)
    assert listened == []
