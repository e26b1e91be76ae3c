"""Faults on purpose do what they say, as often as they say, and the same in every run with the same seed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from settlement_core.engines.simulated import (
    FaultPlan,
    Held,
    LedgerRefused,
    LedgerSettings,
    LedgerUnavailable,
    SimulatedLedger,
    TransferState,
    open_ledger,
)
from settlement_core.engines.simulated.faults import chance
from tests.engines.simulated.world import D, balances, transfer


def test_there_are_no_faults_unless_asked_for(ledger: SimulatedLedger) -> None:
    """A new ledger's plan is all off."""
    assert ledger.fault_plan() == FaultPlan()


def test_a_plan_is_shared_and_survives_its_process(path: Path, ledger: SimulatedLedger) -> None:
    """Set through one connection, it holds in another, and in one opened later."""
    plan = FaultPlan(seed=7, drop=0.25, vanish=1)
    with open_ledger(path) as other:
        ledger.set_fault_plan(plan)
        assert other.fault_plan() == plan
    with open_ledger(path) as later:
        assert later.fault_plan() == plan
    assert FaultPlan.from_json(plan.to_json()) == plan
    assert FaultPlan.from_json('{"drop": 1}') == FaultPlan(drop=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"dorp": 1}',
        '{"drop": 1.1}',
        '{"drop": -0.1}',
        '{"drop": "1"}',
        '{"drop": true}',
        '{"drop": NaN}',
        '{"seed": 1.5}',
        '{"delay_s": 61}',
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(text: str) -> None:
    """A misspelt or impossible fault is never silently off."""
    with pytest.raises(LedgerRefused, match="fault plan"):
        FaultPlan.from_json(text)


def play(path: Path, plan: FaultPlan, *, reopen: bool) -> list[str]:
    """Submit and look at 40 transfers under a plan; return all that could be seen."""
    seen: list[str] = []
    now = [0.0]
    waits: list[float] = []
    settings = LedgerSettings(confirmations=3, block_time_s=1)
    ledger = open_ledger(path, create=settings, clock=lambda: now[0], sleep=waits.append, durable=False)
    for name in ("alice", "bob", "carol"):
        ledger.open_address(name, D(100))
    ledger.set_fault_plan(plan)
    for number in range(40):
        if reopen:
            ledger.close()
            ledger = open_ledger(path, clock=lambda: now[0], sleep=waits.append, durable=False)
        for call in (
            lambda ledger=ledger, number=number: ledger.submit(transfer(f"tx{number}", memo=f"{number}")),
            lambda ledger=ledger, number=number: ledger.lookup(f"tx{number - 2}"),
            lambda ledger=ledger: ledger.incoming("bob", after_seq=1).entries,
        ):
            try:
                seen.append(str(call()))  # type: ignore[no-untyped-call]
            except LedgerUnavailable as error:
                seen.append(str(error))
        now[0] += 1
    ledger.set_fault_plan(FaultPlan())
    now[0] += 5
    seen += [*map(str, balances(ledger).items()), str(len(waits))]
    assert ledger.verify_books() == []
    ledger.close()
    return seen


EVERYTHING = FaultPlan(
    seed=11,
    drop=0.2,
    lose_reply=0.2,
    delay=0.2,
    delay_s=0.5,
    lookup_failure=0.2,
    duplicate_event=0.3,
    lag=0.3,
    lag_at=20,
    prune=0.3,
    pruned_below=5,
    reorganise=0.2,
    vanish=0.5,
    fail_at_finality=0.2,
)


def test_the_same_seed_gives_the_same_faults(tmp_path: Path) -> None:
    """All faults at once, twice, the second time in a new connection for every step: not one byte differs."""
    first = play(tmp_path / "first.db", EVERYTHING, reopen=False)
    second = play(tmp_path / "second.db", EVERYTHING, reopen=True)
    other = play(tmp_path / "other.db", FaultPlan(**{**vars_of(EVERYTHING), "seed": 12}), reopen=False)  # type: ignore[arg-type]
    assert first == second
    assert first != other


def vars_of(plan: FaultPlan) -> dict[str, float]:
    """Return a plan's fields."""
    return {name: getattr(plan, name) for name in FaultPlan.__slots__}


def test_draws_are_spread_evenly() -> None:
    """Of 10,000 draws a quarter is below a quarter, give or take what chance allows."""
    assert abs(sum(chance(1, number) < 0.25 for number in range(10_000)) - 2500) < 200


def test_a_dropped_submit_never_arrives_and_half_of_the_callers_are_told(ledger: SimulatedLedger) -> None:
    """Nothing is recorded of any; those who were told cannot know which half they are in."""
    ledger.set_fault_plan(FaultPlan(drop=1))
    told = 0
    for number in range(100):
        try:
            ledger.submit(transfer(f"tx{number}"))
        except LedgerUnavailable:
            told += 1
    assert 30 < told < 70
    assert {ledger.lookup(f"tx{number}").state for number in range(100)} == {TransferState.UNKNOWN}


def test_a_lost_reply_is_of_a_transfer_that_arrived(ledger: SimulatedLedger) -> None:
    """The caller gets an exception, the receiver the money."""
    ledger.set_fault_plan(FaultPlan(lose_reply=1))
    with pytest.raises(LedgerUnavailable, match="look the transaction up"):
        ledger.submit(transfer("tx"))
    ledger.mine(3)
    assert balances(ledger)["bob"] == 101


def test_a_delayed_answer_holds_up_nobody_else(path: Path, ledger: SimulatedLedger) -> None:
    """While a caller waits for its answer, the transfer is there for all to see."""
    seen: list[tuple[float, TransferState]] = []

    def sleep(seconds: float) -> None:
        seen.append((seconds, ledger.lookup("tx").state))

    ledger.set_fault_plan(FaultPlan(delay=1, delay_s=2.5))
    with open_ledger(path, sleep=sleep) as slow:
        slow.submit(transfer("tx"))
    assert seen == [(2.5, TransferState.PENDING)]


def test_failing_look_ups_fail(ledger: SimulatedLedger) -> None:
    """Of transfers and of incoming entries; balances are the operator's, and answer."""
    ledger.set_fault_plan(FaultPlan(lookup_failure=1))
    with pytest.raises(LedgerUnavailable, match="looking transaction 'tx' up failed on purpose"):
        ledger.lookup("tx")
    with pytest.raises(LedgerUnavailable, match="reading the incoming entries of 'bob' failed on purpose"):
        ledger.incoming("bob")
    assert ledger.balance("bob") == 100


def test_a_lagging_replica_answers_from_its_blocks_and_tells_which(ledger: SimulatedLedger) -> None:
    """What is final, in a block, or in the pool only after the replica's last block is not in its answers yet."""
    ledger.submit(transfer("before"))
    ledger.mine(1)
    ledger.submit(transfer("between"))
    height = ledger.mine(2)
    assert ledger.lookup("before").state is TransferState.CONFIRMED
    ledger.submit(transfer("after"))
    ledger.mine(3)
    ledger.submit(transfer("pooled"))
    assert [entry.tx_id for entry in ledger.incoming("bob").entries] == ["before", "between", "after"]
    ledger.set_fault_plan(FaultPlan(lag=1, lag_at=height))
    found = {name: ledger.lookup(name) for name in ("before", "between", "after", "pooled")}
    assert [status.state for status in found.values()] == [
        TransferState.CONFIRMED,
        TransferState.INCLUDED,
        TransferState.UNKNOWN,
        TransferState.UNKNOWN,
    ]
    assert found["between"].confirmations == 2
    assert {status.held for status in found.values()} == {Held(0, height)} == {ledger.held()}
    page = ledger.incoming("bob")
    assert ([entry.tx_id for entry in page.entries], page.first_seq, page.last_seq) == (["before"], 1, 1)


def test_a_pruned_replica_answers_from_its_blocks_and_tells_which(ledger: SimulatedLedger) -> None:
    """What ended before the replica's first block is no more in its answers, a failure either; what came later is."""
    ledger.submit(transfer("poor", "1000"))
    ledger.submit(transfer("early"))
    height = ledger.mine(3)
    ledger.set_fault_plan(FaultPlan(prune=1, pruned_below=height + 1))
    page = ledger.incoming("bob")
    assert (page.entries, page.first_seq, page.last_seq) == ([], 2, 1)
    ledger.submit(transfer("late"))
    assert ledger.lookup("late").state is TransferState.PENDING
    height = ledger.mine(3)
    assert [ledger.lookup(name).state for name in ("poor", "early")] == [TransferState.UNKNOWN, TransferState.UNKNOWN]
    late = ledger.lookup("late")
    assert (late.state, late.held) == (TransferState.CONFIRMED, Held(height - 2, height))
    page = ledger.incoming("bob")
    assert ([entry.tx_id for entry in page.entries], page.first_seq, page.last_seq) == (["late"], 2, 2)


@pytest.mark.parametrize(("pruned_below", "held"), [(3, ["one", "two"]), (4, ["two"]), (5, [])])
def test_a_pruned_replica_holds_its_first_block(ledger: SimulatedLedger, pruned_below: int, held: list[str]) -> None:
    """One becomes final in block 3 and two in block 4: each is there if, and only if, its block is."""
    ledger.submit(transfer("one"))
    ledger.mine(1)
    ledger.submit(transfer("two"))
    ledger.mine(3)
    ledger.set_fault_plan(FaultPlan(prune=1, pruned_below=pruned_below))
    page = ledger.incoming("bob")
    assert [entry.tx_id for entry in page.entries] == held
    assert (page.first_seq, page.last_seq) == (3 - len(held), 2)
    found = [name for name in ("one", "two") if ledger.lookup(name).state is TransferState.CONFIRMED]
    assert found == held


@pytest.mark.parametrize(("lag_at", "held"), [(2, []), (3, ["one"]), (4, ["one", "two"])])
def test_a_lagging_replica_holds_its_last_block(ledger: SimulatedLedger, lag_at: int, held: list[str]) -> None:
    """The same from the other end."""
    ledger.submit(transfer("one"))
    ledger.mine(1)
    ledger.submit(transfer("two"))
    ledger.mine(4)
    ledger.set_fault_plan(FaultPlan(lag=1, lag_at=lag_at))
    page = ledger.incoming("bob")
    assert [entry.tx_id for entry in page.entries] == held
    assert (page.first_seq, page.last_seq) == (1, len(held))
    found = [name for name in ("one", "two") if ledger.lookup(name).state is TransferState.CONFIRMED]
    assert found == held


def test_duplicate_events_repeat_old_and_new_ones_but_hide_none(ledger: SimulatedLedger) -> None:
    """The page begins with what was delivered before, twice, and goes on with all that is new."""
    for number in (1, 2, 3):
        ledger.submit(transfer(f"tx{number}"))
    ledger.mine(3)
    ledger.set_fault_plan(FaultPlan(duplicate_event=1))
    assert [entry.seq for entry in ledger.incoming("bob").entries] == [1, 1, 2, 3]
    assert [entry.seq for entry in ledger.incoming("bob", after_seq=1).entries] == [1, 1, 2, 3]
    assert [entry.seq for entry in ledger.incoming("bob", after_seq=3).entries] == [3, 3]


@pytest.mark.parametrize(("vanish", "state"), [(0, TransferState.INCLUDED), (1, TransferState.UNKNOWN)])
def test_a_reorganisation_at_a_block_throws_back_or_forgets(
    ledger: SimulatedLedger, vanish: float, state: TransferState
) -> None:
    """At every block nothing ever becomes final; once the plan is off, what is left does."""
    ledger.submit(transfer("tx"))
    ledger.mine(1)
    ledger.set_fault_plan(FaultPlan(reorganise=1, vanish=vanish))
    ledger.mine(20)
    assert ledger.lookup("tx").state is state
    assert balances(ledger)["bob"] == 100
    ledger.set_fault_plan(FaultPlan())
    ledger.submit(transfer("tx"))
    ledger.mine(3)
    assert balances(ledger)["bob"] == 101


def test_a_failure_at_finality_comes_after_inclusion(ledger: SimulatedLedger) -> None:
    """Two confirmations, then nothing: the money is the payer's again, and free to spend."""
    ledger.set_fault_plan(FaultPlan(fail_at_finality=1))
    ledger.submit(transfer("tx", "100"))
    ledger.mine(2)
    assert ledger.lookup("tx").confirmations == 2
    ledger.mine(1)
    assert ledger.lookup("tx").state is TransferState.FAILED
    ledger.set_fault_plan(FaultPlan())
    ledger.submit(transfer("tx2", "100"))
    ledger.mine(3)
    assert balances(ledger) == {"alice": D(0), "bob": D(200), "carol": D(100)}


def test_a_clock_catching_up_under_endless_reorganisations_comes_to_an_end(path: Path) -> None:
    """A day of blocks, each undone by the next, is worked off in bounded steps, and the books stay right."""
    now = [0.0]
    with open_ledger(path, create=LedgerSettings(), durable=False, clock=lambda: now[0]) as ledger:
        for name in ("alice", "bob"):
            ledger.open_address(name, D(100))
        ledger.set_fault_plan(FaultPlan(reorganise=1))
        ledger.submit(transfer("tx"))
        now[0] = 86_400.0
        assert ledger.lookup("tx").state is TransferState.INCLUDED
        assert ledger.height() < 1000
        ledger.set_fault_plan(FaultPlan())
        assert ledger.height() == 86_400 * 20
        assert ledger.balance("bob") == 101
        assert ledger.verify_books() == []


def test_a_careful_sender_pays_once_under_all_faults_at_once(ledger: SimulatedLedger) -> None:
    """Submit while unknown, wait while pending, stop when final: what is settled is exactly what moved."""
    ledger.set_fault_plan(EVERYTHING)
    settled = set()
    for number in range(15):
        for _ in range(1000):
            with suppress(LedgerUnavailable):
                status = ledger.lookup(f"tx{number}")
                if status.state is TransferState.UNKNOWN:
                    ledger.submit(transfer(f"tx{number}"))
                elif status.state is TransferState.CONFIRMED:
                    settled.add(number)
                    break
                elif status.state is TransferState.FAILED:
                    break
            ledger.mine(1)
        else:
            pytest.fail(f"transfer {number} never became final")
    ledger.set_fault_plan(FaultPlan())
    ledger.mine(5)
    assert 0 < len(settled) < 15
    assert balances(ledger) == {"alice": D(100 - len(settled)), "bob": D(100 + len(settled)), "carol": D(100)}
    assert {int(entry.tx_id[2:]) for entry in ledger.incoming("bob").entries} == settled
