"""Whether a SQLite file is the latest there is of its store: its generation, and the mark beside it.

The file counts generations, at each opening and every `BEAT_S` seconds while it is written to. A mark beside it, in a
file of its own, repeats the latest one. A file that is behind its mark, that lacks it, or that was made by a backup may
be older than the ledger. While the store is open the file says so: a copy of it without its log is no store.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from settlement_core.values.errors import LocalError

__all__ = ["BEAT_S", "Generation", "back_up", "take_up"]

BEAT_S = 10.0
"""Seconds between two generations while money moves: a copy that is older is recognised once it is restored."""

PAGES_AT_ONCE, PAUSE_S = 512, 0.002
"""A backup copies so many pages, and then lets the store go on for so long."""

_FIND = "SELECT identity, generation, in_use, copied FROM store"
_ADD = "INSERT INTO store (identity, generation, in_use, copied) VALUES (?, 0, 0, '')"
_BEGIN = "UPDATE store SET generation = ?, copied = ?, in_use = ?"
_USE = "UPDATE store SET in_use = ?"
_BEAT = "UPDATE store SET generation = generation + 1"
# what `in_use` tells: what the file says while it is open, until SQLite moves into it what its log says
_CLOSED, _IN_FILE, _IN_LOG = 0, 1, 2
_COPY = "UPDATE store SET in_use = 0, copied = ?"


@dataclass(slots=True)
class Generation:
    """What an open file is to its store; `maybe_older` says why it may not be the latest, "" if it is."""

    file: Path
    identity: str
    number: int
    maybe_older: str

    def beat(self, connection: sqlite3.Connection) -> None:
        """Count one more generation, in the transaction that is open; `write_mark` once it is on the disk."""
        connection.execute(_BEAT)

    def write_mark(self) -> None:
        """Have the mark say the generation after this one, which has just become durable in the file."""
        self.number += 1
        _write_mark(self.file, self.identity, self.number)

    def adopt(self, connection: sqlite3.Connection) -> None:
        """Make this file the latest of its store, whatever the mark says: an operator's decisions begin here."""
        mark = _read_mark(self.file)
        self.number = max(self.number, 0 if mark is None else mark[1]) + 1
        connection.execute(_BEGIN, (self.number, "", _IN_LOG))
        _write_mark(self.file, self.identity, self.number)
        self.maybe_older = ""

    def end(self, connection: sqlite3.Connection) -> None:
        """Note that the file is whole without its log, which is moved into it next."""
        connection.execute(_USE, (_CLOSED,))


def take_up(connection: sqlite3.Connection, file: Path, *, had_log: bool, incomplete: bool) -> Generation:
    """Begin a new generation of a file that was just opened, if it is the latest.

    Raises `LocalError` if the file was copied, or its log removed, while it was in use; not if `incomplete` will do.
    """
    row = connection.execute(_FIND).fetchone()
    new = row is None
    if row is None:
        connection.execute(_ADD, (uuid4().hex,))
        row = connection.execute(_FIND).fetchone()
    identity, number, in_use, copied = row
    torn = in_use == _IN_FILE and not had_log
    if torn and not incomplete:
        raise LocalError(
            f"the store at {file} is not whole: it was copied while it was in use, or its log {file.name}-wal was "
            "removed, and that has the latest money; nothing was changed: put the log back beside it, or restore a "
            "copy made by settlement-core backup"
        )
    generation = Generation(file, identity, number, "")
    mark = None if new else _read_mark(file)
    if not new:
        generation.maybe_older = _why_older(file, identity, number, copied=copied, mark=mark)
    if torn:
        generation.maybe_older = generation.maybe_older or "its log is missing"
    if generation.maybe_older:
        connection.execute(_BEGIN, (number, copied, _IN_FILE))
    else:
        generation.number = number + 1
        connection.execute(_BEGIN, (generation.number, "", _IN_FILE))
    # the file itself must say that it is in use, not only its log
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.execute(_USE, (_IN_LOG,))
    if not generation.maybe_older:
        _write_mark(file, identity, generation.number)
    return generation


def _why_older(file: Path, identity: str, number: int, *, copied: str, mark: tuple[str, int] | None) -> str:
    if copied:
        return copied
    if mark is None:
        return f"there is no {_mark_of(file).name} beside it, which tells the latest generation"
    if mark[0] != identity:
        return f"{_mark_of(file).name} beside it is another store's"
    if number < mark[1]:
        return f"it is of generation {number}, and {_mark_of(file).name} beside it knows generation {mark[1]}"
    return ""


def back_up(connection: sqlite3.Connection, file: Path, destination: Path) -> None:
    """Copy the store as it is at one instant to a new file, in small steps; that file knows that it is a copy."""
    try:
        os.close(os.open(destination, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as problem:
        raise LocalError(f"cannot write a backup to {destination}: {problem.strerror}; name a new file") from None
    try:
        with closing(sqlite3.connect(destination, isolation_level=None)) as copy:
            connection.backup(copy, pages=PAGES_AT_ONCE, sleep=PAUSE_S)
            # one file, without a log
            copy.execute("PRAGMA journal_mode=DELETE").fetchall()
            at = datetime.now(UTC).isoformat(" ", "seconds")
            copy.execute(_COPY, (f"it is a backup of {file}, made at {at}",))
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def _mark_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-mark")


def _read_mark(file: Path) -> tuple[str, int] | None:
    """Return the identity and the generation that the mark beside the file tells; None if there is none to read."""
    try:
        identity, number = _mark_of(file).read_text(encoding="ascii").split()
        return identity, int(number)
    except (OSError, ValueError):
        return None


def _write_mark(file: Path, identity: str, number: int) -> None:
    """Replace the mark, on the disk when this returns."""
    mark = _mark_of(file)
    draft = mark.with_name(f"{mark.name}-new")
    descriptor = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    try:
        os.write(descriptor, f"{identity} {number}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(mark)
    folder = os.open(mark.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
