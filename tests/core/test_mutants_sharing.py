"""Under which lease things are recorded, and what is told of leases and of what a store forgot: to every field."""

from __future__ import annotations

from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.abc import Pending, Refused, Unanswered
from settlement_core.core.config import CoreConfig
from settlement_core.values import events as e
from settlement_core.values.commands import Claim, Close, Enqueue, FinishStep, Hold, Note, OpenAccount
from settlement_core.values.records import Direction
from tests.core.shared_books import NAMES, Fleet
from tests.core.test_forgetful_stores import failing_over, make_world
from tests.core.test_forgetful_stores import owe as owe_forgetful
from tests.core.test_sharing import Bank, BankEngine, owe
from tests.core.worlds import D, FakeConnector, MemoryLedger, MinimalEngine, VerifiableEngine, World, until

pytestmark = pytest.mark.anyio


class Setting(VerifiableEngine):
    """Sets accounts up."""

    async def setup_account(self, account_id: str) -> None:
        """Take a moment."""
        await anyio.sleep(0.1)


async def test_whatever_a_lane_records_carries_the_lease_it_works_under() -> None:
    """Claims, notes, closings, parkings and set-ups, of both directions: the store can refuse each once it is lost."""
    fleet = Fleet()
    seen: dict[type, set[str]] = {}
    fleet.connectors["a"] = FakeConnector([Refused("409"), Unanswered("502")])
    async with fleet.worker("a", Setting(MemoryLedger())) as core:
        fleet.stores["a"].after = lambda command, _: seen.setdefault(type(command), set()).add(
            getattr(command, "lease", "")
        )
        await owe(core, NAMES[0])
        for number in range(2):
            await fleet.services["a"].credit_settlement(NAMES[0], D(3), f"tx {number}")
            await until(lambda: core.statistics().active_lanes == 0)
        await until(lambda: fleet.account(NAMES[0]).outgoing.settled == 10)
        (token,) = {lease.token for lease in fleet.books.leases if lease.token == core._context.sharing.token(NAMES[0])}
        assert token
        for kind in (Claim, Note, Close, Hold, FinishStep):
            assert seen[kind] == {token}, kind


async def test_partitions_are_told_as_they_come_and_go() -> None:
    """How many there are, how many are held, and how many of them are new or lost."""
    fleet, bank = Fleet(), Bank()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(fleet.worker("a", bank.engine("a")))
        await until(lambda: fleet.books.held() == [8], within_s=0.1)
        async with fleet.worker("b", bank.engine("b")):
            await until(lambda: fleet.books.held() == [4, 4])
        await until(lambda: fleet.books.held() == [8])
        await anyio.sleep(2)
    changes = [e.PartitionsChanged(held=h, partitions=8, gained=g, lost=lost) for h, g, lost in [(8, 8, 0), (8, 4, 0)]]
    told = fleet.ears["a"].of(e.PartitionsChanged)
    # one by one or together, what is given up is told as lost
    assert [told[0], told[-1]] == changes
    assert sum(event.lost for event in told) == 4
    assert {event.partitions for event in told} == {8}
    assert fleet.ears["a"].of(e.LeaseGone) == []


async def test_a_refused_lease_is_told_as_one_partition_lost() -> None:
    """And as gone, for each account on which something was under way."""
    fleet, bank = Fleet(CoreConfig(lease_s=100, poll_s=30)), Bank(takes_s=50.0)
    async with fleet.worker("a", bank.engine("a")) as core:
        await owe(core, NAMES[0])
        await until(lambda: bank.paid[NAMES[0]] == 10)
        fleet.books.give(NAMES[0], "b")
        # a credit is to be claimed under the lease, which the store refuses
        await fleet.services["a"].credit_settlement(NAMES[0], D(3), "tx")
        await until(lambda: bool(fleet.ears["a"].of(e.LeaseGone)), within_s=5)
    assert fleet.ears["a"].of(e.LeaseGone) == [e.LeaseGone(account_id=NAMES[0])]
    assert fleet.ears["a"].of(e.PartitionsChanged)[1] == e.PartitionsChanged(held=7, partitions=8, gained=0, lost=1)


async def test_a_worker_recovers_once_and_again_only_for_what_it_gains() -> None:
    """However many rounds it takes part in; who holds nothing yet has nothing to recover, and says so at once."""
    fleet, bank = Fleet(), Bank()
    for name in NAMES:
        fleet.books.inner.apply([OpenAccount(account_id=name, at=0.0), debt(name)])

    def told(worker: str) -> list[int]:
        return [event.accounts for event in fleet.ears[worker].of(e.RecoveryFinished)]

    # nothing is ever paid, so that all of it stays due
    async with fleet.worker("a", BankEngine(bank, "a", fails=10_000)) as a:
        await anyio.sleep(100)
        assert told("a") == [8]
        async with fleet.worker("b", BankEngine(bank, "b", fails=10_000)) as b:
            await until(lambda: b.statistics().recovered, within_s=0.1)
            assert told("b") == [0]
            await until(lambda: fleet.books.held() == [4, 4])
            await anyio.sleep(100)
            assert sum(told("b")) == 4
        await anyio.sleep(100)
        assert a.statistics().partitions_held == 8
        assert sum(told("a")) == 12
        # what has been looked at makes room for others, once
        assert [len(one._inside) for one in a._supervisor._admissions.values()] == [0, 0]


def debt(name: str) -> Enqueue:
    """Have an account owe 5."""
    return Enqueue(account_id=name, direction=Direction.OUTGOING, entry_id="old", amount=D(5), at=0.0)


# what a store forgot


async def test_a_forgotten_attempt_is_told_with_its_amount() -> None:
    """Before it is claimed again."""
    world = make_world()
    world.engine.script = [failing_over(world, Claim)]
    async with world.core() as core:
        await owe_forgetful(core)
        await until(lambda: world.account().outgoing.settled == 10)
    (attempt,) = world.attempts()
    ids: dict[str, Any] = {"account_id": "alice", "attempt_id": attempt.attempt_id}
    forgotten = e.AttemptForgotten(**ids, direction=Direction.OUTGOING, amount=D(10))
    assert world.ears.of(e.AttemptForgotten) == [forgotten]


@pytest.mark.parametrize(
    ("forgotten", "found"),
    [
        (Enqueue, "nothing can be claimed for it"),
        (OpenAccount, "account 'alice' does not exist; nothing was recorded"),
    ],
)
async def test_what_cannot_be_recorded_again_is_told_in_one_sentence(forgotten: type, found: str) -> None:
    """With what may have moved, why it cannot be recorded, and what a person is to do."""
    world = make_world()
    ids: list[str] = []
    pay = failing_over(world, forgotten)

    async def note_and_pay(amount: Decimal) -> Any:
        ids.extend(attempt.attempt_id for attempt in world.attempts())
        return await pay(amount)

    world.engine.script = [note_and_pay]
    async with world.core() as core:
        await owe_forgetful(core)
        await until(lambda: bool(core.statistics().halted))
    (attempt_id,) = ids
    reason = (
        f"InvariantError: the store forgot attempt {attempt_id!r} of account 'alice', of which 10 may have moved, and "
        f"it cannot be recorded again: {found}; compare the ledger with the books before this account goes on"
    )
    halted = e.AccountHalted(account_id="alice", direction=Direction.OUTGOING, reason=reason, attempt_id=attempt_id)
    assert world.ears.of(e.AccountHalted) == [halted]


async def test_an_older_attempt_in_the_way_is_named() -> None:
    """With its amount: a person has to find out which of the two moved."""
    world = make_world()
    async with world.core() as core:
        await owe_forgetful(core)
        await until(lambda: world.account().outgoing.settled == 10)
        (older,) = world.attempts()
        world.engine.script = [failing_over(world, Close)]
        await owe_forgetful(core, 5, "other")
        await until(lambda: bool(core.statistics().halted))
    (event,) = world.ears.of(e.AccountHalted)
    found = f"the store takes attempt {older.attempt_id!r}, of 10, for open instead; compare the ledger with the books"
    assert f"cannot be recorded again: {found} before this account goes on" in event.reason


# what an engine asks for


@pytest.mark.parametrize("asked", ["soon", None, float("nan"), float("inf"), -1, Decimal(1)])
async def test_a_verdict_that_asks_for_no_time_at_all_halts_the_account(asked: Any) -> None:
    """Whatever is no number of seconds; the payment stays open and is not submitted again."""

    class Vague(VerifiableEngine):
        async def verify(self, payment: Any) -> Any:
            return Pending(asked, resubmit=False)

    world = World(Vague(MemoryLedger()))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: bool(core.statistics().halted), within_s=5)
    (event,) = world.ears.of(e.AccountHalted)
    assert f"verify asked to be called again after {asked!r} seconds" in event.reason
    assert world.account().outgoing.open == 5
    assert len(world.engine.ledger.submissions) == 1


@pytest.mark.parametrize(("asked", "waits_s"), [(0, 0.01), (0.005, 0.01), (2, 2.0), (10_000, 3600.0)])
async def test_a_verdict_is_asked_for_within_bounds(asked: float, waits_s: float) -> None:
    """Never in a spin, and at least every hour."""
    times: list[float] = []

    class Slow(VerifiableEngine):
        async def verify(self, payment: Any) -> Any:
            times.append(anyio.current_time())
            return Pending(asked) if len(times) < 3 else await super().verify(payment)

    world = World(Slow(MemoryLedger()))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: world.account().outgoing.settled == 5, within_s=8000, every_s=1.0)
    assert [times[1] - times[0], times[2] - times[1]] == [pytest.approx(waits_s)] * 2


async def test_an_engine_without_a_scale_or_cap_is_asked_for_everything() -> None:
    """Every digit goes to the ledger, and an amount of any size in one attempt."""
    amount = D("123456789012345678901234567890.000000000000000001")
    world = World(MinimalEngine())
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", amount, "a")
        await until(lambda: world.account().outgoing.settled == amount)
    assert world.engine.paid == [amount]


async def test_being_told_to_try_now_while_a_look_up_is_under_way_means_another_at_once() -> None:
    """Even though an open payment is deaf to new money: a person is not."""
    times: list[float] = []

    class Slow(VerifiableEngine):
        async def verify(self, payment: Any) -> Any:
            times.append(anyio.current_time())
            await anyio.sleep(1)
            return Pending(1000.0) if len(times) < 3 else await super().verify(payment)

    world = World(Slow(MemoryLedger()))
    async with world.core() as core:
        await core.create_account("alice")
        await core.request_settlement("alice", D(5), "a")
        await until(lambda: len(times) == 1)
        core.try_settlement("alice")
        await until(lambda: world.account().outgoing.settled == 5, within_s=2000, every_s=0.5)
    assert [times[1] - times[0], times[2] - times[1]] == [pytest.approx(1.0), pytest.approx(1001.0)]
