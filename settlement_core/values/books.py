"""The books of one account, as the reference interpreter keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from decimal import Decimal

from settlement_core.values.amounts import ZERO
from settlement_core.values.known import digest_of
from settlement_core.values.records import AccountState, Attempt, Direction, Entry, Pausing, Totals

__all__ = ["AccountBooks", "LaneBooks"]

_SUMS = tuple(fact.name for fact in fields(Totals))


@dataclass(slots=True)
class LaneBooks:
    """One direction of one account."""

    entered: Decimal = ZERO
    queued: Decimal = ZERO
    open: Decimal = ZERO
    settled: Decimal = ZERO
    parked: Decimal = ZERO
    pruned: Decimal = ZERO
    retired: Decimal = ZERO
    queue: dict[int, None] = field(default_factory=dict)
    """Sequence numbers of queued entries, oldest first."""
    keys: dict[str, int] = field(default_factory=dict)
    """Sequence numbers of requests by entry id."""
    open_id: str | None = None
    released: list[str] = field(default_factory=list)

    @property
    def totals(self) -> Totals:
        """The sums as a value."""
        return Totals(**{name: getattr(self, name) for name in _SUMS})


def _lanes() -> dict[Direction, LaneBooks]:
    return {Direction.OUTGOING: LaneBooks(), Direction.INCOMING: LaneBooks()}


@dataclass(slots=True)
class AccountBooks:
    """One account and everything that belongs to it."""

    account_id: str
    state: AccountState = AccountState.OPEN
    set_up: bool = False
    tear_down: bool = False
    pausing: Pausing | None = None
    lanes: dict[Direction, LaneBooks] = field(default_factory=_lanes)
    entries: dict[int, Entry] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    claimed: dict[str, list[int]] = field(default_factory=dict)
    """Sequence numbers of the entries each attempt took."""
    known: dict[bytes, bytes] = field(default_factory=dict)
    """Digests of settlement ids whose credits have left the history, and marks of their amounts."""

    def knows(self, settlement_id: str) -> bool:
        """Tell whether the account was credited under this id by an attempt that has left the history."""
        return bool(self.known) and digest_of(settlement_id) in self.known

    @property
    def paused(self) -> bool:
        """Tell whether nothing new may be begun."""
        return self.pausing is not None and self.pausing.paused

    def is_due(self, direction: Direction | None = None) -> bool:
        """Tell whether the account's tasks have anything to look at, or that of one direction has."""
        lanes = self.lanes.values() if direction is None else [self.lanes[direction]]
        busy = any(lane.queue or lane.open_id or lane.released for lane in lanes)
        return busy or (direction is not Direction.INCOMING and (self.set_up or self.tear_down))
