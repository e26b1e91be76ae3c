"""Opening a SQLite file as a store: whether it is one and nobody else's, its lock, and its format."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from settlement_core.stores._sqlite_schema import APPLICATION_ID, MIGRATIONS, why_no_store
from settlement_core.values.errors import LocalError, SettlementError, StoreBroken, StoreLocked

__all__ = [
    "PASSING",
    "bring_up_to_date",
    "explain_opening",
    "identity_of",
    "log_of",
    "primary_code",
    "require_usable",
    "take_lock",
]

_CACHE_KIB = 64 * 1024
"""Pages kept in memory at most, as far as they are used: keys are random, so lookups come from all over the file."""

_LOG_PAGES = 8000
"""Pages (32 MiB) in the log before they are moved into the file: pages written often are moved once."""

_SETTLE_LOCK_MS = 2000
"""How long taking the file waits for another process that is just being refused it."""

# failures that may pass without anybody touching the file
PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


def require_usable(file: Path, *, create: bool) -> None:
    """Raise `LocalError` if there can be no store at this path; create the file, for its owner only, if it is new."""
    if not create and not file.exists():
        raise LocalError(f"there is no store at {file}; nothing was read")
    # SQLite would write a header into it
    if not create and file.is_file() and not file.stat().st_size:
        raise LocalError(why_no_store(file, 0, 0))
    try:
        # a store may hold signed payments. Closing a file that SQLite has open would drop its lock: hence O_EXCL
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if file.is_dir():
            raise LocalError(f"cannot open a store at {file}: it is a directory; name a file in it") from None
        if not os.access(file, os.R_OK | os.W_OK):
            raise LocalError(
                f"cannot open a store at {file}: this user may not read and write it; change its owner or mode"
            ) from None
    except OSError as problem:
        raise LocalError(
            f"cannot create a store at {file}: {problem.strerror}; name a file in an existing directory that this "
            "user may write to"
        ) from None


def take_lock(connection: sqlite3.Connection, file: Path, *, create: bool) -> None:
    """Lock the file for as long as it is open, and see that it is ours."""
    connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
    # of two processes that start together exactly one gets past this
    connection.execute("BEGIN IMMEDIATE")
    application_id, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.execute("COMMIT")
    if application_id != APPLICATION_ID and (application_id, version, tables) != (0, 0, 0):
        raise StoreBroken(f"{file} is a SQLite file of some other program, not a settlement store; it was not changed")
    if version > len(MIGRATIONS):
        raise StoreBroken(
            f"the store at {file} was written by a newer version of settlement_core (its format is {version}, this "
            f"one knows up to {len(MIGRATIONS)}); it was not changed: run that version, or a newer one"
        )
    if not create and version < len(MIGRATIONS):
        raise LocalError(why_no_store(file, application_id, version))
    connection.execute(f"PRAGMA busy_timeout={_SETTLE_LOCK_MS}").fetchall()
    mode = _pragma(connection, "journal_mode=WAL")
    if mode != "wal":
        raise LocalError(f"cannot open a store at {file}: SQLite cannot keep a write-ahead log there, only {mode!r}")
    for setting in (
        "synchronous=FULL",
        # only macOS knows these: its plain fsync does not reach the disk
        "fullfsync=ON",
        "checkpoint_fullfsync=ON",
        f"cache_size=-{_CACHE_KIB}",
        f"wal_autocheckpoint={_LOG_PAGES}",
    ):
        connection.execute(f"PRAGMA {setting}").fetchall()


def bring_up_to_date(connection: sqlite3.Connection) -> bool:
    """Bring the file to this version's format, one transaction per step; return whether it held no store before."""
    version = _pragma(connection, "user_version")
    for number in range(version, len(MIGRATIONS)):
        connection.execute("BEGIN IMMEDIATE")
        for statement in MIGRATIONS[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={number + 1}")
        connection.execute("COMMIT")
    return bool(version == 0)


def _pragma(connection: sqlite3.Connection, pragma: str) -> Any:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def identity_of(path: Path) -> tuple[int, ...] | None:
    """Return what tells the file and its log from others that may take their names."""
    try:
        found = (path.stat(), log_of(path).stat())
    except OSError:
        return None
    return tuple(number for stat in found for number in (stat.st_dev, stat.st_ino))


def log_of(path: Path) -> Path:
    """Return where SQLite keeps the log of the file."""
    return path.with_name(f"{path.name}-wal")


def primary_code(problem: sqlite3.Error) -> int:
    """Return SQLite's code of a failure, without its details."""
    code: int = getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)
    return code & 0xFF


def explain_opening(problem: sqlite3.Error, file: Path) -> SettlementError:
    """Return what a failed opening is answered with."""
    code = primary_code(problem)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreLocked(
            f"cannot open the store at {file}: another process has it open; ask the running server through its "
            "admin port, or stop it first"
        )
    if code == sqlite3.SQLITE_NOTADB:
        return StoreBroken(f"{file} is not a settlement store: it is not a SQLite file; it was not changed")
    if code in PASSING:
        return LocalError(f"cannot open the store at {file}: {problem}")
    return StoreBroken(f"the store at {file} is broken: {problem}")
