"""The audit proves that no money was lost or doubled, and names each row that says otherwise."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Any, TypeAlias

import pytest

from settlement_core.abc import Store
from settlement_core.auditing.audit import AuditReport, Problem, audit, audit_steps
from settlement_core.stores.memory import create_memory_store
from settlement_core.stores.sqlite import SqliteStore
from settlement_core.values import commands as c
from settlement_core.values.errors import StoreBroken
from tests.stores.books import INCOMING, claimed, closed, entered, opened

# not by attribute: the package gives the function that name
module = sys.modules[audit.__module__]


def _live(store: Store) -> None:
    """Bring about every kind of row: alice's attempts, four outgoing and two incoming, bob's held one, and suspense."""
    told: dict[str, Any] = {"reason": "seen on the ledger", "by": "carol"}
    batch: list[c.Command[Any]] = [
        opened("alice"),
        opened("bob"),
        entered("o1", "10"),
        claimed("t1"),
        closed("t1", "10", at=1.0),
        c.Prune(before=2.0),
        entered("o2", "5.5"),
        entered("o3", "1"),
        claimed("t2", scale=0),
        closed("t2", "4"),
        claimed("t3"),
        c.Hold(account_id="alice", attempt_id="t3", reason="answer lost"),
        entered("o4", "7"),
        claimed("t4"),
        entered("o5", "9"),
        entered("i1", "3.25", direction=INCOMING),
        claimed("c1", direction=INCOMING, scale=1),
        closed("c1", "3"),
        entered("i2", "8", account_id="bob", direction=INCOMING),
        claimed("c2", account_id="bob", direction=INCOMING),
        c.Hold(account_id="bob", attempt_id="c2", reason="400"),
        c.Suspend(settlement_id="s1", amount=Decimal("0.5"), details={"from": "0x1"}, at=0.0),
        c.Suspend(settlement_id="s2", amount=Decimal("0.7"), details=None, at=0.0),
        c.Assign(settlement_id="s2", account_id="alice", at=0.0, **told),
        *(c.Suspend(settlement_id=which, amount=Decimal("0.01"), details=None, at=0.0) for which in ("s3", "s4")),
        *(c.Dismiss(settlement_id=which, at=1.0, **told) for which in ("s3", "s4")),
        claimed("c3", direction=INCOMING),
    ]
    for result in store.apply(batch):
        assert not isinstance(result, Exception), result


def test_an_audit_of_sound_books_finds_nothing_and_tells_everything(store: Store) -> None:
    """Sums are exact, counts are right, and whatever waits for a person is listed."""
    _live(store)
    done: list[int] = []
    report = audit(store, progress=done.append)
    assert report.ok
    assert report.problems == ()
    assert done == [2]
    assert [account.account_id for account in report.accounts] == ["alice", "bob"]
    assert (report.outgoing.entered, report.incoming.entered) == (Decimal("32.5"), Decimal("11.95"))
    sums = report.outgoing
    assert (sums.settled, sums.parked, sums.open) == (Decimal(14), Decimal("2.5"), Decimal(7))
    assert (sums.queued, sums.pruned) == (Decimal(9), Decimal(10))
    assert (report.entries, report.attempts) == (11, 7)
    assert [attempt.attempt_id for attempt in report.in_doubt] == ["t3"]
    assert [attempt.attempt_id for attempt in report.held] == ["c2"]
    assert [item.settlement_id for item in report.unattributed] == ["s1"]
    assert [item.settlement_id for item in report.dismissed] == ["s3", "s4"]
    assert report.to_json()["dismissed"] == {"count": 2, "amount": "0.02"}


def test_a_report_can_be_written_as_json() -> None:
    """Amounts are text, so that no reader of JSON rounds them."""
    store = create_memory_store()
    _live(store)
    written = json.loads(json.dumps(audit(store).to_json()))
    assert written["ok"] is True
    assert written["outgoing"]["entered"] == "32.5"
    assert written["accounts"][1]["incoming"]["queued"] == "0"
    assert written["in_doubt"] == [{"account": "alice", "attempt_id": "t3", "amount": "2.5", "reason": "answer lost"}]
    assert written["held"][0]["amount"] == "8"
    assert written["unattributed"] == [{"settlement_id": "s1", "amount": "0.5", "details": {"from": "0x1"}}]
    assert written["problems"] == []


def test_pages_smaller_than_the_books_come_to_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little is read at once, the report is the same."""
    _live(store)
    whole = audit(store)
    monkeypatch.setattr(module, "PAGE", 2)
    monkeypatch.setattr(module, "ACCOUNTS_AT_ONCE", 1)
    assert audit(store) == whole


_COLUMNS = "account_no, direction, kind, entry_id, amount"
_TAMPERINGS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "an entry was dropped from an attempt": (
        "DELETE FROM entries WHERE entry_id = 'o4'",
        [
            ("outgoing totals", "entered is 32.5, but its rows add up to 25.5"),
            ("attempt 't4'", "its entries add up to 0"),
        ],
    ),
    "a queued entry was raised": (
        "UPDATE entries SET amount = '10' WHERE entry_id = 'o5'",
        [("outgoing totals", "queued is 9.0, but its rows add up to 10")],
    ),
    "a queued entry was made negative": (
        "UPDATE entries SET amount = '-9' WHERE entry_id = 'o5'",
        [("entry 6 ('o5')", "its amount is -9")],
    ),
    "the total entered was changed": (
        "UPDATE lanes SET entered = '33' WHERE account_no = 1 AND direction = 0",
        [("outgoing totals", "entered is 33, its parts are 32.5: 0.5 is unaccounted")],
    ),
    "money was called settled that was not": (
        "UPDATE lanes SET settled = '21', open = '0' WHERE account_no = 1 AND direction = 0",
        [
            ("outgoing totals", "open is 0, but its rows add up to 7"),
            ("outgoing totals", "settled is 21, but its rows"),
        ],
    ),
    "a doubt was called settled": (
        "UPDATE attempts SET state = 'closed', settled = '2.5' WHERE attempt_id = 't3'",
        [("outgoing totals", "parked is 2.5, but its rows add up to 0")],
    ),
    "an attempt was lowered": (
        "UPDATE attempts SET amount = '6' WHERE attempt_id = 't4'",
        [("attempt 't4'", "its amount and dust are 6, but its entries add up to 7")],
    ),
    "a second attempt was opened": (
        "UPDATE attempts SET state = 'open' WHERE attempt_id = 't3'",
        [("attempt 't4'", "it is open beside attempt 't3'; only one may be")],
    ),
    "an attempt settled more than its amount": (
        "UPDATE attempts SET settled = '7' WHERE attempt_id = 't2'",
        [("attempt 't2'", "it is closed with 7 settled of 6")],
    ),
    "an attempt was closed without saying how much": (
        "UPDATE attempts SET settled = NULL WHERE attempt_id = 't2'",
        [("attempt 't2'", "it is closed with None settled of 6")],
    ),
    "an open attempt has something settled": (
        "UPDATE attempts SET settled = '1' WHERE attempt_id = 't4'",
        [("attempt 't4'", "it is open but has 1 settled")],
    ),
    "an attempt was called pruned": (
        "UPDATE attempts SET pruned = 1 WHERE attempt_id = 't2'",
        [("attempt 't2'", "it is pruned but still has 2 entries")],
    ),
    "an attempt was removed": (
        "DELETE FROM attempts WHERE attempt_id = 't4'",
        [("entry 5 ('o4')", "it belongs to attempt '#4', which is no outgoing attempt of this account")],
    ),
    "dust was raised": (
        "UPDATE entries SET amount = '0.9' WHERE kind = 1 AND direction = 0",
        [("entry 3 ('t2')", "it is 0.9 of dust of attempt 't2', which left over 0.5")],
    ),
    "a leftover was raised": (
        "UPDATE entries SET amount = '0.9' WHERE kind = 2 AND direction = 1",
        [("('c1')", "it is 0.9 of leftover of attempt 'c1', which left over 0.2")],
    ),
    "a leftover was doubled": (
        f"INSERT INTO entries SELECT 99, {_COLUMNS}, attempt_no, 0, 0 FROM entries WHERE kind = 2 AND direction = 1",
        [("entry 99 ('c1')", "it is 0.2 of leftover of attempt 'c1', which left over 0.2, once")],
    ),
    "a leftover was dropped": (
        "DELETE FROM entries WHERE kind = 2 AND direction = 1",
        [("attempt 'c1'", "its leftover of 0.2 is in no entry")],
    ),
    "a leftover came from nowhere": (
        "UPDATE entries SET entry_id = 'nowhere' WHERE kind = 2 AND direction = 1",
        [("('nowhere')", "it is 0.2 of leftover of attempt 'nowhere', which left over 0")],
    ),
    "a request was entered twice": (
        f"DROP INDEX entries_key; INSERT INTO entries SELECT 99, {_COLUMNS}, NULL, 0, 0 FROM entries WHERE seq = 6",
        [("entry 99 ('o5')", "another entry has the same id")],
    ),
    "assigned money was entered with another amount": (
        "UPDATE suspense SET amount = '0.8' WHERE settlement_id = 's2'",
        [("unattributed settlement 's2'", "0.8 was assigned to this account, but 0.7 was entered under its id")],
    ),
    "assigned money was not entered": (
        "UPDATE entries SET entry_id = 's9' WHERE entry_id = 's2'",
        [("unattributed settlement 's2'", "0.7 was assigned to this account, but nothing was entered under its id")],
    ),
    "money was assigned to another account": (
        "UPDATE suspense SET account_id = 'bob' WHERE settlement_id = 's2'",
        [("unattributed settlement 's2'", "0.7 was assigned to this account, but nothing was entered under its id")],
    ),
    "money was assigned to nobody": (
        "UPDATE suspense SET account_id = 'nobody' WHERE settlement_id = 's2'",
        [("unattributed settlement 's2'", "it was assigned to this account, which does not exist")],
    ),
    "dismissed money was credited": (
        "UPDATE suspense SET account_id = NULL WHERE settlement_id = 's2'; "  # noqa: ISC004
        "UPDATE entries SET entered_at = 9.0 WHERE entry_id = 's2'",
        [("unattributed settlement 's2'", "it was dismissed as not ours, but 0.7 was entered under its id later")],
    ),
    "an attempt has no account": (
        "UPDATE attempts SET account_no = 77 WHERE attempt_id = 't4'",
        [
            ("attempt 't4'", "its account does not exist"),
            ("store", "attempt t4 belongs to account number 77, which does not exist"),
        ],
    ),
    "an entry has no account": (
        "UPDATE entries SET account_no = 77 WHERE entry_id = 'o5'",
        [("store", "entry 6 belongs to account number 77, which does not exist")],
    ),
    "totals have no account": (
        "UPDATE lanes SET account_no = 77 WHERE direction = 0",
        [("store", "the totals of account number 77 belong to no account")],
    ),
    "totals are gone": (
        "DELETE FROM lanes WHERE direction = 0",
        [("store", "account alice has entries or attempts but no totals, direction 0")],
    ),
    "the queue was miscounted": (
        "UPDATE lanes SET entries_queued = 0 WHERE direction = 0",
        [("store", "account alice counts 0 queued entries but has 1")],
    ),
    "releases were miscounted": (
        "UPDATE lanes SET released = 1 WHERE direction = 0",
        [("store", "account alice counts 1 released attempts but has 0")],
    ),
    "the open attempt was forgotten": (
        "UPDATE lanes SET open_no = NULL WHERE direction = 0",
        [("store", "account alice takes attempt number none for its open one, but that is number 4")],
    ),
    "an account was put to sleep": (
        "UPDATE accounts SET due = 0",
        [("store", "account alice is marked due as 0 but should be as 6")],
    ),
    "an index lost its rows": (
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'IS NULL', '= 4') "  # noqa: ISC004
        "WHERE name = 'entries_queue'; PRAGMA writable_schema = RESET",
        [("store", "the file is damaged: ")],
    ),
}


@pytest.mark.parametrize("tampering", _TAMPERINGS, ids=lambda name: name.replace(" ", "-"))
def test_a_row_that_was_tampered_with_is_named(sqlite: SqliteStore, tampering: str) -> None:
    """Each row is changed behind the store's back in a way that would lose, double or hide money."""
    statements, expected = _TAMPERINGS[tampering]
    _live(sqlite)
    assert audit(sqlite).ok
    for statement in statements.split(";"):
        sqlite._connection.execute(statement)
    report = audit(sqlite)
    assert not report.ok
    for row, sentence in expected:
        assert any(row in found.row and sentence in found.sentence for found in report.problems), report.problems
    assert report.to_json()["problems"][0]["problem"] == report.problems[0].sentence


def test_a_problem_reads_as_a_sentence() -> None:
    """It says whose row it is, if anybody's."""
    assert str(Problem("alice", "entry 1", "it is gone")) == "account 'alice', entry 1: it is gone"
    assert str(Problem("", "store", "it is damaged")) == "store: it is damaged"


def test_an_audit_of_a_file_taken_apart_says_that_it_is_broken(sqlite: SqliteStore) -> None:
    """A missing table is not a matter of rows."""
    sqlite._connection.execute("DROP TABLE attempts")
    with pytest.raises(StoreBroken, match="no such table: attempts"):
        audit(sqlite)


_Batches: TypeAlias = list[list[c.Command[Any]]]


def _run(store: Store, meanwhile: _Batches) -> AuditReport:
    """Audit step by step, with money moving between the steps."""
    steps = audit_steps()
    batch = next(steps)
    while True:
        results = store.apply(batch)
        if meanwhile:
            store.apply(meanwhile.pop(0))
        try:
            batch = steps.send(results)
        except StopIteration as finished:
            report: AuditReport = finished.value
            return report


def test_money_that_moves_during_an_audit_is_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A running server is audited while it runs: an account that changed while it was read is read again."""
    monkeypatch.setattr(module, "PAGE", 3)
    store = create_memory_store()
    _live(store)
    for rest in range(40):
        nothing: _Batches = [[] for _ in range(rest)]
        assert _run(store, [*nothing, [entered(f"m{rest}", "1")]]).ok
        assert _run(store, [*nothing, [claimed(f"u{rest}"), closed("t4", "1"), closed(f"u{rest}", "0")]]).ok


def test_an_account_that_never_rests_is_not_called_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read at one instant cannot be proven; the report says so instead of guessing."""
    monkeypatch.setattr(module, "PAGE", 3)
    store = create_memory_store()
    _live(store)
    report = _run(store, [[entered(f"m{n}", "1")] for n in range(1000)])
    (problem,) = report.problems
    assert str(problem) == "account 'alice', account: it changed during each of 5 readings; audit it again"


def test_an_account_opened_during_an_audit_is_no_stray() -> None:
    """An attempt of an account that was not there when accounts were read is looked up again."""
    store = create_memory_store()
    store.apply([opened("bob")])
    late: list[c.Command[Any]] = [opened("alice"), entered("1", "5"), claimed("t")]
    report = _run(store, [[], [], [], late])
    assert report.ok
    assert [account.account_id for account in report.accounts] == ["bob"]
