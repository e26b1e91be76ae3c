"""Commands of a SQLite store on attempts, from the claim to the end.

Every command decides first and writes last, so that a refused one has changed nothing.
"""
# ruff: noqa: S608 - statements are composed of constants only

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal

from settlement_core.stores._json import freeze, thaw
from settlement_core.stores._sqlite_entries import queue_again
from settlement_core.stores._sqlite_rows import (
    ATTEMPT_COLUMNS,
    DIRECTION_CODES,
    AttemptRow,
    attempt_of,
    plain_text,
)
from settlement_core.stores._sqlite_session import AccountRow, Lane, Session
from settlement_core.values import commands as c
from settlement_core.values import decisions
from settlement_core.values.amounts import add, subtract
from settlement_core.values.errors import UnknownAttempt
from settlement_core.values.records import Attempt, AttemptState, Direction, EntryKind, Payment, Step

__all__ = ["claim", "close", "hold", "note", "release", "resolve"]

_FIND_ATTEMPT = f"SELECT {ATTEMPT_COLUMNS} FROM attempts t WHERE attempt_id = ? AND account_no = ?"
_FIND_OPEN = f"SELECT {ATTEMPT_COLUMNS} FROM attempts t WHERE attempt_no = ?"
_FIND_RELEASED = f"""
    SELECT {ATTEMPT_COLUMNS} FROM attempts t INDEXED BY attempts_released
    WHERE account_no = ? AND direction = ? AND state = 'released' ORDER BY release_no LIMIT 1
"""
_REOPEN = "UPDATE attempts SET state = 'open' WHERE attempt_no = ?"
_READ_QUEUE = """
    SELECT amount, seq, used_at FROM entries INDEXED BY entries_queue
    WHERE account_no = ? AND direction = ? AND attempt_no IS NULL ORDER BY seq
"""
_ADD_ATTEMPT = """
    INSERT INTO attempts (account_no, direction, attempt_id, amount, dust, state, reason, resolved_by, claimed_at,
        pruned, first_seq, last_seq, used_at)
    VALUES (?, ?, ?, ?, ?, 'open', '', '', ?, 0, ?, ?, ?)
"""
_TAKE_ENTRIES = """
    UPDATE entries INDEXED BY entries_queue SET attempt_no = ?
    WHERE account_no = ? AND direction = ? AND attempt_no IS NULL AND seq <= ?
"""


def claim(session: Session, command: c.Claim) -> c.Claimed | c.NothingToClaim | c.StepDue:
    """Return the open attempt, a released one, or a new one."""
    account = session.account(command.account_id)
    lane = session.lane(account, command.direction)
    if lane.open_no is not None:
        attempt = attempt_of(session.execute(_FIND_OPEN, (lane.open_no,)).fetchone(), command.account_id).attempt
        return _claimed(account, lane, attempt, fresh=attempt.attempt_id == command.attempt_id)
    known = session.execute(_FIND_ATTEMPT, (command.attempt_id, account.account_no)).fetchone()
    if known is not None:
        decisions.refuse_claim(attempt_of(known, command.account_id).attempt)
        return c.NothingToClaim(lane.queued, summed_up=True)
    if account.paused:
        return c.NothingToClaim(lane.queued)
    if command.direction is Direction.OUTGOING and account.set_up:
        return c.StepDue(Step.SET_UP)
    if lane.released:
        return replace(_claimed(account, lane, _reopen(session, account, lane), fresh=False), reopened=True)
    if decisions.is_blocked(command.direction, lane.parked):
        return c.NothingToClaim(lane.queued)
    attempt_or_none = _take(session, account, lane, command) if lane.entries_queued else None
    if attempt_or_none is not None and not attempt_or_none.amount:
        return c.NothingToClaim(lane.queued, summed_up=True)
    if attempt_or_none is not None:
        return _claimed(account, lane, attempt_or_none, fresh=True)
    if command.direction is Direction.OUTGOING and account.tear_down and not lane.parked:
        return c.StepDue(Step.TEAR_DOWN)
    return c.NothingToClaim(lane.queued)


def _claimed(account: AccountRow, lane: Lane, attempt: Attempt, *, fresh: bool) -> c.Claimed:
    steps = lane.direction is Direction.OUTGOING and (account.set_up or account.tear_down)
    return c.Claimed(attempt, fresh=fresh, more=bool(lane.entries_queued or lane.released or steps))


def _reopen(session: Session, account: AccountRow, lane: Lane) -> Attempt:
    found = session.execute(_FIND_RELEASED, (account.account_no, DIRECTION_CODES[lane.direction])).fetchone()
    row = attempt_of(found, account.account_id)
    session.execute(_REOPEN, (row.attempt_no,))
    lane.reopen(row.attempt_no, row.attempt.amount)
    return replace(row.attempt, state=AttemptState.OPEN)


@dataclass(slots=True)
class _Reading:
    """Queued entries as far as they were looked at."""

    seqs: list[int]
    used_at: list[float]

    def amounts(self, rows: Iterable[tuple[str, int, float]]) -> Iterator[Decimal]:
        for text, seq, used_at in rows:
            self.seqs.append(seq)
            self.used_at.append(used_at)
            yield Decimal(text)


def _take(session: Session, account: AccountRow, lane: Lane, command: c.Claim) -> Attempt | None:
    """Move queued entries into a new attempt; None if all of them are too little."""
    if decisions.is_dust(lane.queued, command):
        return None
    code = DIRECTION_CODES[lane.direction]
    reading = _Reading([], [])
    with closing(session.execute(_READ_QUEUE, (account.account_no, code))) as rows:
        plan = decisions.plan_claim(reading.amounts(rows), command)
    if plan is None:
        return None
    first_seq, last_seq = reading.seqs[0], reading.seqs[plan.count - 1]
    # settlement ids are kept for ever, so only outgoing attempts need to know when they were last used
    used_at = max(reading.used_at[: plan.count]) if lane.direction is Direction.OUTGOING else None
    amounts = (plain_text(plan.amount), plain_text(plan.dust))
    values = (account.account_no, code, command.attempt_id, *amounts, command.at, first_seq, last_seq, used_at)
    attempt_no = session.execute(_ADD_ATTEMPT, values).lastrowid
    assert attempt_no is not None
    session.execute(_TAKE_ENTRIES, (attempt_no, account.account_no, code, last_seq))
    attempt = Attempt(
        account_id=account.account_id,
        direction=lane.direction,
        attempt_id=command.attempt_id,
        amount=plan.amount,
        dust=plan.dust,
        claimed_at=command.at,
    )
    if plan.amount:
        lane.take(plan.count, add(plan.amount, plan.dust), attempt_no, plan.amount)
    else:
        attempt = decisions.summed_up(attempt)
        lane.sum_up(plan.count, plan.dust)
        session.execute(_END, ("0", command.at, attempt.reason, "", command.at, attempt_no))
    queue_again(session, lane, EntryKind.DUST, attempt_id=command.attempt_id, amount=plan.dust, at=command.at)
    return attempt


_NOTE = "UPDATE attempts SET payment_amount = ?, payment_reference = ? WHERE attempt_no = ?"
_END = """
    UPDATE attempts SET state = 'closed', settled = ?, closed_at = ?, reason = ?, resolved_by = ?,
        used_at = max(used_at, ?)
    WHERE attempt_no = ?
"""
_PARK = "UPDATE attempts SET state = ?, reason = ?, resolved_by = '' WHERE attempt_no = ?"
_RELEASE = "UPDATE attempts SET state = 'released', reason = ?, resolved_by = ?, release_no = ? WHERE attempt_no = ?"


def note(session: Session, command: c.Note) -> c.Applied:
    """Keep what the engine prepared."""
    frozen = freeze(command.payment.reference, f"the payment of attempt {command.attempt_id!r}")
    command = replace(command, payment=Payment(command.payment.amount, thaw(frozen)))
    _, row = _attempt(session, command.account_id, command.attempt_id)
    if not decisions.may_note(row.attempt, command):
        return c.Applied(changed=False)
    session.execute(_NOTE, (plain_text(command.payment.amount), frozen, row.attempt_no))
    return c.Applied(changed=True)


def close(session: Session, command: c.Close) -> c.Applied:
    """End an open attempt."""
    account, row = _attempt(session, command.account_id, command.attempt_id)
    if not decisions.may_close(row.attempt, command):
        return c.Applied(changed=False)
    lane = session.lane(account, row.attempt.direction)
    lane.close(row.attempt.amount, command.settled)
    told = AttemptRow(row.attempt_no, replace(row.attempt, reason=command.reason or row.attempt.reason))
    _end(session, lane, told, settled=command.settled, at=command.at)
    return c.Applied(changed=True)


def hold(session: Session, command: c.Hold) -> c.Applied:
    """Park an open attempt."""
    account, row = _attempt(session, command.account_id, command.attempt_id)
    if not decisions.may_hold(row.attempt, command):
        return c.Applied(changed=False)
    state = decisions.parked_state(row.attempt.direction)
    session.execute(_PARK, (state.value, command.reason, row.attempt_no))
    session.lane(account, row.attempt.direction).park(row.attempt.amount)
    return c.Applied(changed=True)


def release(session: Session, command: c.Release) -> c.Applied:
    """Offer a held credit again."""
    account, row = _attempt(session, command.account_id, command.attempt_id)
    if not decisions.may_release(row.attempt, command):
        return c.Applied(changed=False)
    place = session.lane(account, row.attempt.direction).release()
    session.execute(_RELEASE, (command.reason, command.by, place, row.attempt_no))
    return c.Applied(changed=True)


def resolve(session: Session, command: c.Resolve) -> c.Applied:
    """End a parked attempt as a person says."""
    account, row = _attempt(session, command.account_id, command.attempt_id)
    if not decisions.may_resolve(row.attempt, command):
        return c.Applied(changed=False)
    lane = session.lane(account, row.attempt.direction)
    was_released = row.attempt.state is AttemptState.RELEASED
    lane.resolve(row.attempt.amount, command.settled, was_released=was_released)
    told = AttemptRow(row.attempt_no, replace(row.attempt, reason=command.reason, resolved_by=command.by))
    _end(session, lane, told, settled=command.settled, at=command.at)
    return c.Applied(changed=True)


def _attempt(session: Session, account_id: str, attempt_id: str) -> tuple[AccountRow, AttemptRow]:
    account = session.account(account_id)
    found = session.execute(_FIND_ATTEMPT, (attempt_id, account.account_no)).fetchone()
    if found is None:
        raise UnknownAttempt(account_id, attempt_id)
    return account, attempt_of(found, account_id)


def _end(session: Session, lane: Lane, row: AttemptRow, *, settled: Decimal, at: float) -> None:
    attempt = row.attempt
    values = (plain_text(settled), at, attempt.reason, attempt.resolved_by, at, row.attempt_no)
    session.execute(_END, values)
    leftover = subtract(attempt.amount, settled)
    queue_again(session, lane, EntryKind.LEFTOVER, attempt_id=attempt.attempt_id, amount=leftover, at=at)
