"""What the books of a stopped server tell by themselves: the same kinds of trouble as a running one would show."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from settlement_core.auditing.audit import AuditReport, audit
from settlement_core.auditing.kinds import Grade, Kind
from settlement_core.auditing.verdict import Verdict, judge
from settlement_core.stores.memory import create_memory_store
from settlement_core.values import commands as c
from settlement_core.values.records import Direction

D = Decimal


def books(*commands: c.Command[Any]) -> AuditReport:
    """Return the audit of a store that was asked these commands, for alice's account."""
    store = create_memory_store()
    store.apply([c.OpenAccount(account_id="alice", at=0.0), *commands])
    return audit(store)


def verdict_of(report: AuditReport) -> Verdict:
    """Return the verdict on the report."""
    return judge(report.troubles, at=10_000.0, accounts=len(report.accounts))


def request(amount: str, key: str = "k", at: float = 100.0) -> c.Enqueue:
    """Return a settlement request."""
    return c.Enqueue(account_id="alice", direction=Direction.OUTGOING, entry_id=key, amount=D(amount), at=at)


def attempt(name: str, at: float, settled: str = "0", reason: str = "no funds") -> list[c.Command[Any]]:
    """Return a payment that moved so much."""
    return [
        c.Claim(account_id="alice", direction=Direction.OUTGOING, attempt_id=name, at=at),
        c.Close(account_id="alice", attempt_id=name, settled=D(settled), at=at + 1, reason=reason),
    ]


def test_settled_books_are_good_and_say_when_they_were_written() -> None:
    """Nothing is queued, nothing is parked."""
    report = books(request("5"), *attempt("a", 200.0, settled="5", reason=""))
    assert (report.troubles, report.written_at) == ((), 201.0)
    assert verdict_of(report).grade is Grade.GOOD
    assert books().written_at is None


def test_money_on_its_way_waits_for_the_server_unless_it_is_paused() -> None:
    """Since the oldest of it was entered; in a paused account it waits for the operator instead."""
    report = books(request("5"), request("2", "later", at=300.0))
    (trouble,) = report.troubles
    assert (trouble.kind, trouble.amount, trouble.since) == (Kind.STOPPED, D(7), 100.0)
    pause = c.Pause(account_id="alice", paused=True, reason="strange", by="ann", at=400.0)
    (trouble,) = books(request("5"), pause).troubles
    assert (trouble.kind, trouble.amount, trouble.since) == (Kind.PAUSED, D(5), 400.0)


def test_payments_that_fail_for_long_are_stuck_in_the_books_too() -> None:
    """The run of failures up to the last, by its own times; an older success ends it."""
    tries = [command for at in (200.0, 600.0, 1200.0) for command in attempt(f"a-{at}", at)]
    found = verdict_of(books(request("5"), *tries))
    assert found.grade is Grade.STUCK
    assert found.reasons[0].text == "account alice: no funds since 00:03 UTC"
    success = attempt("b", 1000.0, settled="1", reason="only 1 of 5 was settled")
    brief = verdict_of(books(request("5"), *attempt("a", 200.0), *success, *attempt("c", 1200.0)))
    assert brief.grade is Grade.WAITS


def test_parked_and_unattributed_money_waits_for_the_operator() -> None:
    """As in a running server, with reasons and amounts; what an operator dismissed does not."""
    report = books(
        request("13"),
        c.Claim(account_id="alice", direction=Direction.OUTGOING, attempt_id="a", at=200.0),
        c.Hold(account_id="alice", attempt_id="a", reason="no answer"),
        c.Suspend(settlement_id="tx 7", amount=D(7), details={}, at=300.0),
        c.Suspend(settlement_id="tx 8", amount=D(8), details={}, at=300.0),
        c.Dismiss(settlement_id="tx 8", reason="spam", by="ann", at=400.0),
    )
    assert verdict_of(report).sentence == "the books add up, and this waits for you: 13 in doubt, 7 unattributed"
