"""Commands of a SQLite store on entries: taking them in, and forgetting them.

Every command decides first and writes last, so that a refused one has changed nothing.
"""
# ruff: noqa: S608 - statements are composed of constants only

from __future__ import annotations

from decimal import Decimal

from settlement_core.stores._sqlite_history import mark_known
from settlement_core.stores._sqlite_rows import DIRECTION_CODES, KIND_CODES, SUSPENSE_COLUMNS, plain_text, suspense_of
from settlement_core.stores._sqlite_session import AccountRow, Lane, Session
from settlement_core.values import commands as c
from settlement_core.values import decisions
from settlement_core.values.amounts import total
from settlement_core.values.errors import IdempotencyConflict, TooLate, UnknownAccount
from settlement_core.values.records import AccountState, Direction, EntryKind, SuspenseItem

__all__ = ["enqueue", "find_suspense", "prune", "queue_again"]

_REQUEST = KIND_CODES[EntryKind.REQUEST]

_ADD_ENTRY = """
    INSERT INTO entries (account_no, direction, kind, entry_id, amount, entered_at, used_at)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_FIND_REQUEST = """
    SELECT seq, amount, used_at, attempt_no FROM entries INDEXED BY entries_key
    WHERE account_no = ? AND entry_id = ? AND direction = ? AND kind = 0
"""
_FIND_SUSPENSE = f"SELECT {SUSPENSE_COLUMNS} FROM suspense WHERE settlement_id = ?"
_USE_ENTRY = "UPDATE entries SET used_at = ? WHERE seq = ?"
_USE_ATTEMPT = "UPDATE attempts SET used_at = max(used_at, ?) WHERE attempt_no = ?"


def enqueue(session: Session, command: c.Enqueue, *, assigned: bool = False) -> c.Entered:
    """Record an amount, or recognise it; `assigned` if an operator says whose it is."""
    account = session.account(command.account_id)
    if command.direction is Direction.INCOMING:
        replay = _replay(session, account, command)
        if replay is not None:
            return replay
        if not assigned:
            decisions.may_credit(find_suspense(session, command.entry_id), command.account_id, command.entry_id)
    if account.state is AccountState.DELETED and command.direction is Direction.OUTGOING:
        replay = _replay(session, account, command)
        if replay is None:
            raise UnknownAccount(command.account_id)
        return replay
    if command.within_s is not None and command.within_s <= 0:
        replay = _replay(session, account, command)
        if replay is None:
            raise TooLate(command.account_id, command.entry_id)
        return replay
    lane = session.lane(account, command.direction)
    # the unique index on requests tells a replay, so that the usual new request needs no look-up
    if not _add_entry(
        session, lane, EntryKind.REQUEST, entry_id=command.entry_id, amount=command.amount, at=command.at
    ):
        replay = _replay(session, account, command)
        assert replay is not None
        return replay
    lane.enter(command.amount)
    return c.Entered(command.amount, replay=False)


def find_suspense(session: Session, settlement_id: str) -> SuspenseItem | None:
    """Return unattributed money by its settlement id, assigned or not."""
    found = session.execute(_FIND_SUSPENSE, (settlement_id,)).fetchone()
    return None if found is None else suspense_of(found)


def _replay(session: Session, account: AccountRow, command: c.Enqueue) -> c.Entered | None:
    """Return the first answer to the same request, if there was one; its key was used again just now."""
    key = (account.account_no, command.entry_id, DIRECTION_CODES[command.direction])
    found = session.execute(_FIND_REQUEST, key).fetchone()
    if found is None:
        return _long_ago(session, account, command) if command.direction is Direction.INCOMING else None
    seq, text, used_at, attempt_no = found
    amount = Decimal(text)
    if amount != command.amount:
        raise IdempotencyConflict(command.account_id, command.entry_id, first=amount, now=command.amount)
    if command.at > used_at:
        session.execute(_USE_ENTRY, (command.at, seq))
        if attempt_no is not None and command.direction is Direction.OUTGOING:
            session.execute(_USE_ATTEMPT, (command.at, attempt_no))
    return c.Entered(amount, replay=True)


def _long_ago(session: Session, account: AccountRow, command: c.Enqueue) -> c.Entered | None:
    """Return the answer to a settlement id whose credit has left the history."""
    mark = mark_known(session, account, command.entry_id)
    if mark is None:
        return None
    decisions.may_repeat(mark, command)
    return c.Entered(command.amount, replay=True)


def queue_again(session: Session, lane: Lane, kind: EntryKind, *, attempt_id: str, amount: Decimal, at: float) -> None:
    """Put what an attempt leaves over, if anything, back into the queue."""
    if amount:
        _add_entry(session, lane, kind, entry_id=attempt_id, amount=amount, at=at)
        lane.queue(amount)


def _add_entry(session: Session, lane: Lane, kind: EntryKind, *, entry_id: str, amount: Decimal, at: float) -> bool:
    """Add an entry to the queue; False if it is a request whose key was used before."""
    code = DIRECTION_CODES[lane.direction]
    values = (lane.account_no, code, KIND_CODES[kind], entry_id, plain_text(amount), at, at)
    return session.execute(_ADD_ENTRY, values).rowcount == 1


_FIND_PRUNABLE = """
    SELECT t.attempt_no, a.account_id, t.first_seq, t.last_seq
    FROM attempts t INDEXED BY attempts_prunable JOIN accounts a ON a.account_no = t.account_no
    WHERE t.direction = 0 AND t.state = 'closed' AND t.pruned = 0 AND t.used_at < ?
    ORDER BY t.used_at LIMIT ?
"""
_READ_TAKEN = """
    SELECT kind, amount FROM entries INDEXED BY entries_account
    WHERE account_no = ? AND seq BETWEEN ? AND ? AND attempt_no = ?
"""
_DROP_TAKEN = """
    DELETE FROM entries INDEXED BY entries_account
    WHERE account_no = ? AND seq BETWEEN ? AND ? AND attempt_no = ?
"""
_MARK_PRUNED = "UPDATE attempts SET pruned = 1 WHERE attempt_no = ?"


def prune(session: Session, command: c.Prune) -> int:
    """Forget the entries of attempts that were used least recently."""
    forgotten = 0
    # every attempt took at least one entry
    found = session.execute(_FIND_PRUNABLE, (command.before, command.limit)).fetchall()
    for attempt_no, account_id, first_seq, last_seq in found:
        if forgotten >= command.limit:
            break
        account = session.account(account_id)
        where = (account.account_no, first_seq, last_seq, attempt_no)
        taken = session.execute(_READ_TAKEN, where).fetchall()
        requests = total(Decimal(amount) for kind, amount in taken if kind == _REQUEST)
        session.execute(_DROP_TAKEN, where)
        session.execute(_MARK_PRUNED, (attempt_no,))
        session.lane(account, Direction.OUTGOING).forget(requests)
        forgotten += len(taken)
    return forgotten
