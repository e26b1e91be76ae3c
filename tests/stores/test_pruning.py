"""Idempotency keys are kept for a day since their most recent use; settlement ids for ever (RFC 38, "Idempotence")."""

from __future__ import annotations

from decimal import Decimal

from settlement_core.abc import Store
from settlement_core.values import commands as c
from tests.stores.books import (
    HOUR,
    INCOMING,
    OUTGOING,
    ask,
    attempts,
    claimed,
    closed,
    entered,
    entry_ids,
    opened,
    outgoing,
    overview,
)


def test_a_key_is_forgotten_a_day_after_its_most_recent_use_and_not_before(store: Store) -> None:
    """A replay of a settled request counts as use: it starts the day again."""
    store.apply([opened(), entered("1", "5"), claimed("t", at=HOUR), closed("t", "5", at=2 * HOUR)])
    ask(store, entered("1", "5", at=20 * HOUR))
    assert ask(store, c.Prune(before=20 * HOUR)) == 0
    assert ask(store, entered("1", "5", at=3 * HOUR)) == c.Entered(Decimal(5), replay=True)
    assert ask(store, c.Prune(before=20 * HOUR)) == 0
    assert ask(store, c.Prune(before=20 * HOUR + 1)) == 1
    assert entry_ids(store) == []
    assert attempts(store)[0].pruned
    totals = outgoing(store)
    assert (totals.entered, totals.settled, totals.pruned) == (Decimal(5), Decimal(5), Decimal(5))


def test_keys_that_went_into_one_attempt_are_forgotten_together(store: Store) -> None:
    """The most recent use of any of them counts for all, also if it was before they were claimed."""
    store.apply([opened(), entered("1", "5"), entered("2", "5"), entered("2", "5", at=20 * HOUR)])
    store.apply([claimed("t"), closed("t", "10")])
    assert ask(store, c.Prune(before=20 * HOUR)) == 0
    assert ask(store, c.Prune(before=21 * HOUR)) == 2


def test_a_forgotten_key_enters_new_money(store: Store) -> None:
    """Once forgotten, a key means a new request, as RFC 38 says it does."""
    store.apply([opened(), entered("1", "5"), claimed("t"), closed("t", "5"), c.Prune(before=1.0)])
    assert ask(store, entered("1", "7", at=HOUR)) == c.Entered(Decimal(7), replay=False)
    assert outgoing(store).entered == Decimal(12)


def test_nothing_is_forgotten_that_is_not_settled(store: Store) -> None:
    """Queued, open and doubtful money keeps its entries, however old they are."""
    store.apply(
        [
            opened(),
            entered("1", "5"),
            claimed("doubtful"),
            c.Hold(account_id="alice", attempt_id="doubtful", reason="lost"),
            entered("2", "5"),
            claimed("open"),
            entered("3", "5"),
        ]
    )
    assert ask(store, c.Prune(before=1000 * HOUR)) == 0
    assert entry_ids(store) == ["1", "2", "3"]


def test_settlement_ids_are_kept_for_ever(store: Store) -> None:
    """The same ledger event credits once, however late it is seen again."""
    store.apply(
        [
            opened(),
            entered("0xabc", "5", direction=INCOMING),
            claimed("t", direction=INCOMING),
            closed("t", "5"),
            c.Prune(before=1e9),
        ]
    )
    again = entered("0xabc", "5", direction=INCOMING, at=1e9)
    assert ask(store, again) == c.Entered(Decimal(5), replay=True)
    assert overview(store).incoming.entered == Decimal(5)


def test_leftovers_of_a_forgotten_attempt_stay_queued(store: Store) -> None:
    """Forgetting keys never forgets money: dust and leftovers are entries of their own."""
    store.apply([opened(), entered("1", "5.75"), claimed("t", scale=0), closed("t", "3"), c.Prune(before=1.0)])
    assert [(e.kind, e.amount) for e in ask(store, c.Entries(account_id="alice", direction=OUTGOING))] == [
        ("dust", Decimal("0.75")),
        ("leftover", Decimal(2)),
    ]
    assert outgoing(store).queued == Decimal("2.75")


def test_forgetting_takes_small_bites(store: Store) -> None:
    """A limit bounds one step, whatever there is to forget, and repeating it forgets all."""
    batch: list[c.Command[object]] = [opened()]
    for n in range(10):
        batch += [entered(f"{n}a", "1"), entered(f"{n}b", "1"), claimed(f"t{n}"), closed(f"t{n}", "2")]
    store.apply(batch)
    bites = []
    while bite := ask(store, c.Prune(before=1.0, limit=3)):
        bites.append(bite)
    assert bites == [4, 4, 4, 4, 4]
    assert ask(store, c.Prune(before=1.0, limit=0)) == 0
    assert outgoing(store).pruned == Decimal(20)
