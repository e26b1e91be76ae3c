"""No statement reads more than it needs, however much the store holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from settlement_core.stores.sqlite import SqliteStore
from settlement_core.values import commands as c
from settlement_core.values.records import AttemptState, Payment, Step
from tests.stores.books import INCOMING, OUTGOING, claimed, closed, entered, opened

_WORDS = ("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE")


def _everything() -> list[list[c.Command[Any]]]:
    """Batches that make the store execute every statement it knows."""
    ids = {"account_id": "alice", "attempt_id": "held"}
    told: dict[str, Any] = {"reason": "", "by": "carol"}
    return [
        [opened(), entered("1", "5.5"), entered("1", "5.5", at=1.0), entered("2", "1"), claimed("t", scale=0)],
        [entered("1", "5.5", at=2.0), claimed("t"), closed("t", "3", at=3.0), entered("1", "5.5", at=4.0)],
        [c.Prune(before=9.0), entered("i", "2", direction=INCOMING), claimed("held", direction=INCOMING)],
        [c.Hold(**ids, reason=""), c.Release(**ids, **told), c.Overview(), claimed("later", direction=INCOMING)],
        [c.Hold(**ids, reason=""), c.Resolve(**ids, **told, settled=Decimal(1), at=1.0)],
        [claimed("noted"), c.Note(account_id="alice", attempt_id="noted", payment=Payment(Decimal(1), None))],
        [entered("old", "2", direction=INCOMING), claimed("old", direction=INCOMING), closed("old", "2")],
        [
            c.Retire(account_id="alice", attempt_ids=("t", "old", "none"), before=9.0),
            entered("old", "2", direction=INCOMING),
        ],
        [c.KnowsSettlement(account_id="alice", settlement_id="old")],
        [c.Suspend(settlement_id="s", amount=Decimal(1), details=None, at=1.0)],
        [c.Assign(settlement_id="s", account_id="alice", **told, at=1.0)],
        [c.Suspend(settlement_id="u", amount=Decimal(1), details=None, at=1.0)],
        [c.Dismiss(settlement_id="u", **told, at=1.0)],
        [c.Put(account_id="", key="k", value=1), c.Put(account_id="", key="k", value=None)],
        [c.Values(), c.Values(after=("", "k"))],
        [
            c.Get(account_id="", key="k"),
            c.Due(),
            c.Due(direction=INCOMING),
            c.Overview(),
            c.Overview(account_id="alice"),
        ],
        [c.FinishStep(account_id="alice", step=Step.SET_UP), c.CloseAccount(account_id="alice", at=1.0)],
        [c.Entries(account_id="alice", direction=OUTGOING), c.Suspense(), c.Suspense(assigned=True)],
        [
            c.History(account_id=account_id, states=states, after=after)
            for account_id in (None, "alice")
            for states in (frozenset[AttemptState](), frozenset({AttemptState.OPEN}), frozenset(AttemptState))
            for after in (None, "t")
        ],
    ]


def test_every_statement_finds_its_rows_by_an_index_and_in_order(sqlite: SqliteStore) -> None:
    """SQLite's own plan of every statement executed shows no walk through a table and no sorting."""
    executed: set[str] = set()
    sqlite._connection.set_trace_callback(executed.add)
    for batch in _everything():
        for result in sqlite.apply(batch):
            assert not isinstance(result, Exception), result
    sqlite._connection.set_trace_callback(None)
    statements = [statement for statement in executed if statement.lstrip().startswith(_WORDS)]
    assert len(statements) > 40
    for statement in statements:
        for *_, step in sqlite._connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
            assert "SCAN" not in step, f"{step} in {statement}"
            assert "TEMP B-TREE" not in step, f"{step} in {statement}"


def test_the_usual_life_of_money_takes_few_statements(sqlite: SqliteStore) -> None:
    """Entering takes one statement per amount; accounts are read and written once per batch."""
    sqlite.apply([opened()])

    def statements(*batch: c.Command[Any]) -> int:
        executed: list[str] = []
        sqlite._connection.set_trace_callback(executed.append)
        sqlite.apply(batch)
        sqlite._connection.set_trace_callback(None)
        # BEGIN and COMMIT come with every batch
        return len(executed) - 2

    assert statements(entered("0", "1")) == 5  # account, totals, entry, totals, due
    assert statements(*(entered(str(n), "1") for n in range(1, 11))) == 3 + 10
    assert statements(claimed("t")) == 7  # account, totals, known?, queue, attempt, entries, totals
    assert statements(closed("t", "11")) == 6  # account, attempt, totals, attempt, totals, due


def test_an_account_at_rest_takes_little_room(sqlite: SqliteStore) -> None:
    """An account that never saw money has one short row and no totals."""
    ids = [f"{n:036}" for n in range(10_000)]
    sqlite.apply([opened(account_id) for account_id in ids])
    (lanes,) = sqlite._connection.execute("SELECT count(*) FROM lanes").fetchone()
    (pages,) = sqlite._connection.execute("PRAGMA page_count").fetchone()
    assert lanes == 0
    assert pages * 4096 / len(ids) < 150
