"""The ledger's file: its tables, how processes open it side by side, and which of SQLite's errors may pass."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from settlement_core.engines.simulated.faults import NO_FAULTS
from settlement_core.engines.simulated.records import (
    MINT,
    LedgerBroken,
    LedgerRefused,
    LedgerSettings,
    LedgerUnavailable,
)

__all__ = ["closed_on_error", "open_database", "telling_errors_apart", "transaction"]

_FORMAT = 1

# Amounts are TEXT and added up in Python: SQLite's numbers could lose a digit.
_SCHEMA = (
    """CREATE TABLE ledger (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        format INTEGER NOT NULL,
        ledger_id TEXT NOT NULL,
        asset_scale INTEGER NOT NULL,
        confirmations INTEGER NOT NULL,
        block_time_s REAL NOT NULL,
        started_at REAL NOT NULL,
        height INTEGER NOT NULL DEFAULT 0,
        faults TEXT NOT NULL,
        draws INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    # reserved: what transfers in blocks that are not yet final will take away
    """CREATE TABLE address (
        name TEXT PRIMARY KEY,
        opened_with TEXT NOT NULL,
        balance TEXT NOT NULL,
        reserved TEXT NOT NULL DEFAULT '0',
        last_seq INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    # only blocks with transfers in them are kept
    """CREATE TABLE block (
        height INTEGER PRIMARY KEY,
        hash TEXT NOT NULL,
        parent TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE transfer (
        ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
        tx_id TEXT NOT NULL UNIQUE,
        source TEXT NOT NULL,
        destination TEXT NOT NULL,
        amount TEXT NOT NULL,
        memo TEXT NOT NULL,
        state TEXT NOT NULL,
        height INTEGER,
        reason TEXT NOT NULL DEFAULT ''
    ) STRICT""",
    "CREATE INDEX unsettled ON transfer (state, height) WHERE state IN ('pending', 'included')",
    "CREATE INDEX by_height ON transfer (height)",
    # unique (tx_id, address): whatever else goes wrong, no transfer is booked twice
    """CREATE TABLE entry (
        ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
        tx_id TEXT NOT NULL,
        address TEXT NOT NULL,
        delta TEXT NOT NULL,
        seq INTEGER,
        UNIQUE (tx_id, address),
        UNIQUE (address, seq)
    ) STRICT""",
)

# One wait of SQLite's for another process, in seconds. Its waits double up to 0.1 s, so a neighbour that pays without
# a pause could starve us; we ask again after short ones instead, until our own patience ends.
_ONE_WAIT_S = 0.01

# What may pass by itself: locks, the disk, memory. Everything else is a damaged file or a mistake of ours.
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}


def open_database(
    path: Path, create: LedgerSettings | None, *, durable: bool, patience_s: float, now: float
) -> sqlite3.Connection:
    """Connect to the file, after creating it with these settings if it is new. Raises LedgerRefused."""
    if create is None and not path.exists():
        raise LedgerRefused(f"there is no ledger at {path}; create one first")
    if not path.parent.is_dir():
        raise LedgerRefused(f"there is no directory {path.parent} to create a ledger in")
    db = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={'rw' if create is None else 'rwc'}",
        uri=True,
        timeout=_ONE_WAIT_S,
        isolation_level=None,  # transactions begin where we say so
        check_same_thread=False,  # one thread at a time, held to by the ledger's lock
    )
    with closed_on_error(db):
        try:
            # Not WAL: before SQLite 3.51.3 several connections can lose a commit in it.
            _patiently(db, "PRAGMA journal_mode = TRUNCATE", patience_s)
            # A killed process costs nothing either way. A power cut is another matter.
            db.execute(f"PRAGMA synchronous = {'NORMAL' if durable else 'OFF'}")
            db.execute("PRAGMA cache_spill = OFF")  # or a large block would wait for readers before its commit
            if create is not None:
                with transaction(db, write=True, patience_s=patience_s):
                    _create(db, create, now)
            with transaction(db, write=False, patience_s=patience_s):
                _check(db, path, create)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in _PASSING:
                raise
            raise LedgerRefused(f"{path} is not a simulated ledger: {error}") from error
    return db


@contextmanager
def closed_on_error(db: sqlite3.Connection) -> Iterator[None]:
    """Give the connection back if setting it up fails."""
    try:
        yield
    except BaseException:
        with closing(db):
            raise


def _create(db: sqlite3.Connection, settings: LedgerSettings, now: float) -> None:
    """Write the tables, unless another process has."""
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return
    for statement in _SCHEMA:
        db.execute(statement)
    db.execute(
        "INSERT INTO ledger (only_row, format, ledger_id, asset_scale, confirmations, block_time_s, started_at,"
        " faults) VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
        (
            _FORMAT,
            secrets.token_hex(8),
            settings.asset_scale,
            settings.confirmations,
            float(settings.block_time_s),
            now,
            NO_FAULTS.to_json(),
        ),
    )
    db.execute("INSERT INTO address (name, opened_with, balance) VALUES (?, '0', '0')", (MINT,))


def _check(db: sqlite3.Connection, path: Path, wanted: LedgerSettings | None) -> None:
    """Raise LedgerRefused if the file is something else, or was created with other settings."""
    query = "SELECT format, asset_scale, confirmations, block_time_s FROM ledger"
    found, asset_scale, confirmations, block_time_s = db.execute(query).fetchone()
    if found != _FORMAT:
        raise LedgerRefused(f"{path} has format {found}, this version reads {_FORMAT}")
    settings = LedgerSettings(asset_scale=asset_scale, confirmations=confirmations, block_time_s=block_time_s)
    if wanted not in {None, settings}:
        raise LedgerRefused(f"{path} was created with {settings}, not {wanted}")


@contextmanager
def transaction(db: sqlite3.Connection, *, write: bool, patience_s: float) -> Iterator[None]:
    """Do everything inside, or nothing. The lock is taken at once, so nothing inside ever has to give up half-way."""
    _patiently(db, "BEGIN IMMEDIATE" if write else "BEGIN", patience_s)
    try:
        if not write:
            _patiently(db, "SELECT 1 FROM sqlite_master", patience_s)  # only reading locks a reader in
        yield
        _patiently(db, "COMMIT", patience_s)
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _patiently(db: sqlite3.Connection, statement: str, patience_s: float) -> None:
    """Execute a statement that may find the file locked; a COMMIT, too, may just be tried again."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            db.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        else:
            return


@contextmanager
def telling_errors_apart(path: Path) -> Iterator[None]:
    """Raise LedgerUnavailable for what may pass by itself, and LedgerBroken for what does not."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # an error of the sqlite3 module itself (a closed connection) has no code: that is our mistake
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            raise
        if code & 0xFF in _PASSING:
            raise LedgerUnavailable(f"{path}: {error}") from error
        raise LedgerBroken(f"the simulated ledger {path} is broken: {error}") from error
