"""Checks of what a SQLite store keeps for its own use, which no command shows. They read the whole file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

__all__ = ["inspect"]

# each returns one sentence per row that is wrong
_CHECKS = (
    """
    SELECT 'entry ' || seq || ' belongs to account number ' || account_no || ', which does not exist'
    FROM entries WHERE account_no NOT IN (SELECT account_no FROM accounts)
    """,
    """
    SELECT 'attempt ' || attempt_id || ' belongs to account number ' || account_no || ', which does not exist'
    FROM attempts WHERE account_no NOT IN (SELECT account_no FROM accounts)
    """,
    """
    SELECT 'the totals of account number ' || account_no || ' belong to no account'
    FROM lanes WHERE account_no NOT IN (SELECT account_no FROM accounts)
    """,
    """
    SELECT 'account ' || a.account_id || ' has entries or attempts but no totals, direction ' || r.direction
    FROM (SELECT account_no, direction FROM entries UNION SELECT account_no, direction FROM attempts) r
    JOIN accounts a USING (account_no) LEFT JOIN lanes l USING (account_no, direction) WHERE l.account_no IS NULL
    """,
    """
    SELECT 'account ' || account_id || ' counts ' || entries_queued || ' queued entries but has ' || queued
    FROM (
        SELECT a.account_id, l.entries_queued, (
            SELECT count(*) FROM entries e
            WHERE e.account_no = l.account_no AND e.direction = l.direction AND e.attempt_no IS NULL
        ) AS queued
        FROM lanes l JOIN accounts a USING (account_no)
    ) WHERE entries_queued <> queued
    """,
    """
    SELECT 'account ' || account_id || ' counts ' || released || ' released attempts but has ' || found
    FROM (
        SELECT a.account_id, l.released, (
            SELECT count(*) FROM attempts t
            WHERE t.account_no = l.account_no AND t.direction = l.direction AND t.state = 'released'
        ) AS found
        FROM lanes l JOIN accounts a USING (account_no)
    ) WHERE released <> found
    """,
    """
    SELECT 'account ' || a.account_id || ' takes attempt number ' || ifnull(l.open_no, 'none') ||
        ' for its open one, but that is number ' || ifnull(t.attempt_no, 'none')
    FROM lanes l JOIN accounts a USING (account_no) LEFT JOIN attempts t
        ON t.account_no = l.account_no AND t.direction = l.direction AND t.state = 'open'
    WHERE l.open_no IS NOT t.attempt_no
    """,
    """
    SELECT 'account ' || account_id || ' is marked due as ' || due || ' but should be as ' || wanted
    FROM (
        SELECT a.account_id, a.due, (a.set_up OR a.tear_down) + ifnull(sum(
            (l.entries_queued > 0 OR l.open_no IS NOT NULL OR l.released > 0) * iif(l.direction = 0, 2, 4)
        ), 0) AS wanted
        FROM accounts a LEFT JOIN lanes l USING (account_no) GROUP BY a.account_no
    ) WHERE due <> wanted
    """,
)


def inspect(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield one sentence for everything in the file that is not as it should be."""
    for (found,) in connection.execute("PRAGMA integrity_check"):
        if found != "ok":
            yield f"the file is damaged: {found}"
    for check in _CHECKS:
        for (sentence,) in connection.execute(check):
            yield sentence
