"""Bringing an account into a SQLite store from another one, rows as they come: nothing of it is kept in memory."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from settlement_core.stores._json import freeze
from settlement_core.stores._sqlite_rows import DIRECTION_CODES, KIND_CODES, plain_text
from settlement_core.stores._sqlite_session import Lane, Session
from settlement_core.values.errors import LocalError
from settlement_core.values.records import AccountOverview, Attempt, AttemptState, Direction, Entry, Step, Totals

__all__ = ["import_account"]

_MICROSECONDS = 1_000_000

_IS_TAKEN = "SELECT 1 FROM attempts WHERE attempt_no = ?"
_ADD_ATTEMPT = """
    INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, ?)
"""
_ADD_ENTRY = """
    INSERT INTO entries (account_no, direction, kind, entry_id, amount, attempt_no, entered_at, used_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_FIND_ATTEMPT = "SELECT attempt_no FROM attempts WHERE attempt_id = ? AND account_no = ?"
_SET_RANGE = "UPDATE attempts SET first_seq = ?, last_seq = ?, used_at = max(used_at, ?) WHERE attempt_no = ?"


def import_account(
    session: Session, account: AccountOverview, entries: Iterable[Entry], attempts: Iterable[Attempt]
) -> None:
    """Write the account and everything that belongs to it."""
    if session.find_account(account.account_id) is not None:
        raise LocalError(f"account {account.account_id!r} is there already; nothing was recorded")
    row = session.add_account(account.account_id)
    row.state, row.pausing, row.changed = account.state, account.pausing, True
    row.set_up, row.tear_down = Step.SET_UP in account.steps, Step.TEAR_DOWN in account.steps
    lanes = {
        Direction.OUTGOING: _lane(row.account_no, Direction.OUTGOING, account.outgoing),
        Direction.INCOMING: _lane(row.account_no, Direction.INCOMING, account.incoming),
    }
    _add_attempts(session, lanes, account.released, attempts)
    _add_entries(session, lanes, entries)
    # an account that never saw money has no totals
    row.lanes = {way: lane for way, lane in lanes.items() if lane.entered}
    for lane in row.lanes.values():
        lane.changed = True
    session.flush()


def _lane(account_no: int, direction: Direction, totals: Totals) -> Lane:
    return Lane(
        account_no,
        direction,
        entered=totals.entered,
        queued=totals.queued,
        open=totals.open,
        settled=totals.settled,
        parked=totals.parked,
        pruned=totals.pruned,
        retired=totals.retired,
    )


def _add_attempts(
    session: Session, lanes: dict[Direction, Lane], released: tuple[str, ...], attempts: Iterable[Attempt]
) -> None:
    places = {attempt_id: place for place, attempt_id in enumerate(released, 1)}
    latest = 0
    for attempt in attempts:
        lane = lanes[attempt.direction]
        # numbers are the order of claims: among accounts too, if they are made of the time
        latest = max(latest + 1, int(attempt.claimed_at * _MICROSECONDS))
        while session.execute(_IS_TAKEN, (latest,)).fetchone() is not None:
            latest += 1
        if attempt.state is AttemptState.OPEN:
            lane.open_no = latest
        if attempt.state is AttemptState.RELEASED:
            lane.released += 1
            lane.releases_ever += 1
        session.execute(_ADD_ATTEMPT, _attempt_values(latest, lane.account_no, attempt, places.get(attempt.attempt_id)))


def _attempt_values(attempt_no: int, account_no: int, attempt: Attempt, place: int | None) -> tuple[object, ...]:
    payment = attempt.payment
    what = f"the payment of attempt {attempt.attempt_id!r}"
    return (
        attempt_no,
        account_no,
        DIRECTION_CODES[attempt.direction],
        attempt.attempt_id,
        plain_text(attempt.amount),
        plain_text(attempt.dust),
        attempt.state.value,
        None if payment is None else plain_text(payment.amount),
        None if payment is None else freeze(payment.reference, what),
        _text_or_none(attempt.settled),
        attempt.reason,
        attempt.resolved_by,
        attempt.claimed_at,
        attempt.closed_at,
        attempt.pruned,
        # settlement ids are kept for ever, so only outgoing attempts need to know when they were last used
        (attempt.closed_at or 0.0) if attempt.direction is Direction.OUTGOING else None,
        place,
    )


def _text_or_none(amount: Decimal | None) -> str | None:
    return None if amount is None else plain_text(amount)


def _add_entries(session: Session, lanes: dict[Direction, Lane], entries: Iterable[Entry]) -> None:
    """Write entries; those that one attempt took lie side by side."""
    taker: tuple[Direction, str] | None = None
    taking: _Taking | None = None
    for entry in entries:
        lane = lanes[entry.direction]
        if entry.attempt_id is None:
            lane.entries_queued += 1
            attempt_no = None
        else:
            if taker != (entry.direction, entry.attempt_id):
                _end(session, taking)
                taker = (entry.direction, entry.attempt_id)
                taking = _Taking(_find(session, lane, entry.attempt_id))
            assert taking is not None
            attempt_no = taking.attempt_no
        seq = session.execute(
            _ADD_ENTRY,
            (
                lane.account_no,
                DIRECTION_CODES[entry.direction],
                KIND_CODES[entry.kind],
                entry.entry_id,
                plain_text(entry.amount),
                attempt_no,
                entry.entered_at,
                entry.used_at,
            ),
        ).lastrowid
        assert seq is not None
        if attempt_no is not None and taking is not None:
            taking.add(seq, entry.used_at)
    _end(session, taking)


class _Taking:
    """The entries of one attempt, as far as they have come."""

    def __init__(self, attempt_no: int) -> None:
        self.attempt_no = attempt_no
        self.first = self.last = 0
        self.used_at = 0.0

    def add(self, seq: int, used_at: float) -> None:
        self.first = self.first or seq
        self.last = seq
        self.used_at = max(self.used_at, used_at)


def _end(session: Session, taking: _Taking | None) -> None:
    if taking is not None:
        session.execute(_SET_RANGE, (taking.first, taking.last, taking.used_at, taking.attempt_no))


def _find(session: Session, lane: Lane, attempt_id: str) -> int:
    found = session.execute(_FIND_ATTEMPT, (attempt_id, lane.account_no)).fetchone()
    if found is None:
        raise LocalError(f"attempt {attempt_id!r} is missing, though it has entries; nothing was recorded")
    attempt_no: int = found[0]
    return attempt_no
