"""The queries of a SQLite store. Each reads about one page, however much the store holds."""
# ruff: noqa: S608 - statements are composed of constants only

from __future__ import annotations

import heapq
from collections.abc import Iterable
from decimal import Decimal
from operator import itemgetter
from typing import Any

from settlement_core.stores._json import pausing_of, thaw
from settlement_core.stores._sqlite_history import mark_known
from settlement_core.stores._sqlite_rows import (
    ATTEMPT_COLUMNS,
    DIRECTION_CODES,
    ENTRY_COLUMNS,
    SUSPENSE_COLUMNS,
    attempt_of,
    entry_of,
    suspense_of,
)
from settlement_core.stores._sqlite_session import Session, due_bits
from settlement_core.values import commands as c
from settlement_core.values import decisions
from settlement_core.values.records import (
    AccountOverview,
    AccountState,
    Attempt,
    AttemptState,
    Direction,
    EngineValue,
    Entry,
    SuspenseItem,
    Totals,
)

__all__ = ["due", "entries", "get", "history", "knows_settlement", "overview", "suspense", "values"]

_GET = "SELECT value FROM notes WHERE account_id = ? AND key = ?"


def get(session: Session, command: c.Get) -> object:
    """Return one JSON value."""
    found = session.execute(_GET, (command.account_id, command.key)).fetchone()
    return None if found is None else thaw(found[0])


_VALUES = "SELECT account_id, key, value FROM notes WHERE account_id >= '' ORDER BY account_id, key LIMIT ?"
_VALUES_AFTER = """
    SELECT account_id, key, value FROM notes WHERE (account_id, key) > (?, ?) ORDER BY account_id, key LIMIT ?
"""


def values(session: Session, command: c.Values) -> list[EngineValue]:
    """Return one page of the engine's values."""
    query, after = (_VALUES, ()) if command.after is None else (_VALUES_AFTER, command.after)
    rows = session.execute(query, (*after, command.limit))
    return [EngineValue(account_id=account_id, key=key, value=thaw(value)) for account_id, key, value in rows]


_OVERVIEW = """
    SELECT a.account_id, a.state, a.set_up, a.tear_down,
        o.entered, o.queued, o.open, o.settled, o.parked, o.pruned, o.retired,
        i.entered, i.queued, i.open, i.settled, i.parked, i.pruned, i.retired, i.released, a.account_no,
        a.pausing
    FROM accounts a
    LEFT JOIN lanes o ON o.account_no = a.account_no AND o.direction = 0
    LEFT JOIN lanes i ON i.account_no = a.account_no AND i.direction = 1
"""
_OVERVIEW_ONE = f"{_OVERVIEW} WHERE a.account_id = ?"
_OVERVIEW_PAGE = f"{_OVERVIEW} WHERE a.account_id > ? ORDER BY a.account_id LIMIT ?"
_RELEASED = """
    SELECT attempt_id FROM attempts INDEXED BY attempts_released
    WHERE account_no = ? AND direction = 1 AND state = 'released' ORDER BY release_no
"""


def overview(session: Session, command: c.Overview) -> list[AccountOverview]:
    """Return one page of accounts, or one account."""
    session.flush()
    if command.account_id is not None:
        rows = session.execute(_OVERVIEW_ONE, (command.account_id,))
    else:
        rows = session.execute(_OVERVIEW_PAGE, (command.after, command.limit))
    return [_overview_of(session, row) for row in rows.fetchall()]


def _overview_of(session: Session, row: tuple[Any, ...]) -> AccountOverview:
    released = session.execute(_RELEASED, (row[19],)).fetchall() if row[18] else ()
    return AccountOverview(
        account_id=row[0],
        state=AccountState(row[1]),
        steps=decisions.pending_steps(set_up=bool(row[2]), tear_down=bool(row[3])),
        released=tuple(attempt_id for (attempt_id,) in released),
        outgoing=_totals_of(row[4:11]),
        incoming=_totals_of(row[11:18]),
        pausing=pausing_of(row[20]),
    )


def _totals_of(sums: tuple[str | None, ...]) -> Totals:
    entered, queued, opened, settled, parked, pruned, retired = (Decimal(text or 0) for text in sums)
    return Totals(
        entered=entered, queued=queued, open=opened, settled=settled, parked=parked, pruned=pruned, retired=retired
    )


_DUE = """
    SELECT account_id FROM accounts INDEXED BY accounts_due
    WHERE due <> 0 AND due & ? AND account_id > ? ORDER BY account_id LIMIT ?
"""


def due(session: Session, command: c.Due) -> list[str]:
    """Return one page of accounts with something to do."""
    session.flush()
    bits = due_bits(command.direction)
    return [account_id for (account_id,) in session.execute(_DUE, (bits, command.after, command.limit))]


_FIND_CREDIT = """
    SELECT 1 FROM entries INDEXED BY entries_key WHERE account_no = ? AND entry_id = ? AND direction = ? AND kind = 0
"""
_FIND_CURSOR = "SELECT min(attempt_no) FROM attempts WHERE attempt_id = ?"

# an attempt whose account is missing is still shown
_OWNED = f"""
    SELECT {ATTEMPT_COLUMNS}, coalesce(a.account_id, '#' || t.account_no)
    FROM attempts t %s LEFT JOIN accounts a ON a.account_no = t.account_no
"""
# each oldest first, and newest first
_WAYS = ("t.attempt_no > ? ORDER BY t.attempt_no", "t.attempt_no < ? ORDER BY t.attempt_no DESC")
_HISTORY = tuple(f"{_OWNED % ''} WHERE {way}" for way in _WAYS)
_HISTORY_OF_ACCOUNT = tuple(
    f"{_OWNED % 'INDEXED BY attempts_account'} WHERE t.account_no = ? AND {way}" for way in _WAYS
)
_HISTORY_OF_STATE = tuple(
    f"{_OWNED % 'INDEXED BY attempts_unclosed'} WHERE t.state = ? AND t.state <> 'closed' AND {way}" for way in _WAYS
)
_PAST_ALL = 2**63 - 1


def history(session: Session, command: c.History) -> list[Attempt]:
    """Return one page of attempts.

    Attempts that are not closed are few, and have an index of their own.
    """
    start, way = (_PAST_ALL, 1) if command.newest else (0, 0)
    if command.after is not None:
        (start,) = session.execute(_FIND_CURSOR, (command.after,)).fetchone()
        if start is None:
            return []
    rows: Iterable[tuple[Any, ...]]
    if command.states and AttemptState.CLOSED not in command.states:
        pages = (session.execute(_HISTORY_OF_STATE[way], (state.value, start)) for state in command.states)
        rows = heapq.merge(*pages, key=itemgetter(0), reverse=command.newest)
    elif command.account_id is None:
        rows = session.execute(_HISTORY[way], (start,))
    else:
        account = session.find_account(command.account_id)
        if account is None:
            return []
        rows = session.execute(_HISTORY_OF_ACCOUNT[way], (account.account_no, start))
    found: list[Attempt] = []
    for row in rows:
        if len(found) == command.limit:
            break
        *columns, account_id = row
        if command.account_id not in {None, account_id}:
            continue
        attempt = attempt_of(tuple(columns), account_id).attempt
        if not command.states or attempt.state in command.states:
            found.append(attempt)
    return found


def knows_settlement(session: Session, command: c.KnowsSettlement) -> bool:
    """Tell whether the account was ever credited under this id."""
    account = session.find_account(command.account_id)
    if account is None:
        return False
    key = (account.account_no, command.settlement_id, DIRECTION_CODES[Direction.INCOMING])
    listed = session.execute(_FIND_CREDIT, key).fetchone() is not None
    return listed or mark_known(session, account, command.settlement_id) is not None


_ENTRIES = f"""
    SELECT {ENTRY_COLUMNS}
    FROM entries e INDEXED BY entries_account LEFT JOIN attempts t ON t.attempt_no = e.attempt_no
    WHERE e.account_no = ? AND e.seq > ? AND e.direction = ? ORDER BY e.seq LIMIT ?
"""


def entries(session: Session, command: c.Entries) -> list[Entry]:
    """Return one page of the entries of one direction of an account."""
    account = session.find_account(command.account_id)
    if account is None:
        return []
    values = (account.account_no, command.after, DIRECTION_CODES[command.direction], command.limit)
    rows = session.execute(_ENTRIES, values)
    return [entry_of(row, command.account_id) for row in rows]


_SUSPENSE = f"SELECT {SUSPENSE_COLUMNS} FROM suspense WHERE settlement_id > ? ORDER BY settlement_id LIMIT ?"
_SUSPENSE_WAITING = f"""
    SELECT {SUSPENSE_COLUMNS} FROM suspense INDEXED BY suspense_waiting
    WHERE account_id IS NULL AND assigned_at IS NULL AND settlement_id > ? ORDER BY settlement_id LIMIT ?
"""


def suspense(session: Session, command: c.Suspense) -> list[SuspenseItem]:
    """Return one page of money whose owner is, or was, unknown."""
    query = _SUSPENSE if command.assigned else _SUSPENSE_WAITING
    return [suspense_of(row) for row in session.execute(query, (command.after, command.limit))]
