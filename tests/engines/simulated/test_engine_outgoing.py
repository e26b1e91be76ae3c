"""Whatever happens to a submit, the ledger's final word is what counts, and money moves at most once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from settlement_core.abc import Pending, Rejected, Settled, VerifiableEngine
from settlement_core.engines.simulated import (
    FaultPlan,
    LedgerBroken,
    LedgerIncomplete,
    LedgerUnavailable,
    SimulatedLedger,
)
from settlement_core.values.records import Payment
from tests.engines.simulated.world import D, Side, balances, open_pair, transfer

pytestmark = pytest.mark.anyio

LATER = Pending(0.005)
LATER_AND_AGAIN = Pending(0.005, resubmit=True)


async def paid(side: Side, amount: str = "7") -> Payment:
    """Prepare and submit a payment, whatever the submit says."""
    payment = await side.engine.prepare("them", D(amount), "attempt-1")
    assert payment.amount == D(amount)
    with suppress(LedgerUnavailable):
        await side.engine.submit(payment)
    return payment


async def test_a_payment_is_settled_only_once_it_is_final(path: Path, ledger: SimulatedLedger) -> None:
    """In the pool and in a block that may be dropped it is pending; after three blocks it has moved, and counts."""
    async with open_pair(path) as (alice, bob):
        assert isinstance(alice.engine, VerifiableEngine)
        assert alice.engine.asset_scale == 9
        payment = await paid(alice)
        assert await alice.engine.verify(payment) == LATER
        ledger.mine(2)
        assert await alice.engine.verify(payment) == LATER
        assert balances(ledger)["bob"] == 100
        ledger.mine(1)
        assert await alice.engine.verify(payment) == Settled(D(7))
        await bob.services.until(lambda: bob.services.credited() == 7)
        assert list(bob.services.credits.values()) == [("them", D(7))]
    assert balances(ledger) == {"alice": D(93), "bob": D(107), "carol": D(100)}


async def test_preparing_has_no_effect(path: Path, ledger: SimulatedLedger) -> None:
    """A payment that was never submitted is unknown to the ledger, and moves nothing however long it waits."""
    async with open_pair(path) as (alice, _):
        payment = await alice.engine.prepare("them", D(7), "attempt-1")
        ledger.mine(10)
        assert await alice.engine.verify(payment) == LATER_AND_AGAIN
    assert balances(ledger)["alice"] == 100


async def test_a_lost_reply_is_not_a_lost_payment(path: Path, ledger: SimulatedLedger) -> None:
    """The submit raises although the ledger took it; submitted again by a careful core, it still moves once."""
    async with open_pair(path) as (alice, bob):
        ledger.set_fault_plan(FaultPlan(lose_reply=1))
        payment = await paid(alice)
        assert await alice.engine.verify(payment) == LATER
        with pytest.raises(LedgerUnavailable, match="lost on purpose"):
            await alice.engine.submit(payment)
        ledger.mine(3)
        assert await alice.engine.verify(payment) == Settled(D(7))
        await bob.services.until(lambda: bob.services.credited() == 7)
    assert balances(ledger) == {"alice": D(93), "bob": D(107), "carol": D(100)}


async def test_a_dropped_submit_is_repeated_never_given_up(path: Path, ledger: SimulatedLedger) -> None:
    """A transfer that never arrived is unknown, which is no failure: the identical payment goes out again."""
    async with open_pair(path) as (alice, _):
        ledger.set_fault_plan(FaultPlan(drop=1))
        payment = await paid(alice)
        ledger.mine(5)
        assert await alice.engine.verify(payment) == LATER_AND_AGAIN
        ledger.set_fault_plan(FaultPlan())
        await alice.engine.submit(payment)
        ledger.mine(3)
        assert await alice.engine.verify(payment) == Settled(D(7))
    assert balances(ledger)["bob"] == 107


@pytest.mark.parametrize("vanish", [False, True])
async def test_a_reorganisation_before_finality_takes_no_money(
    path: Path, ledger: SimulatedLedger, *, vanish: bool
) -> None:
    """A transfer thrown back to the pool waits; one that vanished is submitted again; either moves and counts once."""
    async with open_pair(path) as (alice, bob):
        payment = await paid(alice)
        ledger.mine(2)
        assert ledger.reorganise(2, vanish=vanish) == ["attempt-1"]
        assert await alice.engine.verify(payment) == (LATER_AND_AGAIN if vanish else LATER)
        await alice.engine.submit(payment)
        ledger.mine(3)
        assert await alice.engine.verify(payment) == Settled(D(7))
        await bob.services.until(lambda: bob.services.credited() == 7)
    assert balances(ledger) == {"alice": D(93), "bob": D(107), "carol": D(100)}


async def test_a_failure_at_finality_frees_the_money_for_good(path: Path, ledger: SimulatedLedger) -> None:
    """The payment was in a block, then failed: nothing moved, and submitted again it still never does."""
    async with open_pair(path) as (alice, bob):
        ledger.set_fault_plan(FaultPlan(fail_at_finality=1))
        payment = await paid(alice)
        ledger.mine(2)
        assert await alice.engine.verify(payment) == LATER
        ledger.mine(1)
        assert await alice.engine.verify(payment) == Rejected("failed at finality")
        ledger.set_fault_plan(FaultPlan())
        await alice.engine.submit(payment)
        ledger.mine(5)
        assert await alice.engine.verify(payment) == Rejected("failed at finality")
        assert bob.services.credits == {}
    assert balances(ledger)["alice"] == 100


async def test_paying_more_than_we_have_is_rejected_for_good(path: Path, ledger: SimulatedLedger) -> None:
    """A payment that its block cannot cover never applies, not even when money arrives later."""
    async with open_pair(path) as (alice, _):
        payment = await paid(alice, "100.5")
        ledger.mine(1)
        assert await alice.engine.verify(payment) == Rejected("insufficient funds: 100 of 100.5")
        ledger.submit(transfer("gift", "50", source="carol", to="alice"))
        ledger.mine(5)
        await alice.engine.submit(payment)
        ledger.mine(5)
        assert isinstance(await alice.engine.verify(payment), Rejected)
    assert balances(ledger) == {"alice": D(150), "bob": D(100), "carol": D(50)}


async def test_a_failing_look_up_tells_nothing(path: Path, ledger: SimulatedLedger) -> None:
    """Verify raises rather than guesses, and tells the truth once the ledger answers."""
    async with open_pair(path) as (alice, _):
        payment = await paid(alice)
        ledger.mine(3)
        ledger.set_fault_plan(FaultPlan(lookup_failure=1))
        with pytest.raises(LedgerUnavailable):
            await alice.engine.verify(payment)
        ledger.set_fault_plan(FaultPlan())
        assert await alice.engine.verify(payment) == Settled(D(7))


async def test_absence_is_believed_only_of_a_replica_that_holds_the_payments_blocks(
    path: Path, ledger: SimulatedLedger
) -> None:
    """Behind the height at which it was prepared, or pruned above it, nothing is said; within it, it is submitted."""
    ledger.mine(5)
    async with open_pair(path) as (alice, _):
        payment = await alice.engine.prepare("them", D(7), "attempt-1")
        for plan in (FaultPlan(lag=1, lag_at=4), FaultPlan(prune=1, pruned_below=6)):
            ledger.set_fault_plan(plan)
            with pytest.raises(LedgerIncomplete, match="'attempt-1' cannot be told: the replica .* holds blocks"):
                await alice.engine.verify(payment)
        ledger.set_fault_plan(FaultPlan(lag=1, lag_at=5))
        assert await alice.engine.verify(payment) == LATER_AND_AGAIN
        await alice.engine.submit(payment)
        ledger.mine(3)
        assert await alice.engine.verify(payment) == LATER_AND_AGAIN
        ledger.set_fault_plan(FaultPlan())
        assert await alice.engine.verify(payment) == Settled(D(7))
    assert balances(ledger)["bob"] == 107


async def test_a_payment_that_tells_no_height_is_looked_for_in_every_block(path: Path, ledger: SimulatedLedger) -> None:
    """As an earlier version prepared it: its absence counts only if nothing was pruned."""
    ledger.mine(5)
    async with open_pair(path) as (alice, _):
        payment = await alice.engine.prepare("them", D(7), "attempt-1")
        assert isinstance(payment.reference, dict)
        older = Payment(payment.amount, {name: value for name, value in payment.reference.items() if name != "since"})
        assert await alice.engine.verify(older) == LATER_AND_AGAIN
        ledger.set_fault_plan(FaultPlan(prune=1, pruned_below=1))
        with pytest.raises(LedgerIncomplete):
            await alice.engine.verify(older)


async def test_somebody_elses_transfer_under_our_id_never_counts_as_ours(path: Path, ledger: SimulatedLedger) -> None:
    """Final money under our id, but to another or of another amount: neither settled nor free to pay again."""
    async with open_pair(path) as (alice, _):
        payment = await alice.engine.prepare("them", D(7), "attempt-1")
        ledger.submit(transfer("attempt-1", "7", source="carol", to="bob"))
        ledger.mine(3)
        with pytest.raises(LedgerBroken, match="is not the one we prepared"):
            await alice.engine.verify(payment)
