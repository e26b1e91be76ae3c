"""Everything that arrives is credited exactly once, or kept for a person; nothing stops the scan."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from settlement_core.engines.simulated import FaultPlan, LedgerRefused, SimulatedLedger
from tests.engines.simulated.world import D, FakeServices, open_side, transfer

pytestmark = pytest.mark.anyio


async def memo_of(path: Path, services: FakeServices, account_id: str = "them") -> str:
    """Return the memo that bob's engine gives an account."""
    async with open_side(path, "bob", services) as bob:
        answer = await bob.engine.handle_message(account_id, {"type": "paymentDetails"})
    assert answer["address"] == "bob"
    memo: str = answer["memo"]
    return memo


def pay(ledger: SimulatedLedger, **amounts: str) -> None:
    """Have alice pay bob, one transfer per block, all of them final."""
    for tx_id, fact in amounts.items():
        amount, memo = fact.split(" ", 1)
        ledger.submit(transfer(tx_id, amount, memo=memo))
        ledger.mine(1)
    ledger.mine(2)


def sums(services: FakeServices) -> dict[str, Decimal]:
    """Return what was credited by transaction, without the sequence numbers."""
    return {settlement_id.rpartition(":")[0]: amount for settlement_id, (_, amount) in services.credits.items()}


async def test_a_ledger_that_repeats_itself_is_credited_once(path: Path, ledger: SimulatedLedger) -> None:
    """Every page repeats an entry, within itself and from the page before; each payment counts once."""
    services = FakeServices()
    memo = await memo_of(path, services)
    ledger.set_fault_plan(FaultPlan(duplicate_event=1))
    async with open_side(path, "bob", services):
        for number in range(5):
            pay(ledger, **{f"tx{number}": f"1.5 {memo}"})
            await services.until(lambda: len(services.credits) > number)  # noqa: B023
    assert sums(services) == {f"tx{number}": D("1.5") for number in range(5)}
    assert services.credited() == D("7.5")


@pytest.mark.parametrize("memo", ["", "stranger", "9" * 128, "'; DROP TABLE entry; --".replace(" ", "_")])
async def test_money_without_a_known_memo_waits_for_a_person_and_stops_nobody(
    path: Path, ledger: SimulatedLedger, memo: str
) -> None:
    """The stranger's payment is kept with all that is known of it; the next one is credited as always."""
    services = FakeServices()
    known = await memo_of(path, services)
    pay(ledger, strange=f"3 {memo}", known=f"2 {known}")
    async with open_side(path, "bob", services):
        await services.until(lambda: services.credited() == 2 and bool(services.unattributed))
    details = {"transaction": "strange", "source": "alice", "memo": memo, "account": None}
    assert services.unattributed == {"strange:1": (D(3), details)}
    assert services.credits == {"known:2": ("them", D(2))}


async def test_money_for_an_account_that_is_gone_waits_for_a_person(path: Path, ledger: SimulatedLedger) -> None:
    """A memo whose account the core does not know any more must not stop the scan either."""
    services = FakeServices(accounts={"them", "others"})
    gone, known = await memo_of(path, services, "others"), await memo_of(path, services)
    services.accounts.remove("others")
    pay(ledger, lost=f"3 {gone}", known=f"2 {known}")
    async with open_side(path, "bob", services):
        await services.until(lambda: services.credited() == 2 and bool(services.unattributed))
    assert [amount for amount, _ in services.unattributed.values()] == [D(3)]
    assert services.unattributed["lost:1"][1]["account"] == "others"


async def test_what_arrived_while_we_were_down_is_credited(path: Path, ledger: SimulatedLedger) -> None:
    """A new run goes on at the cursor of the last: nothing before it is credited again, nothing after it missed."""
    first = FakeServices()
    memo = await memo_of(path, first)
    pay(ledger, early=f"1 {memo}")
    async with open_side(path, "bob", first):
        await first.until(lambda: (None, "incoming-cursor") in first.saved)
    pay(ledger, **{f"late{number}": f"0.1 {memo}" for number in range(20)})
    # a core that forgot its credits, so that crediting again would show
    second = FakeServices(saved=first.saved)
    async with open_side(path, "bob", second):
        await second.until(lambda: json.loads(second.saved[None, "incoming-cursor"]) == 21)
    assert sums(first) == {"early": D(1)}
    assert sums(second) == {f"late{number}": D("0.1") for number in range(20)}


async def test_a_crash_between_credit_and_cursor_credits_once(path: Path, ledger: SimulatedLedger) -> None:
    """The engine dies as it saves its cursor, loudly; the next run reads the page again and nothing counts twice."""
    services = FakeServices()
    memo = await memo_of(path, services)
    pay(ledger, one=f"1 {memo}", two=f"2 {memo}")
    services.broken_key = "incoming-cursor"
    with pytest.raises(ExceptionGroup) as caught:
        async with open_side(path, "bob", services):
            await services.until(lambda: False)
    assert caught.group_contains(RuntimeError, match="cannot save incoming-cursor")
    assert (None, "incoming-cursor") not in services.saved
    services.broken_key = None
    async with open_side(path, "bob", services):
        await services.until(lambda: (None, "incoming-cursor") in services.saved)
    assert services.credits == {"one:1": ("them", D(1)), "two:2": ("them", D(2))}


async def test_a_backlog_of_many_pages_is_credited_in_full(path: Path, ledger: SimulatedLedger) -> None:
    """250 payments wait at the first start, more than two pages of them."""
    services = FakeServices()
    memo = await memo_of(path, services)
    for number in range(250):
        ledger.submit(transfer(f"tx{number}", "0.01", memo=memo))
    ledger.mine(3)
    async with open_side(path, "bob", services):
        await services.until(lambda: len(services.credits) == 250)
    assert services.credited() == D("2.5") == ledger.balance("bob") - 100


async def test_a_ledger_that_does_not_answer_is_asked_again(path: Path, ledger: SimulatedLedger) -> None:
    """The scan survives failing look-ups, and credits once they end."""
    services = FakeServices()
    memo = await memo_of(path, services)
    pay(ledger, one=f"1 {memo}")
    ledger.set_fault_plan(FaultPlan(lookup_failure=1))
    async with open_side(path, "bob", services):
        with pytest.raises(TimeoutError):
            await services.until_for(0.05, lambda: bool(services.credits))
        ledger.set_fault_plan(FaultPlan())
        await services.until(lambda: services.credited() == 1)


async def test_a_ledger_that_is_away_for_long_is_asked_less_often(
    path: Path, ledger: SimulatedLedger, caplog: pytest.LogCaptureFixture
) -> None:
    """Each wait is twice the one before, and the first again once the ledger has answered; the log says so."""

    def waits() -> list[str]:
        return [record.getMessage().rpartition("next try in ")[2] for record in caplog.records]

    services = FakeServices()
    memo = await memo_of(path, services)
    ledger.set_fault_plan(FaultPlan(lookup_failure=1))
    async with open_side(path, "bob", services):
        with anyio.fail_after(30):
            while len(waits()) < 3:
                await anyio.sleep(0.01)
        assert waits()[:3] == ["0.1 s", "0.2 s", "0.4 s"]
        ledger.set_fault_plan(FaultPlan())
        pay(ledger, one=f"1 {memo}")
        await services.until(lambda: services.credited() == 1)
        caplog.clear()
        ledger.set_fault_plan(FaultPlan(lookup_failure=1))
        with anyio.fail_after(30):
            while not waits():
                await anyio.sleep(0.01)
        assert waits()[0] == "0.1 s"


async def test_a_gap_in_what_a_replica_holds_is_waited_for(
    path: Path, ledger: SimulatedLedger, caplog: pytest.LogCaptureFixture
) -> None:
    """The first payment is in blocks that were pruned, the second is not: neither is credited before both are there."""
    services = FakeServices()
    memo = await memo_of(path, services)
    pay(ledger, early=f"1 {memo}")
    ledger.set_fault_plan(FaultPlan(prune=1, pruned_below=ledger.height() + 1))
    pay(ledger, late=f"2 {memo}")
    async with open_side(path, "bob", services):
        with anyio.fail_after(30):
            while not caplog.records:
                await anyio.sleep(0.01)
        assert services.credits == {}
        ledger.set_fault_plan(FaultPlan())
        await services.until(lambda: services.credited() == 3)
    assert sums(services) == {"early": D(1), "late": D(2)}
    expected = "incoming entries from 1 on cannot be told: the replica that answered holds those from 2 on"
    assert expected in caplog.records[0].getMessage()


async def test_money_that_is_not_final_is_not_credited(path: Path, ledger: SimulatedLedger) -> None:
    """A transfer that a reorganisation takes back was never seen; the one behind it is."""
    services = FakeServices()
    memo = await memo_of(path, services)
    async with open_side(path, "bob", services):
        ledger.submit(transfer("taken-back", "5", memo=memo))
        ledger.mine(2)
        ledger.reorganise(2, vanish=True)
        pay(ledger, kept=f"2 {memo}")
        await services.until(lambda: bool(services.credits))
    assert services.credits == {"kept:1": ("them", D(2))}


async def test_an_engine_refuses_an_address_that_is_not_there(path: Path, ledger: SimulatedLedger) -> None:
    """The start ends with what is missing, and saves nothing."""
    services = FakeServices()
    with pytest.raises(LedgerRefused, match="our address 'nobody' does not exist; open it on the ledger first"):
        async with open_side(path, "nobody", services):
            pass
    assert services.saved == {}


async def test_a_store_is_never_used_with_another_ledger_or_address(path: Path, ledger: SimulatedLedger) -> None:
    """Its cursor and memos would be wrong there: money would be skipped in silence."""
    services = FakeServices()
    async with open_side(path, "bob", services):
        pass
    # later versions look for it under these names
    assert json.loads(services.saved[None, "ledger"]) == {"ledger_id": ledger.ledger_id, "address": "bob"}
    with pytest.raises(LedgerRefused, match="use another store"):
        async with open_side(path, "carol", services):
            pass
