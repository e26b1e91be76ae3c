"""Settling with an engine that can ask its ledger: nothing is paid twice and nothing is left to a person."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from settlement_core.abc import InDoubt, Pending, Rejected, Settled, Verdict
from settlement_core.core.config import CoreConfig
from settlement_core.values.commands import Pause
from settlement_core.values.events import AccountHalted, AccountPaused, PaymentRejected, SettlementInDoubt
from settlement_core.values.records import AttemptState, Payment
from tests.core.worlds import D, MemoryLedger, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio


def make_world(*fail: str, **ledger: Any) -> World:
    """Return a world with a verifiable engine that fails as named."""
    return World(VerifiableEngine(MemoryLedger(**ledger), fail=list(fail)))


async def settle(world: World, amount: int = 10, *, within_s: float = 600.0) -> None:
    """Ask for a settlement and wait until it is recorded."""
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(amount), "key")
        await until(lambda: world.account().outgoing.settled == amount, within_s=within_s)


@pytest.mark.parametrize(
    "fail",
    [
        (),
        ("prepare",),
        ("prepare", "prepare"),
        ("unworthy",),
        ("submit-before",),
        ("submit-after",),
        ("verify",),
        ("submit-after", "verify"),
        ("submit-before", "submit-before", "verify"),
    ],
    ids="+".join,
)
async def test_whatever_fails_on_the_way_it_is_paid_once(fail: tuple[str, ...]) -> None:
    """Every failing step is repeated or looked up until the ledger says that it is settled."""
    world = make_world(*fail)
    await settle(world)
    assert world.engine.ledger.total() == 10
    assert world.ears.of(SettlementInDoubt) == []
    assert world.account().outgoing.parked == 0


async def test_the_payment_is_durable_before_it_is_first_submitted() -> None:
    """At the moment the ledger first sees the payment, the store already has it."""
    noted: list[Payment | None] = []

    class Watching(VerifiableEngine):
        async def submit(self, payment: Payment) -> None:
            noted.append(world.attempts()[0].payment)
            await super().submit(payment)

    world = World(Watching(MemoryLedger()))
    await settle(world)
    assert noted == [Payment(D(10), {"tx": world.attempts()[0].attempt_id})]


async def test_a_pending_payment_is_looked_at_when_the_engine_says() -> None:
    """Final after 90 s: settled at exactly 90 s, having been submitted once."""
    world = make_world(final_after_s=90.0)
    async with world.core() as core:
        await core.create_account("alice")
        began = anyio.current_time()
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: world.account().outgoing.settled == 10)
        assert anyio.current_time() - began == pytest.approx(90, abs=0.02)
    assert len(world.engine.ledger.submissions) == 1


async def test_new_money_does_not_hurry_an_open_payment() -> None:
    """Requests arriving meanwhile wait for the next attempt, and cause no extra look-up."""
    looks: list[float] = []

    class Counting(VerifiableEngine):
        async def verify(self, payment: Payment) -> Verdict:
            looks.append(anyio.current_time())
            return await super().verify(payment)

    world = World(Counting(MemoryLedger(final_after_s=100.0)))
    async with world.core() as core:
        await core.create_account("alice")
        for number in range(20):
            await core.request_settlement("alice", D(1), str(number))
            await anyio.sleep(1)
        assert len(looks) == 1
        await until(lambda: world.account().outgoing.settled == 20, every_s=1.0)
    assert [amount for _, _, amount in world.engine.prepared] == [D(1), D(19)]


async def test_a_lost_submission_is_repeated_with_the_identical_payment() -> None:
    """The look-up finds nothing and asks for it again: the ledger sees one id, once effective."""
    world = make_world("submit-before")
    await settle(world)
    assert len(world.engine.prepared) == 1
    assert {tx for _, tx in world.engine.ledger.submissions} == {world.attempts()[0].attempt_id}


async def test_only_a_final_rejection_frees_the_money() -> None:
    """The money is queued again and paid by a new attempt, after a back-off."""
    world = make_world(reject_next=1)
    await settle(world)
    (event,) = world.ears.of(PaymentRejected)
    one, two = world.engine.prepared
    assert (event.attempt_id, event.reason) == (one[1], "nonce taken")
    assert one[1] != two[1]
    assert two[0] - one[0] == pytest.approx(5)
    assert list(world.engine.ledger.transactions) == [two[1]]


async def test_a_rejection_that_pauses_frees_the_money_and_begins_nothing_more() -> None:
    """The engine finds that paying only costs fees: the account waits for an operator, with all of its money queued."""

    class Costly(VerifiableEngine):
        async def verify(self, payment: Payment) -> Verdict:
            if len(self.prepared) == 3:
                return await super().verify(payment)
            self.ledger.transactions.clear()
            return Rejected("reverted", pause=True)

    world = World(Costly(MemoryLedger()))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: len(world.ears.of(AccountPaused)) == 1)
        await core.request_settlement("alice", D(1), "another")
        await anyio.sleep(10_000)
        assert len(world.engine.prepared) == 1
        account = world.account()
        assert (account.paused, account.outgoing.queued, account.outgoing.parked) == (True, D(11), D(0))
        resumed = Pause(account_id="alice", paused=False, reason="mended", by="carol", at=0.0)
        await core.decide(resumed)
        await until(lambda: len(world.ears.of(AccountPaused)) == 2)
        await core.decide(resumed)
        await until(lambda: world.account().outgoing.settled == 11)
    assert world.engine.ledger.total() == 11


async def test_what_the_ledger_can_never_tell_is_in_doubt() -> None:
    """The attempt is parked for an operator, and what is asked for later is paid."""

    class Doubtful(VerifiableEngine):
        async def verify(self, payment: Payment) -> Verdict:
            return InDoubt("somebody else's") if len(self.prepared) == 1 else await super().verify(payment)

    world = World(Doubtful(MemoryLedger()))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: world.account().outgoing.parked == 10)
        await core.request_settlement("alice", D(1), "another")
        await until(lambda: world.account().outgoing.settled == 1)
    (doubt,) = world.ears.of(SettlementInDoubt)
    assert (doubt.amount, doubt.reason) == (D(10), "somebody else's")
    assert world.account().outgoing.parked == 10


async def test_a_verdict_that_nothing_moved_frees_the_whole_payment() -> None:
    """The first payment expired on the ledger, which is final: nothing of it counts, and all of it is paid again."""

    class Expiring(VerifiableEngine):
        async def verify(self, payment: Payment) -> Verdict:
            (first, *_) = self.prepared
            if payment.reference == {"tx": first[1]}:
                self.ledger.transactions.pop(first[1], None)
                return Settled(D(0))
            return await super().verify(payment)

    world = World(Expiring(MemoryLedger()))
    await settle(world)
    assert [attempt.settled for attempt in world.attempts()] == [D(0), D(10)]
    assert world.engine.ledger.total() == world.account().outgoing.settled == 10


async def test_a_payment_for_less_leaves_the_rest_to_the_next_one() -> None:
    """A channel that carries 4 at a time settles 10 in three payments, without waiting in between."""
    world = make_world()
    world.engine.largest = D(4)
    await settle(world, within_s=1)
    assert [amount for _, amount in world.engine.ledger.transactions.values()] == [D(4), D(4), D(2)]


async def test_look_ups_that_fail_change_nothing_and_back_off_up_to_an_hour() -> None:
    """A hundred failing look-ups later the payment is still the same, and they came at most an hour apart."""
    world = make_world(*["verify"] * 100)
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await anyio.sleep(1)
        with anyio.fail_after(100 * 3600):
            while world.account().outgoing.settled != 10:
                await anyio.sleep(600)
    assert len(world.engine.ledger.submissions) == 1
    assert len(world.engine.prepared) == 1


@pytest.mark.parametrize("phase", ["prepared", "noted", "submitted", "final"])
async def test_a_crash_in_any_phase_is_made_good_by_the_next_life(phase: str) -> None:
    """From the store alone, the next life pays exactly once, whatever had happened before the crash."""
    world = make_world(final_after_s=0.0 if phase == "final" else 5.0)
    at = {
        "prepared": lambda: bool(world.engine.prepared),
        "noted": lambda: bool(world.attempts()) and world.attempts()[0].payment is not None,
        "submitted": lambda: bool(world.engine.ledger.submissions),
        "final": lambda: world.account().outgoing.settled == 10,
    }
    reached: list[World] = []

    def look() -> None:
        if not reached and at[phase]():
            reached.append(world.crashed())

    async def watch() -> None:
        while not reached:
            look()
            await anyio.lowlevel.checkpoint()

    async with world.core() as core, anyio.create_task_group() as tasks:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        tasks.start_soon(watch)
    (later,) = reached
    async with later.core():
        await until(lambda: later.account().outgoing.settled == 10)
    assert later.engine.ledger.total() == 10
    assert len(later.engine.ledger.transactions) == 1


@pytest.mark.parametrize(
    "payment",
    [
        Payment(D(11), {}),
        Payment(D(0), {}),
        Payment(D(-1), {}),
        Payment(D("NaN"), {}),
        Payment(D(1), {"bytes": b"raw"}),
        Payment(1, {}),  # type: ignore[arg-type]
        "paid",
    ],
    ids=repr,
)
async def test_an_impossible_payment_halts_the_account_before_anything_is_submitted(payment: Any) -> None:
    """The attempt stays open, nothing is noted, nothing reaches the ledger."""

    class Impossible(VerifiableEngine):
        async def prepare(self, account_id: str, amount: Any, attempt_id: str) -> Any:
            return payment

    world = World(Impossible(MemoryLedger()))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: bool(world.ears.of(AccountHalted)))
    assert world.attempts()[0].state is AttemptState.OPEN
    assert world.attempts()[0].payment is None
    assert world.engine.ledger.submissions == []


@pytest.mark.parametrize(
    "verdict", [Settled(D(11)), Settled(D(-1)), Pending(-1.0), Pending(float("nan")), True, None], ids=repr
)
async def test_an_impossible_verdict_halts_the_account_with_its_payment_open(verdict: Any) -> None:
    """A later, mended engine looks the payment up again."""

    class Impossible(VerifiableEngine):
        async def verify(self, payment: Payment) -> Any:
            return verdict

    world = World(Impossible(MemoryLedger()))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: bool(world.ears.of(AccountHalted)))
    assert world.account().outgoing.open == 10
    later = replace(world, engine=VerifiableEngine(world.engine.ledger))
    async with later.core():
        await until(lambda: later.account().outgoing.settled == 10)
    assert later.engine.ledger.total() == 10


async def test_unworthy_money_waits_for_more_or_for_its_back_off() -> None:
    """`None` from prepare keeps the money queued; a new request has both offered together at once."""
    world = make_world("unworthy")
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(1), "a")
        await until(lambda: len(world.engine.prepared) == 1)
        await anyio.sleep(1)
        assert world.account().outgoing.queued == 1
        await core.request_settlement("alice", D(2), "b")
        await until(lambda: world.account().outgoing.settled == 3)
        assert anyio.current_time() < 2
    assert [amount for _, _, amount in world.engine.prepared] == [D(1), D(3)]


async def test_the_engine_gets_back_its_reference_as_json() -> None:
    """What the engine is shown after preparing is what the store keeps, so a test cannot pass on more than that."""
    seen: list[object] = []

    class Tuples(VerifiableEngine):
        async def prepare(self, account_id: str, amount: Any, attempt_id: str) -> Payment:
            return Payment(amount, {"tx": attempt_id, "list": (1, 2)})

        async def submit(self, payment: Payment) -> None:
            seen.append(payment.reference)
            await super().submit(payment)

    world = World(Tuples(MemoryLedger()), config=CoreConfig())
    await settle(world)
    assert seen == [{"tx": world.attempts()[0].attempt_id, "list": [1, 2]}]


async def test_a_noted_payment_is_never_prepared_anew() -> None:
    """An engine that picks a fresh number each time would otherwise pay twice: the next life asks about the first."""

    class Numbering(VerifiableEngine):
        async def prepare(self, account_id: str, amount: Any, attempt_id: str) -> Payment | None:
            payment = await super().prepare(account_id, amount, attempt_id)
            assert payment is not None
            return Payment(payment.amount, {"tx": f"{attempt_id} number {len(self.prepared)}"})

    world = World(Numbering(MemoryLedger(final_after_s=50.0)))
    for _ in range(3):
        async with world.core() as core:
            await core.create_account("alice")
            await core.request_settlement("alice", D(10), "key")
            await anyio.sleep(10)
    async with world.core():
        await until(lambda: world.account().outgoing.settled == 10)
    assert len(world.engine.prepared) == 1
    assert world.engine.ledger.total() == 10
    assert world.ears.of(AccountHalted) == []


async def test_nothing_is_submitted_once_shutdown_began() -> None:
    """Prepared a moment too late: the attempt stays open without a payment, and the next life pays it."""

    class Slow(VerifiableEngine):
        async def prepare(self, account_id: str, amount: Any, attempt_id: str) -> Payment | None:
            await anyio.sleep(5)
            return await super().prepare(account_id, amount, attempt_id)

    world = World(Slow(MemoryLedger()))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await anyio.sleep(1)
    assert len(world.engine.prepared) == 1
    assert world.engine.ledger.submissions == []
    assert world.attempts()[0].payment is None
    async with world.core():
        await until(lambda: world.account().outgoing.settled == 10)
    assert world.engine.ledger.total() == 10


async def test_a_verdict_of_more_than_the_payment_halts_even_within_the_attempt() -> None:
    """A payment of 4 cannot have settled 5, whatever more was asked for."""

    class Generous(VerifiableEngine):
        async def verify(self, payment: Payment) -> Verdict:
            return Settled(D(5))

    world = World(Generous(MemoryLedger(), largest=D(4)))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(10), "key")
        await until(lambda: bool(world.ears.of(AccountHalted)))
    assert world.account().outgoing.settled == 0
    assert world.account().outgoing.open == 10
