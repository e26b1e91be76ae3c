"""What is long over leaves the history: sums stay, settlement ids are known for ever, nothing else is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from settlement_core.abc import Store
from settlement_core.auditing.audit import audit
from settlement_core.stores.sqlite import SqliteStore, open_sqlite_store
from settlement_core.values import commands as c
from settlement_core.values.errors import IdempotencyConflict, SuspenseConflict, UnknownAccount
from tests.stores.books import (
    HOUR,
    INCOMING,
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

D = Decimal
LATE = 100 * HOUR
TOLD: dict[str, Any] = {"reason": "seen", "by": "carol"}


def retired(*attempt_ids: str, before: float = LATE, account_id: str = "alice") -> c.Retire:
    """Have attempts leave the history."""
    return c.Retire(account_id=account_id, attempt_ids=attempt_ids, before=before)


def credited(store: Store, settlement_id: str = "0xabc", amount: str = "5", account_id: str = "alice") -> None:
    """Have one settlement credited, long ago."""
    attempt_id = f"credit of {settlement_id}"
    store.apply(
        [
            opened(account_id),
            entered(settlement_id, amount, direction=INCOMING, account_id=account_id),
            claimed(attempt_id, direction=INCOMING, account_id=account_id),
            closed(attempt_id, amount, account_id=account_id),
        ]
    )
    assert ask(store, retired(attempt_id, account_id=account_id)) == (attempt_id,)


def sound(store: Store) -> None:
    """Check that everything adds up, and that indexes follow from what they index."""
    report = audit(store)
    assert report.problems == ()


def test_settlement_is_known_for_ever_though_its_credit_has_left_the_history(store: Store) -> None:
    """A ledger that is scanned again years later reports it once more: nothing is credited twice."""
    credited(store)
    assert attempts(store) == []
    assert ask(store, c.Entries(account_id="alice", direction=INCOMING)) == []
    assert ask(store, entered("0xabc", "5", direction=INCOMING)) == c.Entered(D(5), replay=True)
    assert ask(store, entered("0xabc", "5.00", direction=INCOMING)) == c.Entered(D("5.00"), replay=True)
    with pytest.raises(IdempotencyConflict, match="first used with another amount, long ago, now with 6"):
        ask(store, entered("0xabc", "6", direction=INCOMING))
    assert ask(store, claimed("again", direction=INCOMING)) == c.NothingToClaim(D(0))
    sums = overview(store).incoming
    assert (sums.entered, sums.settled, sums.retired, sums.pruned, sums.queued) == (D(5), D(5), D(5), D(5), D(0))
    assert [ask(store, c.KnowsSettlement(account_id="alice", settlement_id=one)) for one in ("0xabc", "0xabd")] == [
        True,
        False,
    ]
    sound(store)


def test_settlement_id_is_known_for_its_own_account_only(store: Store) -> None:
    """Ids are unique within an account; money that is assigned by hand is refused if any account was credited."""
    credited(store)
    store.apply([opened("bob")])
    assert not ask(store, c.KnowsSettlement(account_id="bob", settlement_id="0xabc"))
    assert not ask(store, c.KnowsSettlement(account_id="nobody", settlement_id="0xabc"))
    ask(store, c.Suspend(settlement_id="0xabc", amount=D(5), details=None, at=0.0))
    with pytest.raises(SuspenseConflict, match="was credited to account 'alice' by its engine"):
        ask(store, c.Assign(settlement_id="0xabc", account_id="bob", at=0.0, **TOLD))
    assert ask(store, entered("0xabc", "5", direction=INCOMING)) == c.Entered(D(5), replay=True)
    assert ask(store, c.Assign(settlement_id="0xabc", account_id="alice", at=0.0, **TOLD)).replay
    assert overview(store).incoming.entered == D(5)
    assert overview(store, "bob").incoming.entered == D(0)
    sound(store)


def test_payment_leaves_the_history_once_its_keys_are_forgotten(store: Store) -> None:
    """As long as a key is known, the attempt it went into is listed."""
    store.apply([opened(), entered("1", "5"), claimed("t"), closed("t", "4", at=HOUR)])
    assert ask(store, retired("t")) == ()
    assert ask(store, c.Prune(before=2 * HOUR)) == 1
    assert ask(store, retired("t", before=HOUR)) == ()
    assert [attempt.attempt_id for attempt in attempts(store)] == ["t"]
    assert ask(store, retired("t", before=HOUR + 1)) == ("t",)
    assert attempts(store) == []
    assert (outgoing(store).settled, outgoing(store).retired, outgoing(store).queued) == (D(4), D(4), D(1))
    # what it gave back is still owed, and paid by a later attempt
    store.apply([claimed("u"), closed("u", "1")])
    assert (outgoing(store).settled, outgoing(store).queued) == (D(5), D(0))
    sound(store)


def test_what_is_not_over_stays(store: Store) -> None:
    """Queued, open, doubtful and held money, however old."""
    store.apply(
        [opened(), entered("1", "5"), claimed("doubtful"), c.Hold(account_id="alice", attempt_id="doubtful", reason="")]
    )
    store.apply([entered("2", "5"), claimed("open"), entered("3", "5")])
    store.apply([entered("i", "5", direction=INCOMING), claimed("held", direction=INCOMING)])
    store.apply([c.Hold(account_id="alice", attempt_id="held", reason="400"), c.Prune(before=LATE)])
    before = overview(store), attempts(store)
    assert ask(store, retired("doubtful", "open", "held")) == ()
    assert (overview(store), attempts(store)) == before
    sound(store)


def test_the_same_again_changes_nothing_and_tells_the_same(store: Store) -> None:
    """After a lost answer; an attempt that is not there is not in the history."""
    credited(store)
    before = overview(store)
    assert ask(store, retired("credit of 0xabc", "never")) == ("credit of 0xabc", "never")
    assert overview(store) == before
    with pytest.raises(UnknownAccount):
        ask(store, retired("t", account_id="nobody"))


def test_attempts_that_moved_nothing_leave_a_trace_or_stay(store: Store) -> None:
    """An audit looks for what attempts gave back: a lane that shows no sign of a past keeps it."""
    store.apply([opened(), entered("1", "5", at=LATE), claimed("a"), closed("a", "0")])
    store.apply([claimed("b"), closed("b", "0"), c.Prune(before=HOUR)])
    assert [attempt.pruned for attempt in attempts(store)] == [False, True]
    assert ask(store, retired("a", "b")) == ()
    sound(store)


@pytest.mark.parametrize("newest", [False, True])
def test_the_rest_of_the_history_is_read_as_before(store: Store, *, newest: bool) -> None:
    """Pages, also after what stayed; an attempt that left is in no page."""
    store.apply([opened()])
    for number in range(6):
        store.apply([entered(f"{number}", "1", direction=INCOMING), claimed(f"t{number}", direction=INCOMING)])
        store.apply([closed(f"t{number}", "1")])
    ask(store, retired("t1", "t2", "t4"))
    found = ask(store, c.History(newest=newest))
    wanted = ["t0", "t3", "t5"]
    assert [attempt.attempt_id for attempt in found] == (wanted[::-1] if newest else wanted)
    after = ask(store, c.History(newest=newest, after="t3", after_account="alice"))
    assert [attempt.attempt_id for attempt in after] == (["t0"] if newest else ["t5"])
    sound(store)


def test_reused_key_counts_as_before_after_its_attempt_has_left(store: Store) -> None:
    """RFC 38 lets a connector use a key again once it is forgotten: that is a new request."""
    store.apply([opened(), entered("1", "5"), claimed("t"), closed("t", "5"), c.Prune(before=HOUR), retired("t")])
    assert ask(store, entered("1", "7")) == c.Entered(D(7), replay=False)
    assert entry_ids(store) == ["1"]
    assert outgoing(store).entered == D(12)
    sound(store)


def test_a_tampered_total_of_what_left_is_named(sqlite: SqliteStore, path: Path) -> None:
    """What has left cannot be counted again, but the sums must still agree with one another."""
    credited(sqlite)
    sqlite._connection.execute("UPDATE lanes SET retired = '4' WHERE direction = 1")
    (problem,) = audit(sqlite).problems
    assert str(problem) == "account 'alice', incoming totals: settled is 5, but its rows add up to 4"


def test_file_of_the_format_before_keeps_its_history_until_it_is_old(path: Path) -> None:
    """It is brought to this format, and its attempts leave it like any other."""
    with closing(open_sqlite_store(path)) as store:
        store.apply(
            [opened(), entered("s", "5", direction=INCOMING), claimed("t", direction=INCOMING), closed("t", "5")]
        )
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("DROP TABLE known; ALTER TABLE lanes DROP COLUMN retired; PRAGMA user_version=4")
    with closing(open_sqlite_store(path)) as store:
        assert overview(store).incoming.settled == D(5)
        assert ask(store, retired("t")) == ("t",)
        assert ask(store, entered("s", "5", direction=INCOMING)).replay
        sound(store)


def test_an_assigned_settlement_that_has_left_is_no_problem_and_one_that_never_came_is(sqlite: SqliteStore) -> None:
    """The audit asks the account whether it knows the id."""
    sqlite.apply([opened(), c.Suspend(settlement_id="s", amount=D(5), details=None, at=0.0)])
    sqlite.apply([c.Assign(settlement_id="s", account_id="alice", at=0.0, **TOLD), claimed("t", direction=INCOMING)])
    sqlite.apply([closed("t", "5"), retired("t")])
    sound(sqlite)
    sqlite._connection.execute("DELETE FROM known")
    (problem,) = audit(sqlite).problems
    assert "5 was assigned to this account, but nothing was entered under its id" in str(problem)
