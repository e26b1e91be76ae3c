"""The end of a SQLite store's history: attempts that leave it, and the settlement ids that stay known."""
# ruff: noqa: S608 - statements are composed of constants only

from __future__ import annotations

from collections.abc import Iterable, Iterator
from sqlite3 import Connection

from settlement_core.stores._sqlite_rows import ATTEMPT_COLUMNS, ENTRY_COLUMNS, attempt_of, entry_of
from settlement_core.stores._sqlite_session import AccountRow, Session
from settlement_core.values import commands as c
from settlement_core.values import decisions
from settlement_core.values.amounts import ZERO
from settlement_core.values.known import KnownSettlement, digest_of, mark_of
from settlement_core.values.records import EntryKind

__all__ = ["export_known", "import_known", "mark_known", "retire"]

_FIND_KNOWN = "SELECT mark FROM known WHERE digest = ? AND account_no = ?"
_ADD_KNOWN = "INSERT INTO known (digest, account_no, mark) VALUES (?, ?, ?)"
_FIND_ATTEMPT = f"""
    SELECT {ATTEMPT_COLUMNS}, first_seq, last_seq FROM attempts t WHERE attempt_id = ? AND account_no = ?
"""
_READ_TAKEN = f"""
    SELECT {ENTRY_COLUMNS}
    FROM entries e INDEXED BY entries_account LEFT JOIN attempts t ON t.attempt_no = e.attempt_no
    WHERE e.account_no = ? AND e.seq BETWEEN ? AND ? AND e.attempt_no = ?
"""
_DROP_TAKEN = """
    DELETE FROM entries INDEXED BY entries_account
    WHERE account_no = ? AND seq BETWEEN ? AND ? AND attempt_no = ?
"""
_DROP_ATTEMPT = "DELETE FROM attempts WHERE attempt_no = ?"
_EXPORT = "SELECT a.account_id, k.digest, k.mark FROM known k JOIN accounts a ON a.account_no = k.account_no"


def mark_known(session: Session, account: AccountRow, settlement_id: str) -> bytes | None:
    """Return what is kept of the amount of a credit that has left the history, None if there is none."""
    found = session.execute(_FIND_KNOWN, (digest_of(settlement_id), account.account_no)).fetchone()
    return None if found is None else found[0]


def retire(session: Session, command: c.Retire) -> tuple[str, ...]:
    """Have attempts leave the history, and return those that are not in it any more."""
    account = session.account(command.account_id)
    return tuple(one for one in command.attempt_ids if _leave(session, account, one, command.before))


def _leave(session: Session, account: AccountRow, attempt_id: str, before: float) -> bool:
    found = session.execute(_FIND_ATTEMPT, (attempt_id, account.account_no)).fetchone()
    if found is None:
        return True
    *columns, first_seq, last_seq = found
    row = attempt_of(tuple(columns), account.account_id)
    where = (account.account_no, first_seq, last_seq, row.attempt_no)
    taken = [entry_of(entry, account.account_id) for entry in session.execute(_READ_TAKEN, where)]
    lane = session.lane(account, row.attempt.direction)
    if not decisions.may_retire(row.attempt, taken, lane.pruned, before):
        return False
    for entry in taken:
        if entry.kind is EntryKind.REQUEST:
            known = (digest_of(entry.entry_id), account.account_no, mark_of(entry.amount))
            session.execute(_ADD_KNOWN, known)
            lane.forget(entry.amount)
    session.execute(_DROP_TAKEN, where)
    session.execute(_DROP_ATTEMPT, (row.attempt_no,))
    lane.retire(row.attempt.settled or ZERO)
    return True


def import_known(session: Session, known: Iterable[KnownSettlement]) -> None:
    """Take over settlement ids that accounts of another store know."""
    for one in known:
        account = session.account(one.account_id)
        session.execute(_ADD_KNOWN, (one.digest, account.account_no, one.mark))


def export_known(connection: Connection) -> Iterator[KnownSettlement]:
    """Yield every settlement id whose credit has left the history."""
    for row in connection.execute(_EXPORT):
        yield KnownSettlement(*row)
