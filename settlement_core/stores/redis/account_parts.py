"""What an account's view is made of: queues read in part, what leaves with attempts, and facts about its books."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from settlement_core.stores.redis.layout import live_in, steps_text
from settlement_core.values.amounts import add
from settlement_core.values.books import AccountBooks, LaneBooks
from settlement_core.values.records import Direction, Entry, EntryKind

__all__ = [
    "Forgettable",
    "PartialQueue",
    "QueueTooShort",
    "Retired",
    "book_number",
    "count_in",
    "is_busy",
    "live_of",
    "steps_of",
]


class QueueTooShort(Exception):
    """A claim needs more of the queue than was read."""


class PartialQueue(dict[int, None]):
    """A queue of which only the oldest entries were read; whoever gets to its end is told so."""

    more = False

    def __iter__(self) -> Iterator[int]:
        yield from super().__iter__()
        if self.more:
            raise QueueTooShort


@dataclass(frozen=True, slots=True)
class Forgettable:
    """An attempt whose entries may be forgotten: they, and for each request the row its key had when it was read."""

    attempt_id: str
    entries: Sequence[Entry]
    key_rows: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Retired:
    """What leaves the history: ids of attempts, their entries, and digests of settlement ids with marks of amounts."""

    attempt_ids: Sequence[str]
    entries: Sequence[dict[str, Any]]
    known: Mapping[bytes, bytes]


def book_number(seq: int, direction: Direction) -> int:
    """Return an entry's number in the books, where both directions of an account share one sequence."""
    return 2 * seq + (direction is Direction.INCOMING)


def count_in(lane: LaneBooks, kind: EntryKind, amount: Decimal) -> None:
    """Include an entry that was added since the lane's sums were written."""
    lane.queued = add(lane.queued, amount)
    if kind is EntryKind.REQUEST:
        lane.entered = add(lane.entered, amount)


def live_of(account: AccountBooks) -> list[str]:
    """Return the account's attempts that are not closed or parked."""
    return [attempt_id for lane in account.lanes.values() for attempt_id in live_in(lane)]


def steps_of(account: AccountBooks) -> str:
    """Return the account's pending steps as they are kept."""
    return steps_text(set_up=account.set_up, tear_down=account.tear_down)


def is_busy(account: AccountBooks) -> bool:
    """Tell whether there is anything to do but what is queued."""
    lanes = account.lanes.values()
    return account.set_up or account.tear_down or any(live_in(lane) for lane in lanes)
