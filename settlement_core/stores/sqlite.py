"""The store for one machine: one SQLite file, one connection, one process.

A batch is one transaction, on the disk when `apply` returns (write-ahead log, `synchronous=FULL`). The file stays
locked for as long as it is open, so that no second process can ever pay the same debt.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4

from settlement_core.stores import _sqlite_accounts, _sqlite_attempts, _sqlite_entries, _sqlite_history, _sqlite_queries
from settlement_core.stores._json import refusal_of_halves
from settlement_core.stores._sqlite_generations import BEAT_S, Generation, back_up, take_up
from settlement_core.stores._sqlite_importing import import_account
from settlement_core.stores._sqlite_inspection import inspect
from settlement_core.stores._sqlite_opening import (
    PASSING,
    bring_up_to_date,
    explain_opening,
    identity_of,
    log_of,
    primary_code,
    require_usable,
    take_lock,
)
from settlement_core.stores._sqlite_session import Session
from settlement_core.stores._steps import Steps, make_waits
from settlement_core.values import commands as c
from settlement_core.values.errors import (
    LocalError,
    SettlementError,
    StoreBroken,
    StoreUnavailable,
)
from settlement_core.values.known import KnownSettlement
from settlement_core.values.records import AccountOverview, Attempt, Entry

__all__ = ["SqliteStore", "open_sqlite_store"]

T = TypeVar("T")

_Handler = Callable[[Session, Any], c.Result]

_HANDLERS: dict[type, _Handler] = {
    c.OpenAccount: _sqlite_accounts.open_account,
    c.CloseAccount: _sqlite_accounts.close_account,
    c.FinishStep: _sqlite_accounts.finish_step,
    c.Enqueue: _sqlite_entries.enqueue,
    c.Claim: _sqlite_attempts.claim,
    c.Note: _sqlite_attempts.note,
    c.Close: _sqlite_attempts.close,
    c.Hold: _sqlite_attempts.hold,
    c.Release: _sqlite_attempts.release,
    c.Resolve: _sqlite_attempts.resolve,
    c.Suspend: _sqlite_accounts.suspend,
    c.Assign: _sqlite_accounts.assign,
    c.Dismiss: _sqlite_accounts.dismiss,
    c.Pause: _sqlite_accounts.pause,
    c.Put: _sqlite_accounts.put,
    c.Prune: _sqlite_entries.prune,
    c.Retire: _sqlite_history.retire,
    c.Tick: _sqlite_accounts.tick,
    c.Get: _sqlite_queries.get,
    c.Values: _sqlite_queries.values,
    c.Overview: _sqlite_queries.overview,
    c.Due: _sqlite_queries.due,
    c.History: _sqlite_queries.history,
    c.Entries: _sqlite_queries.entries,
    c.Suspense: _sqlite_queries.suspense,
    c.KnowsSettlement: _sqlite_queries.knows_settlement,
    # the file is one process's: it holds everything, and rings by itself
    c.Share: lambda _session, _command: c.Shares(shared=False, partitions=1, leases={0: ""}),
    c.Nudge: lambda _session, _command: c.Applied(changed=False),
    c.Fence: lambda _session, _command: c.Applied(changed=False),
    c.Workers: lambda _session, _command: [],
}


class SqliteStore:
    """One open file. Made by `open_sqlite_store`; owns the lock on the file until `close`.

    `apply` may be called from any thread, by one caller at a time.
    """

    threaded = True

    def __init__(
        self, path: Path, connection: sqlite3.Connection, generation: Generation, *, created: bool = False
    ) -> None:
        self.path = path
        self.name = f"sqlite:{path}"
        self.created = created
        """Whether there was no store in the file before it was opened."""
        self._connection = connection
        self._generation = generation
        self._beat_at = monotonic()
        self._identity = identity_of(path)
        if self._identity is None:
            raise StoreBroken(f"the store at {path} or its log was removed while it was opened; nothing was recorded")

    def __repr__(self) -> str:
        return f"<SqliteStore {str(self.path)!r}>"

    def apply(self, commands: Sequence[c.Command[Any]]) -> list[c.Result]:
        """Apply a batch in order, in one transaction; see `settlement_core.abc.Store`."""
        return make_waits(self.apply_in_steps(commands))

    def apply_in_steps(self, commands: Sequence[c.Command[Any]]) -> Steps[list[c.Result]]:
        """Apply a batch as `apply` does; only the commit waits. See `settlement_core.abc.SteppedStore`."""
        return self._transact(lambda session: [_answer(session, command) for command in commands])

    def _transact(self, work: Callable[[Session], T]) -> Steps[T]:
        """Do something in one transaction, which is on the disk once the commit, which is yielded, has returned."""
        self._require_file()
        try:
            if self._connection.in_transaction:
                # the batch before failed, and so did taking it back
                self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            session = Session(self._connection)
            changes = self._connection.total_changes
            result = work(session)
            session.flush()
            beats = self._is_beat_due(changes)
            if beats:
                self._generation.beat(self._connection)
            yield partial(self._connection.execute, "COMMIT")
        except sqlite3.Error as problem:
            self._roll_back()
            raise _explain(problem, self.path) from problem
        except (ArithmeticError, ValueError) as problem:
            self._roll_back()
            raise StoreBroken(
                f"the store at {self.path} holds a row that cannot be read ({problem!r}); nothing of this batch was "
                "recorded: have the row looked at, or restore a backup, of which nothing is paid until you decide"
            ) from problem
        except BaseException:
            self._roll_back()
            raise
        if beats:
            yield from self._write_mark()
        return result

    def _write_mark(self) -> Steps[None]:
        """Have the mark beside the file tell the generation that has just become durable in it."""
        try:
            yield self._generation.write_mark
        except OSError as problem:
            raise StoreUnavailable(
                f"the mark of the store at {self.path} cannot be written: {problem}; the same batch may safely be "
                "applied again"
            ) from problem
        self._beat_at = monotonic()

    def _is_beat_due(self, changes: int) -> bool:
        """Tell whether a new generation begins with the batch that was just carried out, if it changed anything."""
        overdue = monotonic() - self._beat_at >= BEAT_S
        return overdue and not self._generation.maybe_older and self._connection.total_changes != changes

    @property
    def maybe_older(self) -> str:
        """Return why these books may be older than the ledger; "" if nothing speaks for that."""
        return self._generation.maybe_older

    def adopt(self) -> None:
        """Take these books for the latest; see `settlement_core.abc.RestorableStore`."""
        self._generation.adopt(self._connection)

    def back_up(self, path: str | Path | None = None) -> Path:
        """Make a consistent copy in a new file; see `settlement_core.abc.RestorableStore`."""
        beside = self.path.with_name(f".{self.path.name}-backup-{uuid4().hex}")
        copy = beside if path is None else Path(path).absolute()
        try:
            back_up(self._connection, self.path, copy)
        except sqlite3.Error as problem:
            raise LocalError(f"cannot back up the store at {self.path} to {copy}: {problem}") from problem
        return copy

    def import_account(self, account: AccountOverview, entries: Iterable[Entry], attempts: Iterable[Attempt]) -> None:
        """Take one account over from another store, in one transaction; see `settlement_core.abc.ImportingStore`."""
        self._import(lambda session: import_account(session, account, entries, attempts))

    def import_known(self, known: Iterable[KnownSettlement]) -> None:
        """Take over settlement ids; see `settlement_core.abc.ImportingStore`."""
        self._import(lambda session: _sqlite_history.import_known(session, known))

    def export_known(self) -> Iterator[KnownSettlement]:
        """Yield all settlement ids whose credits have left the history; see `settlement_core.abc.ImportingStore`."""
        return _sqlite_history.export_known(self._connection)

    def _import(self, work: Callable[[Session], None]) -> None:
        # the next batch waits until all that is in the log before it is on the disk, too
        self._synchronous("NORMAL")
        try:
            make_waits(self._transact(work))
        finally:
            self._synchronous("FULL")

    def _synchronous(self, level: str) -> None:
        if self._connection.in_transaction:
            # it failed, and so did taking it back; within it nothing would change
            self._connection.execute("ROLLBACK")
        self._connection.execute(f"PRAGMA synchronous={level}").fetchall()

    def inspect(self) -> list[str]:
        """Return one sentence for everything in the file that is not as it should be; reads all of it."""
        try:
            return list(inspect(self._connection))
        except sqlite3.Error as problem:
            raise _explain(problem, self.path) from problem

    def close(self) -> None:
        """Move what is in the log into the file and give the lock back. May be called twice."""
        # a log that cannot be moved now stays beside the file and is read at the next opening
        with suppress(sqlite3.Error):
            self._generation.end(self._connection)
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._connection.close()

    def _roll_back(self) -> None:
        # SQLite has often rolled back by itself
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _require_file(self) -> None:
        """Raise if the file or its log is gone: what is written to a removed file is lost with this process."""
        if identity_of(self.path) != self._identity:
            raise StoreBroken(
                f"the store at {self.path} was removed, replaced or renamed while open; nothing of this batch was "
                "recorded: stop this process, and put the file and its -wal file back before starting again"
            )


def open_sqlite_store(path: str | os.PathLike[str], *, create: bool = True, incomplete: bool = False) -> SqliteStore:
    """Open the store in the file at `path`, creating it if there is none, and take its lock.

    Without `create` the file must hold a store in this version's format, and is neither made nor migrated. The store's
    `maybe_older` tells whether these may be restored books, older than the ledger. `incomplete` also takes a file that
    was copied while it was in use, without its log.

    Raises `StoreLocked` if another process has it open, `StoreBroken` if the file is damaged, is not a store of this
    package or was written by a newer version, and `LocalError` if the path cannot be used or the file is not whole.
    """
    # SQLite follows links, and keeps the log beside the file they lead to
    file = Path(path).resolve()
    had_log = log_of(file).exists()
    require_usable(file, create=create)
    connection = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=256)
    try:
        take_lock(connection, file, create=create)
        created = bring_up_to_date(connection)
        generation = take_up(connection, file, had_log=had_log, incomplete=incomplete)
        return SqliteStore(file, connection, generation, created=created)
    except sqlite3.Error as problem:
        connection.close()
        raise explain_opening(problem, file) from problem
    except BaseException:
        connection.close()
        raise


def _answer(session: Session, command: c.Command[Any]) -> c.Result:
    try:
        return _HANDLERS[type(command)](session, command)
    except LocalError as refusal:
        # whoever keeps the answer must not keep this transaction's frames alive
        return refusal.with_traceback(None)
    except UnicodeEncodeError:
        # every id is looked up before anything is written
        return refusal_of_halves(command)


def _explain(problem: sqlite3.Error, file: Path) -> SettlementError:
    """Return what a failed batch is answered with."""
    if primary_code(problem) in PASSING:
        # it is rolled back, but for a commit that failed only after it was done
        return StoreUnavailable(
            f"the store at {file} takes nothing now: {problem}; the same batch may safely be applied again"
        )
    return StoreBroken(f"the store at {file} is broken: {problem}")
