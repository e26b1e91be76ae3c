"""Stores that are filled with rows are those that commands lead to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.clients import account_name, open_accounts
from benchmarks.filling import PER_ATTEMPT, fill_accounts, fill_history, history_key
from settlement_core.auditing.audit import audit
from settlement_core.stores.sqlite import open_sqlite_store
from settlement_core.values.commands import Claim, Close, Command, Enqueue
from settlement_core.values.records import Direction

OUTGOING = Direction.OUTGOING


def contents(path: Path) -> dict[str, Any]:
    """Return every row of every table but the file's identity, and every table's and index's definition."""
    with closing(sqlite3.connect(path)) as connection:
        schema = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
        tables = [name for kind, name, _ in schema if kind == "table" and name != "store"]
        rows = {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in tables}
    return {"schema": schema, **rows}


def audited(path: Path) -> tuple[int, int, bool]:
    """Return how many entries and attempts the audit looked at, and whether all is well."""
    with closing(open_sqlite_store(path)) as store:
        report = audit(store)
    return report.entries, report.attempts, report.ok


def grow(path: Path, accounts: int, commands: list[Command[Any]]) -> None:
    """Lead a new store there by commands."""
    with closing(open_sqlite_store(path)) as store:
        open_accounts(store, accounts)
        for command in commands:
            (result,) = store.apply([command])
            assert not isinstance(result, Exception)


def request(number: int, account: str) -> Enqueue:
    """Ask for one unit."""
    return Enqueue(account_id=account, direction=OUTGOING, entry_id=history_key(number), amount=Decimal(1), at=0.0)


def test_a_history_is_the_same_row_by_row_as_if_it_had_been_lived(tmp_path: Path) -> None:
    """Two files, one filled with rows, one by requests, claims and closes, hold the same, and the audit agrees."""
    accounts, attempts = 3, 12
    lived: list[Command[Any]] = []
    for number in range(attempts):
        name, attempt_id = account_name(number % accounts), f"attempt-{number + 1:08}"
        lived += [request(number * PER_ATTEMPT + one + 1, name) for one in range(PER_ATTEMPT)]
        lived.append(Claim(account_id=name, direction=OUTGOING, attempt_id=attempt_id, at=0.0))
        lived.append(Close(account_id=name, attempt_id=attempt_id, settled=Decimal(PER_ATTEMPT), at=0.0))
    grow(tmp_path / "lived.db", accounts, lived)
    fill_history(tmp_path / "filled.db", attempts * PER_ATTEMPT, accounts=accounts)
    assert contents(tmp_path / "filled.db") == contents(tmp_path / "lived.db")
    assert audited(tmp_path / "filled.db") == (attempts * PER_ATTEMPT, attempts, True)


def test_accounts_that_owe_are_the_same_row_by_row_as_if_they_had_been_asked_to_pay(tmp_path: Path) -> None:
    """The same for accounts with one request each, and for such without."""
    names = [account_name(number) for number in range(5)]
    grow(tmp_path / "asked.db", 5, [request(number, name) for number, name in enumerate(names, 1)])
    fill_accounts(tmp_path / "owing.db", 5, owing=True)
    assert contents(tmp_path / "owing.db") == contents(tmp_path / "asked.db")
    assert audited(tmp_path / "owing.db") == (5, 0, True)
    grow(tmp_path / "opened.db", 5, [])
    fill_accounts(tmp_path / "at-rest.db", 5)
    assert contents(tmp_path / "at-rest.db") == contents(tmp_path / "opened.db")
    assert audited(tmp_path / "at-rest.db") == (0, 0, True)
