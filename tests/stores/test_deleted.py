"""A deleted account owes nothing new, and loses nothing that was paid to it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from settlement_core.abc import Store
from settlement_core.values import commands as c
from settlement_core.values.errors import IdempotencyConflict, UnknownAccount
from tests.stores.books import INCOMING, ask, entered, opened, overview


def test_a_deleted_account_takes_no_new_debt_but_answers_for_the_old(store: Store) -> None:
    """A new key is refused, a known one gets its first answer, and with another amount it is a conflict."""
    store.apply([opened(), entered("known", "5"), c.CloseAccount(account_id="alice", at=1.0)])
    with pytest.raises(UnknownAccount, match="'alice'"):
        ask(store, entered("new", "7"))
    assert ask(store, entered("known", "5")) == c.Entered(Decimal(5), replay=True)
    with pytest.raises(IdempotencyConflict):
        ask(store, entered("known", "7"))
    assert overview(store).outgoing.entered == 5


def test_what_arrives_for_a_deleted_account_is_kept_once(store: Store) -> None:
    """The peer may pay after its account was deleted: that money is ours to credit, under its settlement id once."""
    store.apply([opened(), c.CloseAccount(account_id="alice", at=1.0)])
    assert ask(store, entered("tx", "3", direction=INCOMING)) == c.Entered(Decimal(3), replay=False)
    assert ask(store, entered("tx", "3", direction=INCOMING)) == c.Entered(Decimal(3), replay=True)
    assert overview(store).incoming.entered == overview(store).incoming.queued == 3
