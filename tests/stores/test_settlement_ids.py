"""One settlement id, one credit: unattributed money is never credited beside the account it is assigned to."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from settlement_core.values import commands as c
from settlement_core.values.errors import IdempotencyConflict, SuspenseConflict, UnknownSuspense
from settlement_core.values.records import Direction
from tests.stores.books import opened

INCOMING = Direction.INCOMING


def credited(account_id: str, amount: str = "5", settlement_id: str = "tx1:0") -> c.Enqueue:
    """Have an engine credit a settlement."""
    return c.Enqueue(account_id=account_id, direction=INCOMING, entry_id=settlement_id, amount=Decimal(amount), at=1.0)


def assigned(account_id: str, amount: str | None = None) -> c.Assign:
    """Have an operator say whose it is."""
    named = None if amount is None else Decimal(amount)
    return c.Assign(settlement_id="tx1:0", account_id=account_id, reason="r", by="b", at=1.0, amount=named)


REPORTED = c.Suspend(settlement_id="tx1:0", amount=Decimal(5), details=None, at=1.0)


def received(store: Any) -> dict[str, Decimal]:
    """Return what was received for each account."""
    return {account.account_id: account.incoming.entered for account in store.apply([c.Overview()])[0]}


@pytest.fixture
def books(store: Any) -> Any:
    """Give a store with two accounts, of each kind."""
    store.apply([opened("alice"), opened("bob")])
    return store


def test_unattributed_settlement_is_not_credited_until_it_is_assigned(books: Any) -> None:
    """By its id nobody is credited; the account that it is assigned to has it once, however often it comes again."""
    _, refused = books.apply([REPORTED, credited("alice")])
    assert isinstance(refused, SuspenseConflict)
    assert str(refused) == (
        "unattributed settlement 'tx1:0' is kept as unattributed, and is not credited to account 'alice' as well; "
        "nothing was recorded"
    )
    assert books.apply([assigned("alice"), credited("alice"), credited("alice")])[1:] == [
        c.Entered(Decimal(5), replay=True),
        c.Entered(Decimal(5), replay=True),
    ]
    assert received(books) == {"alice": 5, "bob": 0}


def test_settlement_assigned_to_one_account_is_not_credited_to_another(books: Any) -> None:
    """An engine that learns later who paid cannot credit what an operator gave away."""
    books.apply([REPORTED, assigned("bob")])
    (refused,) = books.apply([credited("alice")])
    assert isinstance(refused, SuspenseConflict)
    assert "was assigned to account 'bob'" in str(refused)
    assert received(books) == {"alice": 0, "bob": 5}


def test_settlement_credited_to_one_account_is_not_assigned_to_another(books: Any) -> None:
    """The same from the other side: it was credited, and is reported as unattributed later."""
    books.apply([credited("alice"), REPORTED])
    (refused,) = books.apply([assigned("bob")])
    assert isinstance(refused, SuspenseConflict)
    assert "was credited to account 'alice' by its engine" in str(refused)
    assert received(books) == {"alice": 5, "bob": 0}
    assert books.apply([assigned("alice")]) == [c.Entered(Decimal(5), replay=True)]
    assert books.apply([credited("alice")]) == [c.Entered(Decimal(5), replay=True)]
    assert received(books) == {"alice": 5, "bob": 0}


def test_assigning_under_another_amount_is_refused(books: Any) -> None:
    """An engine that takes its report up again must mean the same money."""
    _, refused = books.apply([REPORTED, assigned("alice", "6")])
    assert isinstance(refused, SuspenseConflict)
    assert received(books) == {"alice": 0, "bob": 0}
    books.apply([assigned("alice", "5.0")])
    assert received(books) == {"alice": 5, "bob": 0}


def dismissed(reason: str = "spam") -> c.Dismiss:
    """Have an operator say that it is not ours."""
    return c.Dismiss(settlement_id="tx1:0", reason=reason, by="ann", at=2.0)


def test_dismissed_settlement_is_credited_to_nobody_by_an_engine(books: Any) -> None:
    """However often it is reported, and although the engine learns whose it is; it waits no longer."""
    assert books.apply([REPORTED, dismissed(), dismissed("again")])[1:] == [
        c.Applied(changed=True),
        c.Applied(changed=False),
    ]
    learned = replace(assigned("alice", "5"), learned=True)
    again, refused, taken_up = books.apply([REPORTED, credited("alice"), learned])
    assert again == c.Applied(changed=False)
    assert str(refused) == (
        "unattributed settlement 'tx1:0' was dismissed as not ours by 'ann', and is not credited to account 'alice' as "
        "well; nothing was recorded"
    )
    assert isinstance(taken_up, SuspenseConflict)
    assert "was dismissed as not ours by 'ann': only an operator can assign it" in str(taken_up)
    assert received(books) == {"alice": 0, "bob": 0}
    assert books.apply([c.Suspense()]) == [[]]
    ((item,),) = books.apply([c.Suspense(assigned=True)])
    assert (item.account_id, item.reason, item.assigned_by, item.assigned_at) == (None, "spam", "ann", 2.0)


def test_dismissed_settlement_is_assigned_by_an_operator_who_knows_better(books: Any) -> None:
    """Once, as any other; what is assigned cannot be dismissed, since it is credited."""
    books.apply([REPORTED, dismissed()])
    assert books.apply([assigned("alice"), assigned("alice")]) == [
        c.Entered(Decimal(5), replay=False),
        c.Entered(Decimal(5), replay=True),
    ]
    (refused,) = books.apply([dismissed()])
    assert isinstance(refused, SuspenseConflict)
    assert "is already assigned to account 'alice'" in str(refused)
    assert received(books) == {"alice": 5, "bob": 0}
    ((item,),) = books.apply([c.Suspense(assigned=True)])
    assert (item.account_id, item.assigned_by) == ("alice", "b")


def test_dismissed_settlement_stays_so_if_its_assignment_is_refused(books: Any) -> None:
    """The account used the id with another amount: nothing is entered, and the operator's word stands."""
    books.apply([credited("alice", "7"), REPORTED, dismissed()])
    (refused,) = books.apply([assigned("alice")])
    assert isinstance(refused, IdempotencyConflict)
    assert books.apply([c.Suspense()]) == [[]]
    assert received(books) == {"alice": 7, "bob": 0}


def test_what_was_never_reported_cannot_be_dismissed(books: Any) -> None:
    """A slip in an id is told."""
    (refused,) = books.apply([dismissed()])
    assert isinstance(refused, UnknownSuspense)
