"""Large SQLite stores in seconds: written as rows, and the same to the last row as if commands had led there.

A test compares small ones, row by row, with those that commands led to, and audits them.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from settlement_core.stores.sqlite import open_sqlite_store

__all__ = ["PER_ATTEMPT", "SCATTER", "fill_accounts", "fill_history", "history_key"]

PER_ATTEMPT = 10
"""Requests that each settlement of the history took together."""

SCATTER = 2_654_435_761
"""Odd, so that numbers times it are all different in 32 bits, and far from each other: like random keys."""

_CACHE_KIB = 2 * 1024 * 1024
"""For as much of the keys' index as there is."""

_NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT ? UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"

_ACCOUNTS = f"""
    INSERT INTO accounts (account_no, account_id, state, set_up, tear_down, due)
    {_NUMBERS} SELECT n, printf('account-%07d', n - 1), 'open', 0, 0, ? FROM numbers
"""
_LANES = f"""
    INSERT INTO lanes (account_no, direction, entered, queued, open, settled, parked, pruned, entries_queued, released,
        releases_ever)
    {_NUMBERS} SELECT n, 0, ?, ?, '0', ?, '0', '0', ?, 0, 0 FROM numbers
"""
_KEY = f"printf('%08x-%d', n * {SCATTER} % 4294967296, n)"

_DEBTS = f"""
    INSERT INTO entries (seq, account_no, direction, kind, entry_id, amount, entered_at, used_at)
    {_NUMBERS} SELECT n, n, 0, 0, {_KEY}, '1', 0.0, 0.0 FROM numbers
"""
_ENTRIES = f"""
    INSERT INTO entries (seq, account_no, direction, kind, entry_id, amount, attempt_no, entered_at, used_at)
    {_NUMBERS} SELECT n, (n - 1) / {PER_ATTEMPT} % ? + 1, 0, 0, {_KEY}, '1', (n - 1) / {PER_ATTEMPT} + 1, 0.0, 0.0
    FROM numbers
"""
_ATTEMPTS = f"""
    INSERT INTO attempts (attempt_no, account_no, direction, attempt_id, amount, dust, state, settled, reason,
        resolved_by, claimed_at, closed_at, pruned, first_seq, last_seq, used_at)
    {_NUMBERS} SELECT n, (n - 1) % ? + 1, 0, printf('attempt-%08d', n), '{PER_ATTEMPT}', '0', 'closed',
        '{PER_ATTEMPT}', '', '', 0.0, 0.0, 0, (n - 1) * {PER_ATTEMPT} + 1, n * {PER_ATTEMPT}, 0.0
    FROM numbers
"""


def history_key(number: int) -> str:
    """Return the key of the request of that number, from 1 on."""
    return f"{number * SCATTER % 2**32:08x}-{number}"


def fill_accounts(path: Path, count: int, *, owing: bool = False) -> None:
    """Make a store with that many accounts, each of which owes one unit if `owing`."""
    with _writing(path) as connection:
        connection.execute(_ACCOUNTS, (1, count, 2 if owing else 0))
        if owing:
            connection.execute(_DEBTS, (1, count))
            connection.execute(_LANES, (1, count, "1", "1", "0", 1))


def fill_history(path: Path, rows: int, *, accounts: int) -> None:
    """Make a store in which so many requests were settled, ten at a time, for one account after the other.

    Every account has as many: `rows` is a multiple of ten times the accounts, or 0.
    """
    attempts, rest = divmod(rows, PER_ATTEMPT)
    each, uneven = divmod(rows, accounts)
    assert not rest
    assert not uneven
    with _writing(path) as connection:
        connection.execute(_ACCOUNTS, (1, accounts, 0))
        if rows:
            connection.execute(_ENTRIES, (1, rows, accounts))
            connection.execute(_ATTEMPTS, (1, attempts, accounts))
            connection.execute(_LANES, (1, accounts, str(each), "0", str(each), 0))


@contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a new store's file to write rows to; its indexes are made afterwards, at once, but for that of the keys.

    An index made at once has no room in its pages: whoever adds to it then moves half of each. That of random keys, to
    which every request adds anywhere, grows as it does in life.
    """
    open_sqlite_store(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND name <> 'entries_key'"
        )
        made = indexes.fetchall()
        for name, _ in made:
            connection.execute(f"DROP INDEX {name}")
        yield connection
        for _, statement in made:
            connection.execute(statement)
        connection.commit()
        # from the log into the file, and to the disk, as if it had been closed in order
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.sync()
