"""What small slips would change without anybody being told: places, moments and looks that are not to be wasted."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from decimal import Decimal
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from settlement_core.core import admission
from settlement_core.core.batching import MAX_BATCH, Shares
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core
from settlement_core.core.journal import COMMIT_BOUNDS_S, Journal, JournalStatistics, open_journal
from settlement_core.testing.clocks import virtual_backend
from settlement_core.values.commands import Command, Enqueue, Nudge, OpenAccount, Result
from settlement_core.values.errors import StoreUnavailable
from settlement_core.values.events import StoreRecovered
from settlement_core.values.records import Direction
from tests.core.shared_books import NAMES, Fleet, WorkerStore
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
    sentence = (
        "the store took nothing for 7 s while closing: 1 commands were not recorded; what they concern is open in the "
        "store and is looked at, at the next start"
    )
    assert caught.group_contains(StoreUnavailable, match=f"^{sentence}$")
    assert entered(store) == 0
    assert journal.statistics().pending == 0


async def test_more_requests_at_once_than_fit_into_a_batch_are_all_answered() -> None:
    """Those for whom the first had no room wait for the second."""
    store = opened(FlakyStore())
    async with open_journal(store, observer=Ears()) as journal:
        await anyio.wait_all_tasks_blocked()
        handles = [journal.offer(enqueue(str(number))) for number in range(MAX_BATCH + 88)]
        async with anyio.create_task_group() as tasks:
            for handle in handles:
                tasks.start_soon(handle.wait)
    assert [len(batch) for batch in store.batches] == [MAX_BATCH, 88]
    assert entered(store) == MAX_BATCH + 88


async def test_what_is_recorded_after_a_core_was_cut_is_settled_by_its_next_life() -> None:
    """The journal drains and may still ring; nobody starts to pay who would be cut at once."""
    store = FlakyStore(apply_first=True)
    world = World(MinimalEngine(), store=store)
    with anyio.CancelScope() as scope:
        async with world.core() as core:
            await core.create_account("alice")
            await until(lambda: core.statistics().recovered and core.lanes() == [])
            store.failures = unavailable(2)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(core.request_settlement, "alice", D(5), "a")
                await until(lambda: len(store.failures) == 1)
                scope.cancel()
    assert world.account().outgoing.queued == 5
    assert world.engine.calls == []
    async with world.core():
        await until(lambda: world.account().outgoing.settled == 5)


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
    monkeypatch.setattr(admission, "AT_ONCE", 1)
    monkeypatch.setattr(admission, "HELD_S", 1e9)

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
    assert [shares.next(20, 70) for _ in range(4)] == [(20, 0), (20, 0), (20, 0), (20, 17)]
    assert Shares().next(0, 2000) == (0, 64)


async def test_a_new_journal_has_done_nothing() -> None:
    """It counts commits in as many classes as there are bounds, and in one more for what is above all of them."""
    async with open_journal(FlakyStore(), observer=Ears()) as journal:
        assert journal.statistics() == JournalStatistics(
            pending=0,
            batches=0,
            commands=0,
            failures=0,
            commits_within=(0,) * (len(COMMIT_BOUNDS_S) + 1),
            commits_s=0.0,
        )


async def test_a_journal_adds_up_how_long_its_store_took() -> None:
    """Each commit is counted in the class of its length, and their sum is what all of them took together."""
    began = monotonic()
    async with open_journal(opened(FlakyStore(slow_s=0.006)), observer=Ears()) as journal:
        for number in range(3):
            await journal.ask(enqueue(str(number)))
        found = journal.statistics()
    assert (found.batches, found.commands, sum(found.commits_within)) == (3, 3, 3)
    assert found.commits_within[: COMMIT_BOUNDS_S.index(0.005) + 1] == (0, 0, 0)
    assert 0.018 <= found.commits_s <= monotonic() - began


async def test_a_store_is_told_to_have_recovered_once() -> None:
    """And is counted as well from then on: what it takes later is no news."""
    ears = Ears()
    async with open_journal(opened(FlakyStore(unavailable(2))), observer=ears) as journal:
        for number in range(3):
            await journal.ask(enqueue(str(number)))
        assert journal.statistics().failures == 0
    assert ears.of(StoreRecovered) == [StoreRecovered(failures=2)]


class Held(FlakyStore):
    """Is in the middle of a batch until it is let go, and takes ten milliseconds at least."""

    def __init__(self) -> None:
        super().__init__(threaded=True, slow_s=0.01)
        self.go = threading.Event()

    def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
        """Apply, once let go."""
        self.go.wait(10)
        return super().apply(commands)


on_trio = pytest.mark.parametrize("anyio_backend", [virtual_backend("trio")])
"""Where a deadline that never comes needs no timer, so that virtual time passes only while the journal lingers."""


@on_trio
@pytest.mark.parametrize(
    ("clients", "again", "lingers_s"), [(21, 9, 0.005), (21, 10, 0.0), (16, 7, 0.005), (16, 8, 0.0), (15, 0, 0.0)]
)
async def test_a_journal_lingers_until_half_of_the_many_it_answered_have_asked_again(
    clients: int, again: int, lingers_s: float
) -> None:
    """Sixteen are many; three who asked meanwhile are others. It waits for five milliseconds at most, once."""
    store = Held()
    opened(store)

    async def ask(journal: Journal, client: int) -> None:
        await journal.offer(enqueue(str(client))).wait()
        if client < again:
            await journal.offer(enqueue(f"{client} again")).wait()

    async with open_journal(store, observer=Ears(), request_deadline_s=math.inf) as journal:
        # else it may begin while only some have asked
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as tasks:
            for crowd in (range(clients), range(100, 103)):
                for client in crowd:
                    tasks.start_soon(ask, journal, client)
                await anyio.wait_all_tasks_blocked()
            began = anyio.current_time()
            store.go.set()
        assert anyio.current_time() - began == pytest.approx(lingers_s, abs=1e-6)
    assert [len(batch) for batch in store.batches] == [clients, again + 3]


@on_trio
async def test_a_journal_does_not_linger_for_those_who_have_asked_again_already() -> None:
    """Nothing waits when 21 are answered; the first of them to ask again wakes the journal, and all have asked then."""
    store = Held()
    opened(store)

    async def ask(journal: Journal, client: int) -> None:
        for number in range(3):
            await journal.offer(enqueue(f"{client} {number}")).wait()

    async with open_journal(store, observer=Ears(), request_deadline_s=math.inf) as journal:
        await anyio.wait_all_tasks_blocked()
        async with anyio.create_task_group() as tasks:
            for client in range(21):
                tasks.start_soon(ask, journal, client)
            await anyio.wait_all_tasks_blocked()
            began = anyio.current_time()
            store.go.set()
        assert anyio.current_time() == began
    assert [len(batch) for batch in store.batches] == [21, 21, 21]


@on_trio
async def test_a_journal_lingers_for_no_store_that_answers_on_the_loop() -> None:
    """Nor does it wait after a few requests only, however slow the store is: nobody would be late."""
    for store, clients in ((opened(FlakyStore()), 40), (opened(FlakyStore(threaded=True, slow_s=0.01)), 15)):
        async with open_journal(store, observer=Ears(), request_deadline_s=math.inf) as journal:
            began = anyio.current_time()
            async with anyio.create_task_group() as tasks:
                for client in range(clients):
                    tasks.start_soon(journal.offer(enqueue(str(client))).wait)
            await journal.offer(enqueue("last")).wait()
            assert anyio.current_time() == began
        assert entered(store) == clients + 1


@on_trio
async def test_a_journal_lingers_for_nobody_while_nobody_was_answered() -> None:
    """The very first batch of a store fails: it is applied again as soon as the delay for that is over."""
    store = opened(FlakyStore(unavailable(1), threaded=True))
    async with open_journal(store, observer=Ears(), request_deadline_s=math.inf) as journal:
        journal._chance = lambda: 0.0
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        handles = [journal.offer(enqueue(str(client))) for client in range(20)]
        for handle in handles:
            await handle.wait()
        assert anyio.current_time() - began == pytest.approx(0.05, abs=1e-6)
    assert entered(store) == 20


@on_trio
async def test_who_asks_after_somebody_was_given_up_has_all_of_their_own_time() -> None:
    """Although both asked while the same batch was applied."""
    store = Held()
    opened(store)
    async with open_journal(store, observer=Ears(), request_deadline_s=4.0) as journal:
        await anyio.wait_all_tasks_blocked()
        journal.submit(enqueue("first"))
        await anyio.wait_all_tasks_blocked()
        for number in range(2):
            began = anyio.current_time()
            with pytest.raises(StoreUnavailable, match="took nothing for 4 s; the request was withdrawn"):
                await journal.offer(enqueue(f"{number} given up")).wait()
            assert anyio.current_time() - began == pytest.approx(4.0)
        store.go.set()
        await journal.ask(enqueue("last"))
    assert entered(store) == 2


async def test_a_journal_is_drained_for_ten_seconds_unless_said_otherwise() -> None:
    """As long as effects under way are waited for."""
    with pytest.raises(ExceptionGroup) as caught:
        async with open_journal(FlakyStore(unavailable(1000)), observer=Ears()) as journal:
            journal.submit(enqueue("a"))
    assert caught.group_contains(StoreUnavailable, match="^the store took nothing for 10 s while closing")
    assert anyio.current_time() == pytest.approx(10.0)


async def test_a_store_is_listened_to_for_as_long_as_between_two_rounds() -> None:
    """It is told which worker listens, and until when at most."""
    heard: set[tuple[str, float]] = set()

    class Listening(WorkerStore):
        def hear(self, worker: str, timeout_s: float) -> bool:
            heard.add((worker, timeout_s))
            return False

    fleet = Fleet(CoreConfig(poll_s=2.5))
    async with fleet.worker("a", MinimalEngine(), store=Listening(fleet.books, "a")):
        await until(lambda: bool(heard))
    assert heard == {("a", 2.5)}


async def test_a_core_that_has_stopped_hands_on_no_nudge() -> None:
    """An engine that asks for one while it disconnects is late: whoever gets the account looks at it anyway."""
    fleet = Fleet()
    nudged: list[str] = []

    class Late(MinimalEngine):
        async def disconnect(self) -> None:
            for name in NAMES:
                fleet.services["a"].try_settlement(name)

    async with fleet.worker("b", MinimalEngine()):
        async with fleet.worker("a", Late()):
            await until(lambda: fleet.books.held() == [4, 4])
            fleet.stores["a"].after = lambda command, _: (
                nudged.append(command.account_id) if isinstance(command, Nudge) else None
            )
            fleet.services["a"].try_settlement(next(name for name in NAMES if fleet.books.owner(name) == "b"))
            await until(lambda: len(nudged) == 1)
        await until(lambda: fleet.books.held() == [8])
    assert len(nudged) == 1
