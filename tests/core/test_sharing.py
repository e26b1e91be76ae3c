"""Several workers share a store: every account is looked after, by one worker at a time, and nothing is paid twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from settlement_core.abc import Refused, Unanswered
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core
from settlement_core.core.crediting import AT_ONCE
from settlement_core.values.commands import Claimed, Command, OpenAccount, Resolve, Result, Workers
from settlement_core.values.errors import SettlementFailed, StoreBroken
from settlement_core.values.events import (
    AccountHalted,
    CreditHeld,
    LeaseGone,
    MovedUnrecorded,
    PartitionsChanged,
    RecoveryFinished,
    SettlementInDoubt,
)
from settlement_core.values.records import Payment
from tests.core.shared_books import NAMES, Fleet, WorkerStore, names_in
from tests.core.worlds import D, FakeConnector, MemoryLedger, VerifiableEngine, until

pytestmark = pytest.mark.anyio

LEASE_S, POLL_S = CoreConfig().lease_s, CoreConfig().poll_s


@dataclass
class Bank:
    """Where minimal engines pay: at once, then they take their time to answer."""

    paid: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    by: list[tuple[float, str, str]] = field(default_factory=list)
    takes_s: float = 0.0

    def engine(self, worker: str) -> BankEngine:
        """Return a worker's engine."""
        return BankEngine(self, worker)


@dataclass
class BankEngine:
    """One worker's engine on the bank."""

    bank: Bank
    worker: str
    fails: int = 0
    shielded: bool = False

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay."""
        if self.fails:
            self.fails -= 1
            raise SettlementFailed("no funds")
        self.bank.paid[account_id] += amount
        self.bank.by.append((anyio.current_time(), self.worker, account_id))
        with anyio.CancelScope(shield=self.shielded):
            await anyio.sleep(self.bank.takes_s)
        return amount


class RecordingEngine(VerifiableEngine):
    """Remembers when it was asked what, so that two workers on one ledger can be told apart."""

    def __init__(self, ledger: MemoryLedger, **options: Any) -> None:
        super().__init__(ledger, **options)
        self.asked: list[tuple[float, str]] = []

    async def submit(self, payment: Payment) -> None:
        """Submit."""
        self.asked.append((anyio.current_time(), "submit"))
        await super().submit(payment)

    async def verify(self, payment: Payment) -> Any:
        """Verify."""
        self.asked.append((anyio.current_time(), "verify"))
        return await super().verify(payment)


async def owe(core: Core, name: str, amount: int = 10, key: str = "key") -> None:
    """Have an account owe something, through any worker."""
    await core.create_account(name)
    await core.request_settlement(name, D(amount), key)


async def a_credit(fleet: Fleet, name: str) -> None:
    """Have worker a be paid 3 for an account, and wait until it is on its way to the connector."""
    fleet.books.inner.apply([OpenAccount(account_id=name, at=0.0)])
    await fleet.services["a"].credit_settlement(name, D(3), "tx")
    await until(lambda: len(fleet.connectors["a"].offers) == 1)


async def all_paid_once(fleet: Fleet, bank: Bank, names: list[str], *, within_s: float = 60.0) -> None:
    """Wait until everything entered is settled; then exactly that was paid, and nobody has to look at anything."""
    await until(
        lambda: all(fleet.account(name).outgoing.settled == fleet.account(name).outgoing.entered for name in names),
        within_s=within_s,
    )
    for name in names:
        assert bank.paid[name] == fleet.account(name).outgoing.entered > 0
        assert fleet.account(name).outgoing.parked == 0


def not_paid_twice(fleet: Fleet, bank: Bank, name: str) -> None:
    """Whatever was paid is settled or in doubt, and no more was paid than was asked for."""
    books = fleet.account(name).outgoing
    assert books.settled <= bank.paid[name] <= books.settled + books.parked
    assert bank.paid[name] <= books.entered


async def two(stack: AsyncExitStack, fleet: Fleet, engine_a: Any, engine_b: Any) -> tuple[Core, Core]:
    """Run workers a and b, and wait until each holds half."""
    a = await stack.enter_async_context(fleet.worker("a", engine_a))
    b = await stack.enter_async_context(fleet.worker("b", engine_b))
    await until(lambda: fleet.books.held() == [4, 4], within_s=2 * POLL_S + 0.1)
    return a, b


def names_of(fleet: Fleet, worker: str) -> list[str]:
    """Return the accounts that are a worker's."""
    return [name for name in NAMES if fleet.books.owner(name) == worker]


# who has what


async def test_workers_share_the_accounts_evenly_as_they_come() -> None:
    """One has all 8 partitions, two 4 each, three 3, 3 and 2; meanwhile whatever is asked anywhere is paid once."""
    fleet, bank = Fleet(), Bank()
    async with AsyncExitStack() as stack:
        cores = [await stack.enter_async_context(fleet.worker("a", bank.engine("a")))]
        await until(lambda: fleet.books.held() == [8], within_s=0.1)
        for number, (name, held) in enumerate([("b", [4, 4]), ("c", [3, 3, 2])]):
            cores.append(await stack.enter_async_context(fleet.worker(name, bank.engine(name))))
            for place, account in enumerate(NAMES):
                await owe(cores[place % len(cores)], account, key=f"key{number}")
            await until(lambda held=held: fleet.books.held() == held, within_s=2 * POLL_S + 0.1)  # type: ignore[misc]
        await all_paid_once(fleet, bank, NAMES)
        for account in NAMES:
            await owe(cores[0], account, key="last")
        asked = anyio.current_time()
        await all_paid_once(fleet, bank, NAMES, within_s=POLL_S + 0.1)
        last = [(worker, account) for when, worker, account in bank.by if when >= asked]
        assert sorted(last) == sorted((fleet.books.owner(account), account) for account in NAMES)
        (told,) = [worker for worker in await cores[2].ask(Workers()) if worker.worker_id == "c"]
        state = cores[2].statistics()
        assert (state.worker, state.partitions, state.partitions_held) == ("c", 8, len(told.partitions))
        assert (len(told.partitions), repr(cores[2]._context.sharing)) == (2, "<Sharing by 'c', 2 of 8 partitions>")
    assert [event.held for event in fleet.ears["c"].of(PartitionsChanged)][-1] == 2
    assert all(fleet.ears[name].of(LeaseGone) == [] for name in "abc"), "giving up cuts nothing"


async def test_the_accounts_of_a_worker_that_dies_are_taken_over_in_time() -> None:
    """Its debts are paid by the other within a lease and a round, its open attempt is in doubt, none is paid twice."""
    fleet, bank = Fleet(CoreConfig(drain_s=1)), Bank()
    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(fleet.worker("b", bank.engine("b")))
        with pytest.raises(ExceptionGroup):
            async with fleet.worker("a", bank.engine("a")) as a:
                await until(lambda: fleet.books.held() == [4, 4])
                mine = names_of(fleet, "a")
                bank.takes_s = 1000.0
                await owe(a, mine[0])
                await until(lambda: bank.paid[mine[0]] == 10)
                fleet.stores["a"].blocked = True
                bank.takes_s = 0.0
                died = anyio.current_time()
                a._supervisor._tasks.cancel_scope.cancel()  # type: ignore[union-attr]
                raise ConnectionError("its engine died")
        for name in NAMES:
            await owe(b, name, 5, key="other")
        await until(lambda: all(fleet.account(name).outgoing.settled >= 5 for name in NAMES))
        assert anyio.current_time() - died <= LEASE_S + POLL_S + 0.1
        assert fleet.books.held() == [8]
        await all_paid_once(fleet, bank, [name for name in NAMES if name != mine[0]])
        not_paid_twice(fleet, bank, mine[0])
        assert fleet.account(mine[0]).outgoing.parked == 10


async def test_a_worker_that_leaves_hands_over_at_once() -> None:
    """Within a round, not a lease: what it left open, and what was queued, is gone on with."""
    fleet, bank = Fleet(CoreConfig(shutdown_s=1)), Bank()
    ledger = MemoryLedger(final_after_s=20.0)
    async with fleet.worker("b", VerifiableEngine(ledger)) as b:
        async with fleet.worker("a", VerifiableEngine(ledger)) as a:
            await until(lambda: fleet.books.held() == [4, 4])
            mine = names_of(fleet, "a")
            for name in mine:
                await owe(a, name)
            await until(lambda: len(ledger.submissions) == 4)
        left = anyio.current_time()
        await until(lambda: fleet.books.held() == [8], within_s=POLL_S + 0.1)
        assert anyio.current_time() - left <= POLL_S + 0.1
        for name in mine:
            await owe(b, name, 5, key="other")
        await until(lambda: all(fleet.account(name).outgoing.settled == 15 for name in mine))
    assert ledger.total() == 4 * 15
    assert len(ledger.transactions) == len(ledger.submissions) == 8, "verified, not submitted again"
    assert not bank.paid


async def test_a_worker_whose_engine_cannot_connect_holds_nothing() -> None:
    """It never took part, so the others need not wait for it."""
    fleet, bank = Fleet(), Bank()
    with pytest.raises(ExceptionGroup):
        async with fleet.worker("a", object()):
            raise AssertionError("never gets here")
    async with fleet.worker("b", bank.engine("b")) as b:
        await owe(b, NAMES[0])
        await all_paid_once(fleet, bank, NAMES[:1], within_s=0.1)


# when a lease is lost


async def test_a_minimal_engine_cut_off_while_it_pays_is_not_paid_again_by_another() -> None:
    """Its answer is not recorded, but told; the new owner keeps the amount in doubt and goes on with new money."""
    fleet, bank = Fleet(), Bank(takes_s=30.0)
    async with AsyncExitStack() as stack:
        a, b = await two(stack, fleet, bank.engine("a"), bank.engine("b"))
        name = names_of(fleet, "a")[0]
        await owe(a, name)
        await until(lambda: bank.paid[name] == 10)
        fleet.stores["a"].blocked = True
        await until(lambda: fleet.account(name).outgoing.parked == 10, within_s=LEASE_S + POLL_S + 0.1)
        await anyio.sleep(30)
        fleet.stores["a"].blocked = False
        bank.takes_s = 0.0
        await owe(b, name, 5, key="other")
        await until(lambda: fleet.account(name).outgoing.settled == 5)
        await until(lambda: fleet.books.held() == [4, 4])
        await anyio.sleep(30)
        not_paid_twice(fleet, bank, name)
        assert bank.paid[name] == 15
    (unrecorded,) = fleet.ears["a"].of(MovedUnrecorded)
    assert (unrecorded.account_id, unrecorded.amount) == (name, 10)
    assert [event.account_id for event in fleet.ears["a"].of(LeaseGone)] == [name]
    assert fleet.ears["a"].of(AccountHalted) == fleet.ears["b"].of(AccountHalted) == []


async def test_a_verifiable_engine_cut_off_while_it_pays_is_looked_up_by_another() -> None:
    """The new owner asks the ledger first, and settles what is there; nobody has to decide anything."""

    class Slow(RecordingEngine):
        async def submit(self, payment: Payment) -> None:
            await super().submit(payment)
            await anyio.sleep(30)

    fleet, ledger = Fleet(), MemoryLedger()
    other = RecordingEngine(ledger)
    async with AsyncExitStack() as stack:
        a, _ = await two(stack, fleet, Slow(ledger), other)
        name = names_of(fleet, "a")[0]
        await owe(a, name)
        await until(lambda: ledger.total() == 10)
        fleet.stores["a"].blocked = True
        await until(lambda: fleet.account(name).outgoing.settled == 10, within_s=LEASE_S + POLL_S + 0.1)
        await anyio.sleep(30)
        fleet.stores["a"].blocked = False
        await anyio.sleep(30)
    assert ledger.total() == 10
    assert [what for _, what in other.asked] == ["verify"]


@pytest.mark.parametrize("lost", [False, True])
async def test_nothing_is_paid_under_a_lease_that_may_have_run_out(lost: bool) -> None:
    """Suspended for a minute between claim and payment: it asks first, and pays only if the lease is still its own."""
    fleet, bank = Fleet(), Bank()

    def suspend(command: Any, result: Any) -> None:
        if isinstance(result, Claimed) and not claimed:
            fleet.wall_ahead_s["a"] = 60.0
            claimed.append(anyio.current_time())
            if lost:
                fleet.books.give(name, "b")

    claimed: list[float] = []
    async with AsyncExitStack() as stack:
        a, _ = await two(stack, fleet, bank.engine("a"), bank.engine("b"))
        name = names_of(fleet, "a")[0]
        await anyio.sleep(0.5)
        fleet.stores["a"].after = suspend
        await owe(a, name)
        await until(lambda: not fleet.account(name).outgoing.open and not fleet.account(name).outgoing.queued)
        await anyio.sleep(5)
        not_paid_twice(fleet, bank, name)
        if lost:
            assert fleet.account(name).outgoing.parked == 10
            assert bank.by == []
        else:
            assert fleet.account(name).outgoing.settled == 10
            ((when, worker, _),) = bank.by
            assert worker == "a"
            assert 0 < when - claimed[0] <= POLL_S
    # b has too much then, and may well give just this one back
    assert sum(len(fleet.ears[worker].of(SettlementInDoubt)) for worker in "ab") == lost


async def test_money_claimed_while_it_was_suspended_is_handed_back_at_shutdown() -> None:
    """Not knowing whether the lease still holds when it has to stop, it pays nothing and leaves nothing in doubt."""
    fleet, bank = Fleet(), Bank()

    def suspend(command: Any, result: Any) -> None:
        if isinstance(result, Claimed):
            fleet.wall_ahead_s["a"] = 60.0

    async with fleet.worker("a", bank.engine("a")) as a:
        await a.create_account(NAMES[0])
        fleet.stores["a"].after = suspend
        await a.request_settlement(NAMES[0], D(10), "key")
        await anyio.sleep(0.01)
        assert [lane.doing for lane in a.lanes()] == ["making sure of the lease"]
    assert fleet.account(NAMES[0]).outgoing.queued == 10
    async with fleet.worker("b", bank.engine("b")):
        await all_paid_once(fleet, bank, NAMES[:1])


async def test_what_is_repeated_is_not_repeated_without_the_lease() -> None:
    """A payment to be submitted again and a credit to be offered again wait while the worker is cut off.

    Whatever the wall clock says, which somebody sets back.
    """
    fleet, ledger = Fleet(), MemoryLedger()
    mine = RecordingEngine(ledger, fail=["submit-before"] * 1000)
    async with AsyncExitStack() as stack:
        a, _ = await two(stack, fleet, mine, VerifiableEngine(ledger, fail=["submit-before"] * 20))
        name = names_of(fleet, "a")[0]
        fleet.connectors["a"].answers = [Unanswered("503")] * 1000
        fleet.connectors["a"].applies_before_failing = False
        await owe(a, name)
        await fleet.services["a"].credit_settlement(name, D(3), "tx")
        await anyio.sleep(5)
        fleet.stores["a"].blocked = True
        fleet.wall_ahead_s["a"] = -3600.0
        cut_off = anyio.current_time()
        await until(lambda: fleet.account(name).outgoing.settled == 10, within_s=LEASE_S + POLL_S + 21)
        await until(lambda: fleet.account(name).incoming.settled == 3)
        await anyio.sleep(100)
        fleet.stores["a"].blocked = False
        await anyio.sleep(30)
    submitted = [when for when, what in mine.asked if what == "submit"]
    assert cut_off < submitted[-1] <= cut_off + LEASE_S
    assert fleet.connectors["a"].offers[-1][0] <= cut_off + LEASE_S
    assert ledger.total() == 10
    assert fleet.connectors["b"].total() == 3


async def test_a_refusal_heard_under_a_lost_lease_does_not_hold_what_another_worker_offers() -> None:
    """The connector's "never" comes after the account was lost: its new owner's attempt stays as it is."""
    fleet, bank = Fleet(), Bank()
    async with AsyncExitStack() as stack:
        await two(stack, fleet, bank.engine("a"), bank.engine("b"))
        name = names_of(fleet, "a")[0]
        fleet.connectors["a"].answers, fleet.connectors["a"].takes_s = [Refused("400")], 30.0
        fleet.connectors["b"].answers = [Unanswered("503")] * 8
        await a_credit(fleet, name)
        fleet.stores["a"].blocked = True
        await anyio.sleep(35)
        assert len(fleet.connectors["b"].offers) > 3
        fleet.stores["a"].blocked = False
        await until(lambda: fleet.account(name).incoming.settled == 3)
    assert fleet.connectors["b"].total() == 3
    assert not fleet.ears["a"].of(CreditHeld)


@pytest.mark.parametrize("shielded", [False, True])
async def test_a_worker_that_gets_an_account_back_looks_at_it_anew(shielded: bool) -> None:
    """Under another lease it is like another worker, even while what it did before is still being cut."""
    fleet, bank = Fleet(), Bank(takes_s=20.0)
    engine = bank.engine("a")
    engine.shielded = shielded
    async with fleet.worker("a", engine) as a:
        name = NAMES[0]
        await owe(a, name)
        await until(lambda: bank.paid[name] == 10)
        fleet.books.revoke(name)
        await until(lambda: fleet.books.owner(name) == "a", within_s=POLL_S + 0.1)
        bank.takes_s, engine.shielded = 0.0, False
        await a.request_settlement(name, D(5), "other")
        await until(lambda: fleet.account(name).outgoing.settled == 5, within_s=20.1)
        assert fleet.account(name).outgoing.parked == bank.paid[name] - 5 == 10
        not_paid_twice(fleet, bank, name)
        await until(lambda: a.statistics().active_lanes == 0)
    assert len(fleet.ears["a"].of(LeaseGone)) == 1
    assert len(fleet.ears["a"].of(PartitionsChanged)) == 2


async def test_credits_that_are_cut_give_their_places_back() -> None:
    """As many credits as may be under way hang and are cut by lost leases: the next ones go out all the same."""
    fleet, bank = Fleet(), Bank()
    fleet.connectors["a"] = FakeConnector(takes_s=10_000.0)
    names = [f"peer-{number}" for number in range(2 * AT_ONCE)]
    async with fleet.worker("a", bank.engine("a")):
        for name in names:
            fleet.books.inner.apply([OpenAccount(account_id=name, at=0.0)])
            await fleet.services["a"].credit_settlement(name, D(3), "tx")
        await until(lambda: len(fleet.connectors["a"].offers) == AT_ONCE)
        fleet.connectors["a"].takes_s = 0.0
        for name in names:
            fleet.books.revoke(name)
        await until(lambda: all(fleet.account(name).incoming.settled == 3 for name in names), within_s=60)
    assert fleet.connectors["a"].total() == 3 * len(names)


async def test_a_refused_lease_is_given_up_before_a_round_says_so() -> None:
    """One refusal cuts all the partition's lanes, tells each account once, and what it is to do is done elsewhere."""
    fleet, bank = Fleet(CoreConfig(lease_s=100, poll_s=30)), Bank()
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(fleet.worker("a", bank.engine("a")))
        names = names_in(0)
        first, second = next(names), next(names)
        bank.takes_s = 50.0
        await owe(a, first)
        await until(lambda: bank.paid[first] == 10)
        fleet.books.give(first, "b")
        await owe(a, second)
        await until(lambda: a.statistics().active_lanes == 0, within_s=0.1)
        assert a.statistics().partitions_held == 7
        bank.takes_s = 0.0
        await stack.enter_async_context(fleet.worker("b", bank.engine("b")))
        await all_paid_once(fleet, bank, [second])
        await until(lambda: fleet.account(first).outgoing.parked == 10)
        not_paid_twice(fleet, bank, first)
    assert sorted(event.account_id for event in fleet.ears["a"].of(LeaseGone)) == sorted([first, second])


async def test_a_worker_that_is_refused_asks_at_once_what_is_its_own() -> None:
    """Its lease ran out and nobody took it: it has it back, and pays, long before its next round."""
    fleet, bank = Fleet(CoreConfig(lease_s=100, poll_s=30)), Bank()
    async with fleet.worker("a", bank.engine("a")) as a:
        await a.create_account(NAMES[0])
        fleet.books.revoke(NAMES[0])
        await owe(a, NAMES[0])
        await all_paid_once(fleet, bank, NAMES[:1], within_s=0.1)


async def test_an_engine_that_breaks_its_contract_while_cut_halts_nothing() -> None:
    """What it answers under a lost lease is nobody's any more, and the account goes on under the next."""

    class Odd(BankEngine):
        async def settle(self, account_id: str, amount: Decimal) -> Any:
            await super().settle(account_id, amount)
            return "much" if amount == 10 else amount

    fleet, bank = Fleet(), Bank(takes_s=20.0)
    async with fleet.worker("a", Odd(bank, "a", shielded=True)) as a:
        await owe(a, NAMES[0])
        await until(lambda: bank.paid[NAMES[0]] == 10)
        fleet.books.revoke(NAMES[0])
        await a.request_settlement(NAMES[0], D(5), "other")
        await until(lambda: fleet.account(NAMES[0]).outgoing.settled == 5)
        assert not a.statistics().halted
        not_paid_twice(fleet, bank, NAMES[0])


async def test_a_lane_that_is_being_cut_submits_nothing_any_more() -> None:
    """The look-up that was under way ends in its own time, and says to submit again: that is for the next owner."""

    class Slow(RecordingEngine):
        async def verify(self, payment: Payment) -> Any:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(20)
                return await super().verify(payment)

    fleet, ledger = Fleet(), MemoryLedger()
    mine = Slow(ledger, fail=["submit-before"])
    async with AsyncExitStack() as stack:
        a, _ = await two(stack, fleet, mine, RecordingEngine(ledger, fail=["verify"] * 5))
        name = names_of(fleet, "a")[0]
        await owe(a, name)
        await until(lambda: len(mine.asked) == 1)
        fleet.books.give(name, "b")
        await until(lambda: fleet.account(name).outgoing.settled == 10)
    # b has too much then, and may give just this account back: that begins with a look-up again
    assert [what for _, what in mine.asked][:3] in (["submit", "verify"], ["submit", "verify", "verify"])
    assert ledger.total() == 10


async def test_a_payment_prepared_under_a_lost_lease_is_not_noted() -> None:
    """It comes late, and is another than the new owner will prepare: only the owner's is ever kept and paid."""

    class Preparing(VerifiableEngine):
        takes_s = 0.0

        async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
            await anyio.sleep(self.takes_s)
            payment = await super().prepare(account_id, amount, attempt_id)
            return payment and Payment(payment.amount, {"tx": attempt_id, "by": self.takes_s})

    fleet, ledger = Fleet(), MemoryLedger()
    one, other = Preparing(ledger), Preparing(ledger)
    one.takes_s, other.takes_s = 30.0, 40.0
    async with AsyncExitStack() as stack:
        a, _ = await two(stack, fleet, one, other)
        name = names_of(fleet, "a")[0]
        await owe(a, name)
        await anyio.sleep(1)
        fleet.stores["a"].blocked = True
        await anyio.sleep(32)
        fleet.stores["a"].blocked = False
        await until(lambda: fleet.account(name).outgoing.settled == 10)
    assert fleet.ears["b"].of(AccountHalted) == []
    assert ledger.total() == 10


async def test_a_halted_account_is_tried_by_whoever_gets_it() -> None:
    """It halts one worker's lane, not the account for ever."""

    class Odd(BankEngine):
        async def settle(self, account_id: str, amount: Decimal) -> Any:
            return "much"

    fleet, bank = Fleet(), Bank()
    async with fleet.worker("a", Odd(bank, "a")) as a:
        await owe(a, NAMES[0])
        await until(lambda: len(a.statistics().halted) == 1)
        fleet.books.revoke(NAMES[0])
        await until(lambda: not a.statistics().halted, within_s=POLL_S + 0.1)
        await until(lambda: fleet.account(NAMES[0]).outgoing.parked == 10)
    assert bank.paid[NAMES[0]] == 0


# giving up


async def test_an_effect_under_way_ends_before_its_account_is_given_up() -> None:
    """Nothing is cut or in doubt; what is asked meanwhile is paid by the next owner."""
    fleet, bank = Fleet(), Bank(takes_s=30.0)
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(fleet.worker("a", bank.engine("a")))
        for name in NAMES:
            await owe(a, name)
        await until(lambda: len(bank.by) == 8)
        b = await stack.enter_async_context(fleet.worker("b", bank.engine("b")))
        await anyio.sleep(20)
        assert fleet.books.held() == [8, 0]
        for name in NAMES:
            await owe(b, name, 5, key="other")
        bank.takes_s = 0.0
        await until(lambda: fleet.books.held() == [4, 4], within_s=10 + POLL_S + 0.1)
        await all_paid_once(fleet, bank, NAMES, within_s=2 * POLL_S + 0.1)
        assert {worker for _, worker, _ in bank.by[8:]} == {"a", "b"}
    assert fleet.ears["a"].of(LeaseGone) == []


async def test_what_is_idle_is_given_up_first_and_at_once() -> None:
    """Four partitions are at work: the four others go, without waiting for anything."""
    fleet, bank = Fleet(), Bank(takes_s=30.0)
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(fleet.worker("a", bank.engine("a")))
        for name in NAMES[::2]:
            await owe(a, name)
        await until(lambda: len(bank.by) == 4)
        await stack.enter_async_context(fleet.worker("b", bank.engine("b")))
        await until(lambda: fleet.books.held() == [4, 4], within_s=2 * POLL_S + 0.1)
        assert names_of(fleet, "a") == NAMES[::2]
        await all_paid_once(fleet, bank, NAMES[::2])


async def test_an_account_that_need_not_be_given_up_after_all_goes_on() -> None:
    """The newcomer left again before anything could be given up: what was asked meanwhile is paid here."""
    fleet, bank = Fleet(), Bank(takes_s=30.0)
    async with fleet.worker("a", bank.engine("a")) as a:
        for name in NAMES:
            await owe(a, name)
        await until(lambda: len(bank.by) == 8)
        async with fleet.worker("b", bank.engine("b")):
            await anyio.sleep(5)
        bank.takes_s = 0.0
        for name in NAMES:
            await owe(a, name, 5, key="other")
        others = [next(n for n in names_in(place) if n not in NAMES) for place in range(8)]
        for name in others:
            await owe(a, name)
        await all_paid_once(fleet, bank, others, within_s=POLL_S + 0.1)
        await all_paid_once(fleet, bank, NAMES, within_s=30.1)
        assert {worker for _, worker, _ in bank.by} == {"a"}
        assert fleet.books.held() == [8]


async def test_payments_that_wait_are_given_up_at_once_and_looked_up_by_the_next_owner() -> None:
    """Open attempts of a verifiable engine need not end here: the ledger knows."""
    fleet, ledger = Fleet(), MemoryLedger(final_after_s=100.0)
    other = RecordingEngine(ledger)
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(fleet.worker("a", RecordingEngine(ledger)))
        for name in NAMES:
            await owe(a, name)
        await until(lambda: len(ledger.submissions) == 8)
        await stack.enter_async_context(fleet.worker("b", other))
        await until(lambda: fleet.books.held() == [4, 4], within_s=2 * POLL_S + 0.1)
        await until(lambda: all(fleet.account(name).outgoing.settled == 10 for name in NAMES))
    assert ledger.total() == 80
    assert {what for _, what in other.asked} == {"verify"}


# rings


async def test_any_worker_takes_requests_and_hands_them_to_the_one_that_pays() -> None:
    """Without hints that takes a round, and whatever is asked for again is paid once."""
    fleet, bank = Fleet(), Bank()
    async with AsyncExitStack() as stack:
        a, b = await two(stack, fleet, bank.engine("a"), bank.engine("b"))
        for _ in range(3):
            for name in NAMES:
                await owe(a, name)
                await owe(b, name)
        await all_paid_once(fleet, bank, NAMES, within_s=POLL_S + 0.1)
        assert {(worker, name) for _, worker, name in bank.by} == {(fleet.books.owner(name), name) for name in NAMES}
        for name in NAMES:
            await fleet.services["a"].credit_settlement(name, D(3), "tx")
        await until(lambda: all(fleet.account(name).incoming.settled == 3 for name in NAMES), within_s=POLL_S + 0.1)
    assert fleet.connectors["a"].total() == fleet.connectors["b"].total() == 12


@pytest.mark.parametrize("anyio_backend", ["trio", "asyncio"])
async def test_a_hint_is_heard_at_once() -> None:
    """In real time, long before the next round would be asked: of newcomers, of what is free, and of requests."""
    fleet, bank = Fleet(CoreConfig(lease_s=300, poll_s=100)), Bank()
    with anyio.fail_after(30):
        async with AsyncExitStack() as stack:
            a = await stack.enter_async_context(fleet.worker("a", bank.engine("a"), hints=True))
            await until(lambda: fleet.books.held() == [8])
            b = await stack.enter_async_context(fleet.worker("b", bank.engine("b"), hints=True))
            await until(lambda: fleet.books.held() == [4, 4])
            for name in NAMES:
                await owe(a, name)
                await owe(b, name, 5, key="other")
            await all_paid_once(fleet, bank, NAMES)
            expected = {(fleet.books.owner(name), name) for name in NAMES}
        assert {(worker, name) for _, worker, name in bank.by} == expected
    # nobody reads these threads' answers any more, but they should end before the tests do
    fleet.books.hint()


async def test_a_nudge_reaches_the_worker_that_backs_off() -> None:
    """An operator may ask any worker to try again now, which happens once each time."""
    fleet, bank = Fleet(), Bank()
    failing = bank.engine("a")
    failing.fails = 8
    async with AsyncExitStack() as stack:
        a, b = await two(stack, fleet, failing, bank.engine("b"))
        name = names_of(fleet, "a")[0]
        await owe(a, name)
        await until(lambda: failing.fails == 2, within_s=1000)
        b.try_settlement(name)
        await anyio.sleep(10)
        assert failing.fails == 1
        a.try_settlement(name)
        await anyio.sleep(10)
        assert failing.fails == 0
        b.try_settlement(name)
        await all_paid_once(fleet, bank, [name], within_s=POLL_S + 0.1)
        assert bank.by[-1][1] == "a"


async def test_what_a_person_decides_anywhere_is_gone_on_with_by_the_owner() -> None:
    """Money that never moved is paid as soon as somebody said so, to whichever worker."""
    fleet, bank = Fleet(), Bank()

    class Unclear(BankEngine):
        async def settle(self, account_id: str, amount: Decimal) -> Decimal:
            if self.fails:
                self.fails -= 1
                raise ConnectionError("no answer")
            return await super().settle(account_id, amount)

    async with AsyncExitStack() as stack:
        a, b = await two(stack, fleet, Unclear(bank, "a", fails=1), bank.engine("b"))
        name = names_of(fleet, "a")[0]
        await owe(a, name)
        await until(lambda: fleet.account(name).outgoing.parked == 10)
        attempt_id = fleet.attempts()[0].attempt_id
        await b.decide(
            Resolve(account_id=name, attempt_id=attempt_id, settled=D(0), reason="never left", by="ann", at=0.0)
        )
        await all_paid_once(fleet, bank, [name], within_s=POLL_S + 0.1)
        assert [worker for _, worker, _ in bank.by] == ["a"]


async def test_a_store_that_hears_nothing_at_once_is_not_asked_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be reached may give up early."""

    async def run_here(call: Callable[..., Any], *args: object, **_options: object) -> Any:
        await anyio.lowlevel.checkpoint()  # virtual time would not wait for a thread
        return call(*args)

    monkeypatch.setattr(anyio.to_thread, "run_sync", run_here)

    class Deaf(WorkerStore):
        heard = 0

        def hear(self, worker: str, timeout_s: float) -> bool:
            self.heard += 1
            return False

    fleet, bank = Fleet(), Bank()
    store = Deaf(fleet.books, "a")
    async with fleet.worker("a", bank.engine("a"), store=store) as a:
        await owe(a, NAMES[0])
        await all_paid_once(fleet, bank, NAMES[:1], within_s=0.1)
        await anyio.sleep(20)
    assert 10 <= store.heard <= 21


async def test_a_store_that_breaks_for_good_ends_every_worker_with_the_real_error() -> None:
    """What was acknowledged stays, and nothing hides the cause."""

    class Breaking(WorkerStore):
        broken = False

        def apply(self, commands: Sequence[Command[Any]]) -> list[Result]:
            if self.broken:
                raise StoreBroken("of another version")
            return super().apply(commands)

    fleet, bank = Fleet(), Bank()
    store = Breaking(fleet.books, "a")
    with pytest.raises(ExceptionGroup) as caught:
        async with fleet.worker("a", bank.engine("a"), store=store) as a:
            await owe(a, NAMES[0])
            await all_paid_once(fleet, bank, NAMES[:1])
            store.broken = True
            await anyio.sleep_forever()
    assert caught.group_contains(StoreBroken, match="of another version")


def test_leases_outlast_a_few_rounds() -> None:
    """Else one slow answer would cost a worker everything."""
    with pytest.raises(ValueError, match=r"poll_s is above 0 and at most a third of lease_s, not 4 of 10"):
        CoreConfig(lease_s=10, poll_s=4)


# outages


async def test_after_an_outage_of_the_store_everybody_goes_on_with_what_was_theirs() -> None:
    """A minute without a store: effects wait, leases are renewed, and nothing is in doubt or paid twice."""
    fleet, bank = Fleet(), Bank()
    async with AsyncExitStack() as stack:
        a, b = await two(stack, fleet, bank.engine("a"), bank.engine("b"))
        before = [lease.token for lease in fleet.books.leases]
        bank.takes_s = 5.0
        for name in NAMES:
            await owe(a, name)
        await until(lambda: len(bank.by) == 8)
        for store in fleet.stores.values():
            store.blocked = True
        await anyio.sleep(60)
        for store in fleet.stores.values():
            store.blocked = False
        await all_paid_once(fleet, bank, NAMES)
        assert [lease.token for lease in fleet.books.leases] == before
        assert not a.statistics().halted
        assert not b.statistics().halted


async def test_the_start_of_a_worker_with_nothing_to_do_is_a_recovery_all_the_same() -> None:
    """Whoever waits for `recovered` does not wait for ever."""
    fleet, bank = Fleet(), Bank()
    async with fleet.worker("a", bank.engine("a")) as a:
        await until(lambda: a.statistics().recovered, within_s=0.1)
        assert len(fleet.ears["a"].of(RecoveryFinished)) == 1
