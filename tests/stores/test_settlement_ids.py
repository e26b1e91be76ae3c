"""One settlement id, one credit: unattributed money is never credited beside the account it is assigned to."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from settlement_core.values import commands as c
from settlement_core.values.errors import SuspenseConflict
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
