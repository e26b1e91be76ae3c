"""Between rows of a SQLite store and the records of `settlement_core.values`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from settlement_core.stores._json import thaw
from settlement_core.values.records import Attempt, AttemptState, Direction, Entry, EntryKind, Payment, SuspenseItem

__all__ = [
    "ATTEMPT_COLUMNS",
    "DIRECTIONS",
    "DIRECTION_CODES",
    "ENTRY_COLUMNS",
    "KIND_CODES",
    "SUSPENSE_COLUMNS",
    "AttemptRow",
    "attempt_of",
    "decimal_or_none",
    "entry_of",
    "plain_text",
    "suspense_of",
]

DIRECTIONS = (Direction.OUTGOING, Direction.INCOMING)
DIRECTION_CODES = {direction: code for code, direction in enumerate(DIRECTIONS)}

_KINDS = (EntryKind.REQUEST, EntryKind.DUST, EntryKind.LEFTOVER)
KIND_CODES = {kind: code for code, kind in enumerate(_KINDS)}

ATTEMPT_COLUMNS = """
    t.attempt_no, t.direction, t.attempt_id, t.amount, t.state, t.dust, t.payment_amount, t.payment_reference,
    t.settled, t.reason, t.resolved_by, t.claimed_at, t.closed_at, t.pruned
"""

# an entry whose attempt is missing must not look as if it were queued
ENTRY_COLUMNS = """
    e.seq, e.direction, e.kind, e.entry_id, e.amount, e.entered_at, e.used_at,
    iif(e.attempt_no IS NULL, NULL, coalesce(t.attempt_id, '#' || e.attempt_no))
"""

SUSPENSE_COLUMNS = "settlement_id, amount, details, reported_at, account_id, reason, assigned_by, assigned_at"


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt and its row number."""

    attempt_no: int
    attempt: Attempt


def plain_text(amount: Decimal) -> str:
    """Return the amount in positional notation, with the decimal places it carries."""
    return f"{amount:f}"


def decimal_or_none(text: str | None) -> Decimal | None:
    """Return the amount that was written, if any was."""
    return None if text is None else Decimal(text)


def attempt_of(row: tuple[Any, ...], account_id: str) -> AttemptRow:
    """Return the attempt that `ATTEMPT_COLUMNS` describe."""
    payment_amount = decimal_or_none(row[6])
    return AttemptRow(
        row[0],
        Attempt(
            account_id=account_id,
            direction=DIRECTIONS[row[1]],
            attempt_id=row[2],
            amount=Decimal(row[3]),
            state=AttemptState(row[4]),
            dust=Decimal(row[5]),
            payment=None if payment_amount is None else Payment(payment_amount, thaw(row[7])),
            settled=decimal_or_none(row[8]),
            reason=row[9],
            resolved_by=row[10],
            claimed_at=row[11],
            closed_at=row[12],
            pruned=bool(row[13]),
        ),
    )


def entry_of(row: tuple[Any, ...], account_id: str) -> Entry:
    """Return the entry that `ENTRY_COLUMNS` describe."""
    return Entry(
        seq=row[0],
        account_id=account_id,
        direction=DIRECTIONS[row[1]],
        kind=_KINDS[row[2]],
        entry_id=row[3],
        amount=Decimal(row[4]),
        entered_at=row[5],
        used_at=row[6],
        attempt_id=row[7],
    )


def suspense_of(row: tuple[Any, ...]) -> SuspenseItem:
    """Return the item that `SUSPENSE_COLUMNS` describe."""
    return SuspenseItem(
        settlement_id=row[0],
        amount=Decimal(row[1]),
        details=thaw(row[2]),
        reported_at=row[3],
        account_id=row[4],
        reason=row[5],
        assigned_by=row[6],
        assigned_at=row[7],
    )
