"""The reference interpreter: money adds up after every command, and repeating one never moves money twice."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from settlement_core.testing._store_scripts import ACCOUNTS, OnAttempt, Step, scripts
from settlement_core.values import commands as c
from settlement_core.values.amounts import total
from settlement_core.values.errors import IdempotencyConflict, LocalError, UnknownAccount
from settlement_core.values.records import AccountState, AttemptState, Direction, EntryKind, Totals
from settlement_core.values.records import Step as AccountStep
from settlement_core.values.reference import Books

OUTGOING, INCOMING = Direction.OUTGOING, Direction.INCOMING
_ALL = 1_000_000


def _ask(books: Books, command: c.Command[Any]) -> Any:
    return books.apply([command])[0]


def _opened(**facts: Any) -> Books:
    books = Books()
    _ask(books, c.OpenAccount(account_id="alice", at=0.0, **facts))
    return books


def _enter(books: Books, entry_id: str, amount: str, direction: Direction = OUTGOING) -> Any:
    amount_ = Decimal(amount)
    return _ask(books, c.Enqueue(account_id="alice", direction=direction, entry_id=entry_id, amount=amount_, at=0.0))


def _claim(books: Books, attempt_id: str, direction: Direction = OUTGOING, **facts: Any) -> Any:
    return _ask(books, c.Claim(account_id="alice", direction=direction, attempt_id=attempt_id, at=0.0, **facts))


def _close(books: Books, attempt_id: str, settled: str) -> Any:
    return _ask(books, c.Close(account_id="alice", attempt_id=attempt_id, settled=Decimal(settled), at=0.0))


def _totals(books: Books, direction: Direction = OUTGOING) -> Totals:
    (account,) = _ask(books, c.Overview(account_id="alice"))
    found = getattr(account, direction.value)
    assert isinstance(found, Totals)
    return found


def _everything(books: Books) -> list[Any]:
    return books.apply(
        [
            c.Overview(limit=_ALL),
            c.Due(limit=_ALL),
            c.History(limit=_ALL),
            c.Suspense(limit=_ALL, assigned=True),
            *(c.Entries(account_id=a, direction=d, limit=_ALL) for a in ACCOUNTS for d in Direction),
        ]
    )


def _commands(books: Books, script: list[Step]) -> Any:
    """Yield the commands of a script, each of which the caller has to apply before the next is asked for."""
    for step in script:
        for item in step.batch:
            if isinstance(item, OnAttempt):
                yield item.spell_out(_ask(books, c.History(limit=_ALL)))
            else:
                yield item


def _proof(books: Books) -> None:
    """Recount everything from entries and attempts."""
    for account in _ask(books, c.Overview(limit=_ALL)):
        entries = [
            entry
            for direction in Direction
            for entry in _ask(books, c.Entries(account_id=account.account_id, direction=direction, limit=_ALL))
        ]
        attempts = _ask(books, c.History(account_id=account.account_id, limit=_ALL))
        for direction in Direction:
            sums = getattr(account, direction.value)
            mine = [entry for entry in entries if entry.direction is direction]
            tried = [attempt for attempt in attempts if attempt.direction is direction]
            opened = [attempt for attempt in tried if attempt.state is AttemptState.OPEN]
            assert sums.entered == total((sums.queued, sums.open, sums.settled, sums.parked))
            requests = total(entry.amount for entry in mine if entry.kind is EntryKind.REQUEST)
            assert sums.entered == total((sums.pruned, requests))
            assert sums.queued == total(entry.amount for entry in mine if entry.attempt_id is None)
            assert sums.open == total(attempt.amount for attempt in opened)
            assert sums.settled == total((sums.retired, *(attempt.settled or Decimal(0) for attempt in tried)))
            assert len(opened) <= 1
            for attempt in tried:
                taken = total(entry.amount for entry in mine if entry.attempt_id == attempt.attempt_id)
                assert taken == (0 if attempt.pruned else total((attempt.amount, attempt.dust)))


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts(can_reopen=False, can_fail=False))
def test_money_adds_up_after_every_command(script: list[Step]) -> None:
    """Whatever is done, everything is where the entries and attempts say it is."""
    books = Books()
    for command in _commands(books, script):
        books.apply([command])
        _proof(books)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts(can_reopen=False, can_fail=False))
def test_a_command_applied_twice_in_a_row_is_applied_once(script: list[Step]) -> None:
    """After a lost answer any command may simply be repeated, and a refused one has changed nothing at all."""
    books = Books()
    for command in _commands(books, script):
        before = _everything(books)
        (result,) = books.apply([command])
        after = _everything(books)
        if isinstance(result, Exception):
            assert after == before
        books.apply([command])
        assert _everything(books) == after


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts(can_reopen=False, can_fail=False))
def test_a_batch_applied_again_enters_and_settles_nothing_twice(script: list[Step]) -> None:
    """After a lost answer the whole batch may be repeated: what was entered is a replay, what was closed stays closed.

    Only what was refused may go through now, such as a request that stood before the opening of its account.
    """
    books = Books()
    for step in script:
        planned = deepcopy(books)
        batch = []
        for command in _commands(planned, [step]):
            planned.apply([command])
            batch.append(command)
        first = books.apply(batch)
        closed = [a for a in _ask(books, c.History(limit=_ALL)) if a.state is AttemptState.CLOSED]
        again = books.apply(batch)
        forgets = any(isinstance(command, c.Prune | c.Retire) for command in batch)
        for before, now in zip(first, again, strict=True):
            # a key may have been forgotten in between
            if isinstance(before, c.Entered) and not forgets:
                assert now == replace(before, replay=True)
        known = {(a.account_id, a.attempt_id): a for a in _ask(books, c.History(limit=_ALL))}
        for attempt in closed:
            # unless it left the history just now
            now = known.get((attempt.account_id, attempt.attempt_id), attempt)
            assert replace(now, pruned=attempt.pruned) == attempt
        _proof(books)


# single promises


def test_a_key_used_again_with_the_same_amount_is_answered_with_the_first_quantity() -> None:
    """1.50 and 1.5 are the same money; the answer is what was recorded first."""
    books = _opened()
    assert _enter(books, "k", "1.50") == c.Entered(Decimal("1.50"), replay=False)
    again = _enter(books, "k", "1.5")
    assert (str(again.amount), again.replay) == ("1.50", True)
    assert _totals(books).entered == Decimal("1.5")


def test_a_key_used_again_with_another_amount_is_refused() -> None:
    """Nothing changes, and the sentence tells both amounts."""
    books = _opened()
    _enter(books, "k", "1.50")
    refusal = _enter(books, "k", "2")
    assert isinstance(refusal, IdempotencyConflict)
    assert str(refusal) == (
        "provided idempotency key is tied to other input: 'k' of account 'alice' was first used with 1.50, now with "
        "2; nothing was recorded"
    )
    assert _totals(books).entered == Decimal("1.50")


def test_keys_of_the_two_directions_do_not_meet() -> None:
    """A settlement id may be the same text as an idempotency key."""
    books = _opened()
    _enter(books, "k", "1")
    assert _enter(books, "k", "2", INCOMING) == c.Entered(Decimal(2), replay=False)


def test_a_tombstone_takes_incoming_money_and_replays_but_no_new_requests() -> None:
    """What the peer paid must not be lost; what was answered before is answered again."""
    books = _opened()
    _enter(books, "k", "1")
    _ask(books, c.CloseAccount(account_id="alice", at=0.0))
    refusal = _enter(books, "new", "1")
    assert isinstance(refusal, UnknownAccount)
    assert refusal.account_id == "alice"
    assert _enter(books, "k", "1") == c.Entered(Decimal(1), replay=True)
    assert _enter(books, "s", "5", INCOMING) == c.Entered(Decimal(5), replay=False)
    (account,) = _ask(books, c.Overview(account_id="alice"))
    assert account.state is AccountState.DELETED
    assert _ask(books, c.OpenAccount(account_id="alice", at=0.0)) == c.Applied(changed=True)
    assert _enter(books, "new", "1") == c.Entered(Decimal(1), replay=False)


def test_at_most_one_attempt_is_open_and_its_amount_never_changes() -> None:
    """Money that comes meanwhile waits for the next attempt."""
    books = _opened()
    _enter(books, "1", "5")
    first = _claim(books, "a").attempt
    _enter(books, "2", "7")
    again = _claim(books, "b")
    assert again == c.Claimed(first, fresh=False, more=True)
    assert _claim(books, "a") == c.Claimed(first, fresh=True, more=True)
    assert _totals(books).queued == Decimal(7)
    _close(books, "a", "5")
    assert _claim(books, "b").attempt.amount == Decimal(7)


def test_an_attempt_id_is_used_once() -> None:
    """The id of a closed attempt opens no other one."""
    books = _opened()
    _enter(books, "1", "5")
    _claim(books, "a")
    _close(books, "a", "2")
    refusal = _claim(books, "a")
    assert str(refusal) == "cannot claim attempt 'a': it is closed with 2 of 5 settled; nothing was recorded"
    assert _totals(books).queued == Decimal(3)


def test_doubtful_money_is_out_of_the_way_until_a_person_decides() -> None:
    """The account goes on beside it; what the person says did not move is queued again."""
    books = _opened()
    _enter(books, "1", "5")
    _claim(books, "a")
    _ask(books, c.Hold(account_id="alice", attempt_id="a", reason="answer lost"))
    _enter(books, "2", "7")
    assert _claim(books, "b").attempt.amount == Decimal(7)
    assert _totals(books).parked == Decimal(5)
    _ask(
        books,
        c.Resolve(account_id="alice", attempt_id="a", settled=Decimal(2), reason="seen", by="carol", at=9.0),
    )
    totals = _totals(books)
    assert (totals.parked, totals.settled, totals.queued, totals.open) == tuple(map(Decimal, (0, 2, 3, 7)))


def test_nothing_new_is_claimed_of_an_accounts_incoming_queue_while_a_credit_is_held() -> None:
    """Neither before the decision nor while another attempt is still held; what goes out goes on."""
    books = _opened()
    _enter(books, "a", "1", INCOMING)
    _claim(books, "a", INCOMING)
    _ask(books, c.Hold(account_id="alice", attempt_id="a", reason="400"))
    _enter(books, "b", "2", INCOMING)
    _enter(books, "debt", "5")
    command = c.Claim(account_id="alice", direction=INCOMING, attempt_id="b", at=0.0)
    assert _ask(books, command) == c.NothingToClaim(Decimal(2))
    assert _claim(books, "debt").attempt.amount == 5
    _ask(books, c.Release(account_id="alice", attempt_id="a", reason="fixed", by="carol"))
    reopened, again = _ask(books, command), _ask(books, command)
    assert (reopened.attempt.attempt_id, reopened.fresh, reopened.reopened) == ("a", False, True)
    assert (again.attempt.attempt_id, again.fresh, again.reopened) == ("a", False, False)
    _close(books, "a", "1")
    assert _ask(books, command).attempt.amount == 2


def test_released_credits_are_offered_again_in_the_order_of_their_release_under_their_own_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before anything new, and never under another key: in books that hold several from an earlier version."""
    books = _opened()
    with monkeypatch.context() as earlier:
        earlier.setattr("settlement_core.values.decisions.is_blocked", lambda *_: False)
        for name in ("a", "b"):
            _enter(books, name, "1", INCOMING)
            _claim(books, name, INCOMING)
            _ask(books, c.Hold(account_id="alice", attempt_id=name, reason="400"))
    _enter(books, "new", "1", INCOMING)
    for name in ("b", "a"):
        _ask(books, c.Release(account_id="alice", attempt_id=name, reason="fixed", by="carol"))
    offered = []
    for name in ("x", "y", "z"):
        claimed = _claim(books, name, INCOMING)
        offered.append((claimed.attempt.attempt_id, claimed.fresh))
        _close(books, claimed.attempt.attempt_id, "1")
    assert offered == [("b", False), ("a", False), ("z", True)]


def test_set_up_comes_before_the_first_claim_and_tear_down_after_the_last() -> None:
    """Incoming money does not wait for either."""
    books = _opened(set_up=True)
    _enter(books, "1", "5")
    _enter(books, "s", "5", INCOMING)
    assert _claim(books, "a") == c.StepDue(AccountStep.SET_UP)
    assert _claim(books, "i", INCOMING).attempt.amount == Decimal(5)
    assert _ask(books, c.FinishStep(account_id="alice", step=AccountStep.TEAR_DOWN)) == c.Applied(changed=False)
    assert _ask(books, c.FinishStep(account_id="alice", step=AccountStep.SET_UP)) == c.Applied(changed=True)
    _ask(books, c.CloseAccount(account_id="alice", at=0.0, tear_down=True))
    assert _claim(books, "a").attempt.amount == Decimal(5)
    _close(books, "a", "5")
    assert _claim(books, "b") == c.StepDue(AccountStep.TEAR_DOWN)
    assert _ask(books, c.FinishStep(account_id="alice", step=AccountStep.TEAR_DOWN)) == c.Applied(changed=True)
    assert _claim(books, "b") == c.NothingToClaim(Decimal(0))


def test_an_account_deleted_before_it_was_set_up_and_owing_nothing_is_not_set_up() -> None:
    """There is nothing to do for it."""
    books = _opened(set_up=True)
    _ask(books, c.CloseAccount(account_id="alice", at=0.0))
    assert _ask(books, c.Due()) == []


def test_what_is_due_can_be_asked_by_direction() -> None:
    """Steps are the outgoing one's, where they are taken; what is open or released is due as what is queued is."""
    books = _opened(set_up=True)

    def due() -> list[bool]:
        return [bool(_ask(books, c.Due(direction=direction))) for direction in (OUTGOING, INCOMING, None)]

    assert due() == [True, False, True]
    _ask(books, c.FinishStep(account_id="alice", step=AccountStep.SET_UP))
    assert due() == [False, False, False]
    _enter(books, "tx", "5", INCOMING)
    assert due() == [False, True, True]
    _enter(books, "key", "7")
    assert due() == [True, True, True]
    _claim(books, "i", INCOMING)
    _claim(books, "o")
    assert due() == [True, True, True]
    _close(books, "i", "5")
    assert due() == [True, False, True]
    _close(books, "o", "7")
    assert due() == [False, False, False]
    _ask(books, c.CloseAccount(account_id="alice", at=0.0, tear_down=True))
    assert due() == [True, False, True]


def test_assigned_money_is_an_incoming_entry_under_its_settlement_id() -> None:
    """Should the engine credit the same event later, it is the same money."""
    books = _opened()
    _ask(books, c.Suspend(settlement_id="s", amount=Decimal(3), details={}, at=0.0))
    assign = c.Assign(settlement_id="s", account_id="alice", reason="asked", by="carol", at=1.0)
    assert _ask(books, replace(assign, account_id="nobody")).account_id == "nobody"
    assert _ask(books, c.Suspense())[0].account_id is None
    assert _ask(books, assign) == c.Entered(Decimal(3), replay=False)
    assert _ask(books, assign) == c.Entered(Decimal(3), replay=True)
    assert _enter(books, "s", "3", INCOMING) == c.Entered(Decimal(3), replay=True)
    assert _ask(books, c.Suspense()) == []
    assert _ask(books, c.Suspense(assigned=True))[0].assigned_by == "carol"


def test_every_command_is_frozen_and_every_refusal_is_a_local_error() -> None:
    """Commands can be kept and applied again; a refusal asks the caller to change something."""
    kinds = {getattr(c, name) for name in c.__all__} & set(Books._HANDLERS)
    assert len(kinds) == 30
    for kind in kinds:
        assert kind.__dataclass_params__.frozen
        assert all(field.name for field in fields(kind))
    (refusal,) = Books().apply([c.CloseAccount(account_id="nobody", at=0.0)])
    assert isinstance(refusal, LocalError)


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_a_page_is_no_longer_than_its_limit(limit: int) -> None:
    """For every query that has one."""
    books = _opened()
    for number in range(3):
        _ask(books, c.OpenAccount(account_id=f"a{number}", at=0.0))
        _enter(books, str(number), "1")
        _claim(books, f"t{number}")
        _close(books, f"t{number}", "1")
        _enter(books, f"{number}'", "1", INCOMING)
        _ask(books, c.Enqueue(account_id=f"a{number}", direction=OUTGOING, entry_id="1", amount=Decimal(1), at=0.0))
        _ask(books, c.Suspend(settlement_id=f"s{number}", amount=Decimal(1), details=None, at=0.0))
    for query in (
        c.Overview(limit=limit),
        c.Due(limit=limit),
        c.History(limit=limit),
        c.Entries(account_id="alice", direction=OUTGOING, limit=limit),
        c.Suspense(limit=limit),
    ):
        assert len(_ask(books, query)) == limit, query
