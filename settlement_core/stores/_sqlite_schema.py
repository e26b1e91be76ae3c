"""The tables of a SQLite store, as an ordered list of migrations.

Money is text in plain positional notation; SQLite never calculates with it. Short codes stand for the direction
(0 outgoing, 1 incoming) and kind (0 request, 1 dust, 2 leftover) because there are millions of entries.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["APPLICATION_ID", "MIGRATIONS", "why_no_store"]

APPLICATION_ID = 0x53_54_4C_43
"""`STLC`: marks a file as ours (SQLite's `PRAGMA application_id`)."""

_FIRST = (
    # `due` holds bit 1 for a step to do, 2 for outgoing and 4 for incoming money that waits or is on its way
    """
    CREATE TABLE accounts (
        account_no INTEGER PRIMARY KEY,
        account_id TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        set_up INTEGER NOT NULL,
        tear_down INTEGER NOT NULL,
        due INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX accounts_due ON accounts (account_id) WHERE due <> 0",
    # one row per account and direction that ever saw money, so that accounts at rest stay small
    """
    CREATE TABLE lanes (
        account_no INTEGER NOT NULL,
        direction INTEGER NOT NULL,
        entered TEXT NOT NULL,
        queued TEXT NOT NULL,
        open TEXT NOT NULL,
        settled TEXT NOT NULL,
        parked TEXT NOT NULL,
        pruned TEXT NOT NULL,
        entries_queued INTEGER NOT NULL,
        open_no INTEGER,
        released INTEGER NOT NULL,
        releases_ever INTEGER NOT NULL,
        PRIMARY KEY (account_no, direction)
    ) STRICT, WITHOUT ROWID
    """,
    # `attempt_no` is null while the entry is queued; the queue is in order of `seq`
    """
    CREATE TABLE entries (
        seq INTEGER PRIMARY KEY,
        account_no INTEGER NOT NULL,
        direction INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        entry_id TEXT NOT NULL,
        amount TEXT NOT NULL,
        attempt_no INTEGER,
        entered_at REAL NOT NULL,
        used_at REAL NOT NULL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX entries_key ON entries (account_no, entry_id, direction) WHERE kind = 0",
    "CREATE INDEX entries_queue ON entries (account_no, direction) WHERE attempt_no IS NULL",
    "CREATE INDEX entries_account ON entries (account_no)",
    # the order of `attempt_no` is the order of claims; the entries of an attempt lie between `first_seq` and
    # `last_seq`; `used_at` is when an outgoing attempt, or a key that went into it, was last used
    """
    CREATE TABLE attempts (
        attempt_no INTEGER PRIMARY KEY,
        account_no INTEGER NOT NULL,
        direction INTEGER NOT NULL,
        attempt_id TEXT NOT NULL,
        amount TEXT NOT NULL,
        dust TEXT NOT NULL,
        state TEXT NOT NULL,
        payment_amount TEXT,
        payment_reference TEXT,
        settled TEXT,
        reason TEXT NOT NULL,
        resolved_by TEXT NOT NULL,
        claimed_at REAL NOT NULL,
        closed_at REAL,
        pruned INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        used_at REAL,
        release_no INTEGER,
        UNIQUE (attempt_id, account_no)
    ) STRICT
    """,
    "CREATE INDEX attempts_account ON attempts (account_no)",
    "CREATE INDEX attempts_unclosed ON attempts (state) WHERE state <> 'closed'",
    "CREATE INDEX attempts_released ON attempts (account_no, direction, release_no) WHERE state = 'released'",
    """
    CREATE INDEX attempts_prunable ON attempts (used_at)
    WHERE direction = 0 AND state = 'closed' AND pruned = 0
    """,
    """
    CREATE TABLE suspense (
        settlement_id TEXT PRIMARY KEY,
        amount TEXT NOT NULL,
        details TEXT NOT NULL,
        reported_at REAL NOT NULL,
        account_id TEXT,
        reason TEXT NOT NULL,
        assigned_by TEXT NOT NULL,
        assigned_at REAL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX suspense_unassigned ON suspense (settlement_id) WHERE account_id IS NULL",
    """
    CREATE TABLE notes (
        account_id TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (account_id, key)
    ) STRICT, WITHOUT ROWID
    """,
)

# JSON, null while nobody said anything
_PAUSING = ("ALTER TABLE accounts ADD COLUMN pausing TEXT",)

# one row; `copied` tells of which file it is a backup, '' if it is none
_STORE = (
    """
    CREATE TABLE store (
        identity TEXT NOT NULL,
        generation INTEGER NOT NULL,
        in_use INTEGER NOT NULL,
        copied TEXT NOT NULL
    ) STRICT
    """,
    # a settlement id is one account's: this finds whose
    "CREATE INDEX entries_settlement ON entries (entry_id) WHERE kind = 0 AND direction = 1",
)

# money that was dismissed waits no longer: with it, what waits would take long to find
_DISMISSED = (
    """
    CREATE INDEX suspense_waiting ON suspense (settlement_id) WHERE account_id IS NULL AND assigned_at IS NULL
    """,
    "DROP INDEX suspense_unassigned",
)

# what stays of a credit that has left the history
_KNOWN = (
    "ALTER TABLE lanes ADD COLUMN retired TEXT NOT NULL DEFAULT '0'",
    """
    CREATE TABLE known (
        digest BLOB NOT NULL,
        account_no INTEGER NOT NULL,
        mark BLOB NOT NULL,
        PRIMARY KEY (digest, account_no)
    ) STRICT, WITHOUT ROWID
    """,
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _PAUSING, _STORE, _DISMISSED, _KNOWN)
"""Statements that lead from one version to the next; the file's `PRAGMA user_version` counts those applied."""


def why_no_store(file: Path, application_id: int, version: int) -> str:
    """Return why a file of ours, or an empty one, cannot be opened without changing it."""
    if application_id != APPLICATION_ID:
        return f"there is no store at {file}: the file is empty; it was not changed"
    return (
        f"the store at {file} was written by an earlier version of settlement_core: its format is {version}, this "
        f"one's {len(MIGRATIONS)}; it was not changed: settlement-core serve brings it to this version's format"
    )
