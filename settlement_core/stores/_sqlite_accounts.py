"""Commands of a SQLite store on accounts, on money without an owner, and on the engine's own values.

Every command decides first and writes last, so that a refused one has changed nothing.
"""
# ruff: noqa: S608 - statements are composed of constants only

from __future__ import annotations

from settlement_core.stores._json import freeze, thaw
from settlement_core.stores._sqlite_entries import enqueue, find_suspense
from settlement_core.stores._sqlite_rows import SUSPENSE_COLUMNS, plain_text
from settlement_core.stores._sqlite_session import Session
from settlement_core.values import commands as c
from settlement_core.values import decisions
from settlement_core.values.errors import SuspenseConflict, UnknownSuspense
from settlement_core.values.known import digest_of
from settlement_core.values.lived import advance
from settlement_core.values.records import AccountState, Direction, Pausing

__all__ = ["assign", "close_account", "dismiss", "finish_step", "open_account", "pause", "put", "suspend", "tick"]

# accounts


def open_account(session: Session, command: c.OpenAccount) -> c.Applied:
    """Create or revive the account."""
    account = session.find_account(command.account_id)
    if account is None:
        account = session.add_account(command.account_id)
    elif account.state is AccountState.OPEN:
        return c.Applied(changed=False)
    account.state = AccountState.OPEN
    account.set_up, account.tear_down = command.set_up, False
    account.changed = True
    return c.Applied(changed=True)


def close_account(session: Session, command: c.CloseAccount) -> c.Applied:
    """Leave a tombstone."""
    account = session.account(command.account_id)
    if account.state is AccountState.DELETED:
        return c.Applied(changed=False)
    account.state = AccountState.DELETED
    lane = session.lane(account, Direction.OUTGOING)
    # an account that owes nothing need not be set up only to be torn down
    account.set_up = account.set_up and lane.entered != lane.settled
    account.tear_down = command.tear_down
    account.changed = True
    return c.Applied(changed=True)


def finish_step(session: Session, command: c.FinishStep) -> c.Applied:
    """Strike off the pending step, if it is this one."""
    account = session.account(command.account_id)
    if decisions.pending_step(set_up=account.set_up, tear_down=account.tear_down) is not command.step:
        return c.Applied(changed=False)
    if account.set_up:
        account.set_up = False
    else:
        account.tear_down = False
    account.changed = True
    return c.Applied(changed=True)


def pause(session: Session, command: c.Pause) -> c.Applied:
    """Begin nothing new in the account, or go on."""
    account = session.account(command.account_id)
    if account.paused == command.paused:
        return c.Applied(changed=False)
    account.pausing = Pausing(paused=command.paused, reason=command.reason, by=command.by, at=command.at)
    account.changed = True
    return c.Applied(changed=True)


# money whose owner is unknown

_FIND_CREDITED = """
    SELECT a.account_id FROM entries e INDEXED BY entries_settlement JOIN accounts a ON a.account_no = e.account_no
    WHERE e.kind = 0 AND e.direction = 1 AND e.entry_id = ? AND a.account_id <> ? LIMIT 1
"""
_FIND_KNOWN = """
    SELECT a.account_id FROM known k JOIN accounts a ON a.account_no = k.account_no
    WHERE k.digest = ? AND a.account_id <> ? LIMIT 1
"""
_ADD_SUSPENSE = f"INSERT INTO suspense ({SUSPENSE_COLUMNS}) VALUES (?, ?, ?, ?, NULL, '', '', NULL)"
_ASSIGN = """
    UPDATE suspense SET account_id = ?, reason = ?, assigned_by = ?, assigned_at = ? WHERE settlement_id = ?
"""


def suspend(session: Session, command: c.Suspend) -> c.Applied:
    """Keep money whose owner cannot be told."""
    details = freeze(command.details, f"the details of unattributed settlement {command.settlement_id!r}")
    item = find_suspense(session, command.settlement_id)
    if item is None:
        values = (command.settlement_id, plain_text(command.amount), details, command.at)
        session.execute(_ADD_SUSPENSE, values)
    elif item.amount != command.amount:
        problem = f"was first reported with {item.amount:f}, now with {command.amount:f}"
        raise SuspenseConflict(command.settlement_id, problem)
    return c.Applied(changed=item is None)


def assign(session: Session, command: c.Assign) -> c.Entered:
    """Make the money an incoming entry of the account it belongs to."""
    item = find_suspense(session, command.settlement_id)
    if item is None:
        raise UnknownSuspense(command.settlement_id)
    fresh = decisions.may_assign(item, command)
    session.account(command.account_id)
    credited = _find_credited(session, command) if fresh else None
    if credited is not None:
        decisions.refuse_credited(item.settlement_id, credited)
    entry = c.Enqueue(
        account_id=command.account_id,
        direction=Direction.INCOMING,
        entry_id=command.settlement_id,
        amount=item.amount,
        at=command.at,
    )
    entered = enqueue(session, entry, assigned=True)
    if fresh:
        told = (command.reason, command.by)
        session.execute(_ASSIGN, (command.account_id, *told, command.at, command.settlement_id))
    return entered


def _find_credited(session: Session, command: c.Assign) -> str | None:
    """Return another account that was credited under the settlement id, however long ago."""
    for query, name in ((_FIND_CREDITED, command.settlement_id), (_FIND_KNOWN, digest_of(command.settlement_id))):
        found = session.execute(query, (name, command.account_id)).fetchone()
        if found is not None:
            return str(found[0])
    return None


def dismiss(session: Session, command: c.Dismiss) -> c.Applied:
    """Have the money wait for nobody any more."""
    item = find_suspense(session, command.settlement_id)
    if item is None:
        raise UnknownSuspense(command.settlement_id)
    changed = decisions.may_dismiss(item)
    if changed:
        session.execute(_ASSIGN, (None, command.reason, command.by, command.at, command.settlement_id))
    return c.Applied(changed=changed)


# the engine's own values

_FIND_NOTE = "SELECT value FROM notes WHERE account_id = ? AND key = ?"
_SET_NOTE = "REPLACE INTO notes (account_id, key, value) VALUES (?, ?, ?)"
_DROP_NOTE = "DELETE FROM notes WHERE account_id = ? AND key = ?"


def put(session: Session, command: c.Put) -> c.Applied:
    """Set or delete one JSON value."""
    frozen = freeze(command.value, f"the engine's value {command.key!r}")
    key = (command.account_id, command.key)
    found = session.execute(_FIND_NOTE, key).fetchone()
    before = None if found is None else thaw(found[0])
    if command.value is None:
        session.execute(_DROP_NOTE, key)
    else:
        session.execute(_SET_NOTE, (*key, frozen))
    return c.Applied(changed=before != thaw(frozen))


def tick(session: Session, command: c.Tick) -> c.Ticked:
    """Make durable how long the store has been in use."""
    key = (command.account_id, command.key)
    found = session.execute(_FIND_NOTE, key).fetchone()
    kept, ticked = advance(None if found is None else thaw(found[0]), command)
    session.execute(_SET_NOTE, (*key, freeze(kept, "the clock")))
    return ticked
