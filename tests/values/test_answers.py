"""What the reference interpreter answers, to every field: each store is held against it, and stores answer alike."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from settlement_core.values import commands as c
from settlement_core.values.records import (
    AccountOverview,
    AccountState,
    Attempt,
    AttemptState,
    Direction,
    EngineValue,
    Entry,
    EntryKind,
    Pausing,
    Payment,
    Step,
    SuspenseItem,
    Totals,
)
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


def test_a_claim_takes_as_many_entries_as_it_may_and_nothing_from_a_paused_account() -> None:
    """What is left is told, and left as it was."""
    books = Books()
    alice: dict[str, Any] = {"account_id": "alice"}
    _ask(books, c.OpenAccount(**alice, at=0.0))
    for name in "klm":
        _ask(books, c.Enqueue(**alice, direction=OUTGOING, entry_id=name, amount=Decimal(2), at=1.0))
    pause = c.Pause(**alice, paused=True, reason="r", by="b", at=1.0)
    claim = c.Claim(**alice, direction=OUTGOING, attempt_id="a", at=2.0, max_entries=2)
    _ask(books, pause)
    assert _ask(books, claim) == c.NothingToClaim(Decimal(6))
    _ask(books, replace(pause, paused=False))
    claimed = _ask(books, claim)
    assert (claimed.attempt.amount, claimed.fresh, claimed.more) == (Decimal(4), True, True)
    taken = [entry.attempt_id for entry in _ask(books, c.Entries(**alice, direction=OUTGOING))]
    assert taken == ["a", "a", None]
    assert _ask(books, replace(claim, direction=INCOMING, attempt_id="b")) == c.NothingToClaim(Decimal(0))


def test_what_nobody_knows_is_refused_by_its_name() -> None:
    """And to delete a value that is not there changes nothing."""
    books = Books()
    alice: dict[str, Any] = {"account_id": "alice"}
    suspend = c.Suspend(settlement_id="s", amount=Decimal(3), details=None, at=0.0)
    assert _ask(books, c.Put(**alice, key="k", value=None)) == c.Applied(changed=False)
    _ask(books, suspend)
    refusals = [
        _ask(books, c.Assign(settlement_id="t", **alice, reason="r", by="b", at=0.0)),
        _ask(books, replace(suspend, amount=Decimal(4))),
        _ask(books, c.Pause(**alice, paused=True, reason="r", by="b", at=0.0)),
    ]
    _ask(books, c.OpenAccount(**alice, at=0.0))
    refusals.append(_ask(books, c.Close(**alice, attempt_id="a", settled=Decimal(1), at=0.0)))
    assert [str(refusal) for refusal in refusals] == [
        "no unattributed settlement 't'; nothing was recorded",
        "unattributed settlement 's' was first reported with 3, now with 4; nothing was recorded",
        "account 'alice' does not exist; nothing was recorded",
        "account 'alice' has no attempt 'a'; nothing was recorded",
    ]


def test_an_attempt_keeps_what_became_of_it() -> None:
    """Parked, decided about, offered again, parked again: the latest words, and the times of claim and end."""
    books = Books()
    alice: dict[str, Any] = {"account_id": "alice"}
    mine: dict[str, Any] = {**alice, "attempt_id": "a"}
    person: dict[str, Any] = {"reason": "asked", "by": "carol"}
    opened = Attempt(**mine, direction=INCOMING, amount=Decimal(3), claimed_at=2.0)
    held = replace(opened, state=AttemptState.HELD, reason="409")
    told = replace(held, reason="asked", resolved_by="carol")
    for command, attempt in (
        (c.OpenAccount(**alice, at=0.0), None),
        (c.Enqueue(**alice, direction=INCOMING, entry_id="k", amount=Decimal(3), at=1.0), None),
        (c.Claim(**mine, direction=INCOMING, at=2.0), opened),
        (c.Hold(**mine, reason="409"), held),
        (c.Release(**mine, **person), replace(told, state=AttemptState.RELEASED)),
        (c.Claim(**alice, direction=INCOMING, attempt_id="b", at=3.0), replace(told, state=AttemptState.OPEN)),
        (c.Hold(**mine, reason="410"), replace(held, reason="410")),
        (
            c.Resolve(**mine, **person, settled=Decimal(1), at=4.0),
            replace(told, state=AttemptState.CLOSED, settled=Decimal(1), closed_at=4.0),
        ),
    ):
        _ask(books, command)
        assert _ask(books, c.History()) == [attempt] * (attempt is not None)


@pytest.mark.parametrize(
    ("before", "used_again_at", "forgotten"), [(4.0, 1.0, 0), (4.5, 1.0, 2), (4.5, 4.5, 0), (4.6, 4.5, 2)]
)
def test_entries_are_forgotten_once_neither_they_nor_their_attempt_were_used_since(
    before: float, used_again_at: float, forgotten: int
) -> None:
    """All of an attempt or none, to the moment; their amounts are counted on, and the attempt says so."""
    books = Books()
    request = c.Enqueue(account_id="alice", direction=OUTGOING, entry_id="k", amount=Decimal(2), at=1.0)
    for command in (
        c.OpenAccount(account_id="alice", at=0.0),
        request,
        replace(request, entry_id="l"),
        c.Claim(account_id="alice", direction=OUTGOING, attempt_id="a", at=2.0),
        c.Close(account_id="alice", attempt_id="a", settled=Decimal(4), at=4.0),
        replace(request, at=used_again_at),
    ):
        _ask(books, command)
    assert _ask(books, c.Prune(before=before)) == forgotten
    (account,) = _ask(books, c.Overview())
    assert account.outgoing == Totals(entered=Decimal(4), settled=Decimal(4), pruned=Decimal(2 * forgotten))
    (attempt,) = _ask(books, c.History())
    assert attempt.pruned is (forgotten > 0)
    assert len(_ask(books, c.Entries(account_id="alice", direction=OUTGOING))) == 2 - forgotten
    assert _ask(books, request) == c.Entered(Decimal(2), replay=forgotten == 0)
    assert _ask(books, c.Prune(before=0.0)) == 0


def _entry(seq: int, kind: EntryKind, entry_id: str, amount: str, attempt_id: str | None, *times: float) -> Entry:
    entered_at, used_at = times
    return Entry(
        seq=seq,
        account_id="alice",
        direction=OUTGOING,
        kind=kind,
        entry_id=entry_id,
        amount=Decimal(amount),
        attempt_id=attempt_id,
        entered_at=entered_at,
        used_at=used_at,
    )


def test_entries_keep_where_their_money_came_from_and_when() -> None:
    """A request is used when it is made again, though never before it was; dust and leftovers carry their attempt."""
    books = Books()
    request = c.Enqueue(account_id="alice", direction=OUTGOING, entry_id="k", amount=Decimal("2.5"), at=1.0)
    for command in (
        c.OpenAccount(account_id="alice", at=0.0),
        request,
        replace(request, entry_id="l", at=2.0),
        replace(request, at=5.0),
        replace(request, at=3.0),
        replace(request, direction=INCOMING),
        c.Claim(account_id="alice", direction=OUTGOING, attempt_id="a", at=6.0, scale=0, cap=Decimal(4)),
        c.Close(account_id="alice", attempt_id="a", settled=Decimal(1), at=7.0),
    ):
        _ask(books, command)
    entries = c.Entries(account_id="alice", direction=OUTGOING)
    found = _ask(books, entries)
    first = found[0].seq
    assert found == [
        _entry(first, EntryKind.REQUEST, "k", "2.5", "a", 1.0, 5.0),
        _entry(first + 1, EntryKind.REQUEST, "l", "2.5", "a", 2.0, 2.0),
        _entry(first + 3, EntryKind.DUST, "a", "1", None, 6.0, 6.0),
        _entry(first + 4, EntryKind.LEFTOVER, "a", "3", None, 7.0, 7.0),
    ]
    assert _ask(books, replace(entries, after=first)) == found[1:]
    assert _ask(books, replace(entries, after=first + 1, limit=1)) == found[2:3]
    assert _ask(books, replace(entries, account_id="bob")) == []
    (attempt,) = _ask(books, c.History())
    assert (attempt.dust, attempt.claimed_at, attempt.closed_at) == (Decimal(1), 6.0, 7.0)


def _many_attempts() -> Books:
    """Return books in which alice and bob took turns: a0 and a2 are closed, a1 and a3 in doubt, a4 is open."""
    books = Books()
    for number in range(5):
        account: dict[str, Any] = {"account_id": "bob" if number % 2 else "alice"}
        attempt: dict[str, Any] = {**account, "attempt_id": f"a{number}"}
        _ask(books, c.OpenAccount(**account, at=0.0))
        _ask(
            books, c.Enqueue(**account, direction=OUTGOING, entry_id=f"{number}", amount=Decimal(number + 1), at=number)
        )
        _ask(books, c.Claim(**attempt, direction=OUTGOING, at=number))
        if number in {0, 2}:
            _ask(books, c.Close(**attempt, settled=Decimal(number + 1), at=number))
        elif number != 4:
            _ask(books, c.Hold(**attempt, reason="lost"))
    return books


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["a0", "a1", "a2", "a3", "a4"]),
        ({"after": "a1"}, ["a2", "a3", "a4"]),
        ({"after": "a4"}, []),
        ({"after": "unheard"}, []),
        ({"account_id": "alice"}, ["a0", "a2", "a4"]),
        ({"account_id": "alice", "after": "a0", "limit": 1}, ["a2"]),
        ({"account_id": "bob"}, ["a1", "a3"]),
        ({"states": frozenset({AttemptState.IN_DOUBT})}, ["a1", "a3"]),
        ({"states": frozenset({AttemptState.CLOSED, AttemptState.OPEN}), "after": "a0"}, ["a2", "a4"]),
        ({"account_id": "carol"}, []),
    ],
)
def test_a_history_has_what_was_asked_for_in_the_order_of_claims(query: dict[str, Any], found: list[str]) -> None:
    """However accounts, states and pages are combined."""
    assert [attempt.attempt_id for attempt in _ask(_many_attempts(), c.History(**query))] == found


def test_pages_begin_after_what_they_are_asked_for_and_go_by_ids() -> None:
    """Accounts, those that are due, unattributed money, and values of the engine."""
    books = _many_attempts()
    for name in ("c", "a", "b"):
        _ask(books, c.Suspend(settlement_id=name, amount=Decimal(1), details=name, at=0.0))
        _ask(books, c.Put(account_id="alice", key=name, value=name))
    _ask(books, c.Put(account_id="", key="z", value=0))
    _ask(books, c.Assign(settlement_id="b", account_id="bob", reason="r", by="carol", at=2.0))
    assert [found.account_id for found in _ask(books, c.Overview())] == ["alice", "bob"]
    assert [found.account_id for found in _ask(books, c.Overview(after="alice"))] == ["bob"]
    assert [found.account_id for found in _ask(books, c.Overview(limit=1))] == ["alice"]
    assert _ask(books, c.Overview(account_id="carol")) == []
    assert [_ask(books, c.Due(**page)) for page in ({}, {"after": "alice"}, {"limit": 1})] == [
        ["alice", "bob"],
        ["bob"],
        ["alice"],
    ]
    assert [item.settlement_id for item in _ask(books, c.Suspense())] == ["a", "c"]
    assert [item.settlement_id for item in _ask(books, c.Suspense(after="a", assigned=True))] == ["b", "c"]
    (assigned,) = _ask(books, c.Suspense(after="a", assigned=True, limit=1))
    assert assigned == SuspenseItem(
        settlement_id="b",
        amount=Decimal(1),
        details="b",
        reported_at=0.0,
        account_id="bob",
        reason="r",
        assigned_by="carol",
        assigned_at=2.0,
    )
    values = _ask(books, c.Values())
    assert values == [
        EngineValue(account_id="", key="z", value=0),
        *(EngineValue(account_id="alice", key=name, value=name) for name in "abc"),
    ]
    assert _ask(books, c.Values(after=("alice", "a"))) == values[2:]
    assert _ask(books, c.Values(after=("", "z"), limit=2)) == values[1:3]


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
