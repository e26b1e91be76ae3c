"""What the reference interpreter answers, to every field: each store is held against it, and stores answer alike."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from settlement_core.values import commands as c
from settlement_core.values.records import AccountOverview, AccountState, Direction, Pausing, Payment, Step, Totals
from settlement_core.values.reference import Books

OUTGOING, INCOMING = Direction.OUTGOING, Direction.INCOMING


def _ask(books: Books, command: c.Command[Any]) -> Any:
    (answer,) = books.apply([command])
    return answer


def _life() -> list[c.Command[Any]]:
    """Return what is done in a long life of alice's account, one command after the other."""
    alice: dict[str, Any] = {"account_id": "alice"}
    person: dict[str, Any] = {"reason": "asked", "by": "carol"}
    queue_out = c.Enqueue(**alice, direction=OUTGOING, entry_id="k", amount=Decimal(10), at=1.0)
    return [
        c.OpenAccount(**alice, at=0.0, set_up=True),
        c.FinishStep(**alice, step=Step.SET_UP),
        queue_out,
        c.Claim(**alice, direction=OUTGOING, attempt_id="a", at=2.0),
        c.Note(**alice, attempt_id="a", payment=Payment(Decimal(9), "tx")),
        c.Hold(**alice, attempt_id="a", reason="lost"),
        c.Resolve(**alice, attempt_id="a", settled=Decimal(10), **person, at=3.0),
        replace(queue_out, direction=INCOMING),
        c.Claim(**alice, direction=INCOMING, attempt_id="b", at=4.0),
        c.Hold(**alice, attempt_id="b", reason="409"),
        c.Release(**alice, attempt_id="b", **person),
        c.Claim(**alice, direction=INCOMING, attempt_id="c", at=5.0),
        c.Close(**alice, attempt_id="b", settled=Decimal(10), at=6.0),
        c.Suspend(settlement_id="s", amount=Decimal(3), details=None, at=7.0),
        c.Assign(settlement_id="s", **alice, **person, at=8.0),
        c.Pause(**alice, paused=True, **person, at=9.0),
        c.Put(**alice, key="k", value=[1]),
        c.CloseAccount(**alice, at=10.0, tear_down=True),
    ]


def test_every_command_says_that_it_changed_something_and_repeated_that_it_did_not() -> None:
    """With a boolean each time: whoever compares an answer relies on it."""
    books = Books()
    for command in _life():
        first, again = _ask(books, command), _ask(books, command)
        match command:
            case c.Claim():
                assert (type(first), first.attempt.attempt_id) == (c.Claimed, again.attempt.attempt_id)
                assert (first.more, again.more) == (False, False)
            case c.Enqueue(amount=amount):
                assert (first, again) == (c.Entered(amount, replay=False), c.Entered(amount, replay=True))
            case c.Assign():
                assert (first, again) == (c.Entered(Decimal(3), replay=False), c.Entered(Decimal(3), replay=True))
            case _:
                assert (first, again) == (c.Applied(changed=True), c.Applied(changed=False)), command


def test_an_overview_holds_all_that_is_known_of_the_account() -> None:
    """At every stage of its life."""
    books, seen = Books(), []
    for command in _life():
        _ask(books, command)
        match command:
            case c.OpenAccount() | c.Hold() | c.Release() | c.CloseAccount():
                seen += _ask(books, c.Overview(account_id="alice"))
    word = Pausing(paused=True, reason="asked", by="carol", at=9.0)
    ten, three = Decimal(10), Decimal(3)
    paid = Totals(entered=ten, settled=ten)
    fresh = AccountOverview(account_id="alice", state=AccountState.OPEN, outgoing=Totals(), incoming=Totals())
    assert seen == [
        replace(fresh, steps=(Step.SET_UP,)),
        replace(fresh, outgoing=Totals(entered=ten, parked=ten)),
        replace(fresh, outgoing=paid, incoming=Totals(entered=ten, parked=ten)),
        replace(fresh, outgoing=paid, incoming=Totals(entered=ten, parked=ten), released=("b",)),
        AccountOverview(
            account_id="alice",
            state=AccountState.DELETED,
            steps=(Step.TEAR_DOWN,),
            outgoing=paid,
            incoming=Totals(entered=ten + three, settled=ten, queued=three),
            pausing=word,
        ),
    ]


@pytest.mark.parametrize(
    ("steps", "pausing", "step", "paused"),
    [
        ((), None, None, False),
        ((Step.SET_UP, Step.TEAR_DOWN), Pausing(paused=True, reason="r", by="b", at=1.0), Step.SET_UP, True),
        ((Step.TEAR_DOWN,), Pausing(paused=False, reason="r", by="b", at=1.0), Step.TEAR_DOWN, False),
    ],
)
def test_an_overview_names_the_next_step_and_whether_the_account_is_paused(
    steps: tuple[Step, ...], pausing: Pausing | None, step: Step | None, *, paused: bool
) -> None:
    """The first of the steps, and the latest word of a person; if there is none, none."""
    overview = AccountOverview(
        account_id="alice",
        state=AccountState.OPEN,
        steps=steps,
        outgoing=Totals(),
        incoming=Totals(),
        pausing=pausing,
    )
    assert (overview.step, overview.paused) == (step, paused)
