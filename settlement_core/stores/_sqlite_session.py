"""What one transaction of a SQLite store knows of the accounts it touches.

Accounts and their running totals are read once, changed in memory, and written once, before the transaction ends
or a query looks at the tables. They live no longer than the transaction, so a failed one leaves nothing behind.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from decimal import Decimal

from settlement_core.stores._json import pausing_of, pausing_text
from settlement_core.stores._sqlite_rows import DIRECTION_CODES, plain_text
from settlement_core.values.amounts import ZERO, add, subtract
from settlement_core.values.errors import UnknownAccount
from settlement_core.values.records import AccountState, Direction, Pausing

__all__ = ["AccountRow", "Lane", "Session", "due_bits"]

_DUE_STEP = 1
_DUE_LANE = {Direction.OUTGOING: 2, Direction.INCOMING: 4}


def due_bits(direction: Direction | None) -> int:
    """Return the bits of `due` that tell of something to do, at all or in one direction, to which steps belong."""
    if direction is Direction.INCOMING:
        return _DUE_LANE[direction]
    return _DUE_STEP | _DUE_LANE[Direction.OUTGOING] | (_DUE_LANE[Direction.INCOMING] if direction is None else 0)


_FIND_ACCOUNT = "SELECT account_no, state, set_up, tear_down, due, pausing FROM accounts WHERE account_id = ?"
_ADD_ACCOUNT = "INSERT INTO accounts (account_id, state, set_up, tear_down, due) VALUES (?, 'open', 0, 0, 0)"
_SAVE_ACCOUNT = "UPDATE accounts SET state = ?, set_up = ?, tear_down = ?, due = ?, pausing = ? WHERE account_no = ?"
_FIND_LANE = """
    SELECT entered, queued, open, settled, parked, pruned, entries_queued, open_no, released, releases_ever,
        retired
    FROM lanes WHERE account_no = ? AND direction = ?
"""
_SAVE_LANE = "REPLACE INTO lanes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(slots=True)
class Lane:
    """One direction of one account: its running totals, and each move that money can make between them."""

    account_no: int
    direction: Direction
    entered: Decimal = ZERO
    queued: Decimal = ZERO
    open: Decimal = ZERO
    settled: Decimal = ZERO
    parked: Decimal = ZERO
    pruned: Decimal = ZERO
    retired: Decimal = ZERO
    entries_queued: int = 0
    open_no: int | None = None
    released: int = 0
    releases_ever: int = 0
    changed: bool = False

    @property
    def is_busy(self) -> bool:
        """Tell whether the account's task has anything to look at here."""
        return bool(self.entries_queued or self.open_no is not None or self.released)

    def enter(self, amount: Decimal) -> None:
        """Count money that came from outside."""
        self.entered = add(self.entered, amount)
        self.queue(amount)

    def queue(self, amount: Decimal) -> None:
        """Count one more queued entry."""
        self.queued = add(self.queued, amount)
        self.entries_queued += 1
        self.changed = True

    def take(self, count: int, gathered: Decimal, attempt_no: int, amount: Decimal) -> None:
        """Move `count` queued entries of `gathered` in all into an open attempt of `amount`."""
        self.queued = subtract(self.queued, gathered)
        self.entries_queued -= count
        self.open = add(self.open, amount)
        self.open_no = attempt_no
        self.changed = True

    def sum_up(self, count: int, gathered: Decimal) -> None:
        """Take `count` queued entries of `gathered` in all out of the queue; their sum is queued again."""
        self.queued = subtract(self.queued, gathered)
        self.entries_queued -= count
        self.changed = True

    def close(self, amount: Decimal, settled: Decimal) -> None:
        """End the open attempt."""
        self.open = subtract(self.open, amount)
        self.open_no = None
        self.settled = add(self.settled, settled)
        self.changed = True

    def park(self, amount: Decimal) -> None:
        """Put the open attempt out of the way."""
        self.open = subtract(self.open, amount)
        self.open_no = None
        self.parked = add(self.parked, amount)
        self.changed = True

    def release(self) -> int:
        """Count one more released attempt and return its place in their order."""
        self.released += 1
        self.releases_ever += 1
        self.changed = True
        return self.releases_ever

    def reopen(self, attempt_no: int, amount: Decimal) -> None:
        """Open a released attempt again."""
        self.parked = subtract(self.parked, amount)
        self.released -= 1
        self.open = add(self.open, amount)
        self.open_no = attempt_no
        self.changed = True

    def resolve(self, amount: Decimal, settled: Decimal, *, was_released: bool) -> None:
        """End a parked attempt."""
        self.parked = subtract(self.parked, amount)
        self.released -= was_released
        self.settled = add(self.settled, settled)
        self.changed = True

    def forget(self, amount: Decimal) -> None:
        """Count a request whose entry is dropped."""
        self.pruned = add(self.pruned, amount)
        self.changed = True

    def retire(self, settled: Decimal) -> None:
        """Count an attempt that leaves the history."""
        self.retired = add(self.retired, settled)
        self.changed = True


@dataclass(slots=True)
class AccountRow:
    """One account as the transaction has it now."""

    account_no: int
    account_id: str
    state: AccountState
    set_up: bool
    tear_down: bool
    due: int
    pausing: Pausing | None = None
    changed: bool = False
    lanes: dict[Direction, Lane] = field(default_factory=dict)

    @property
    def paused(self) -> bool:
        """Tell whether nothing new may be begun."""
        return self.pausing is not None and self.pausing.paused

    def due_now(self) -> int:
        """Return what `due` should be; a direction that was not looked at keeps its bit."""
        due = self.due & ~_DUE_STEP
        if self.set_up or self.tear_down:
            due |= _DUE_STEP
        for direction, lane in self.lanes.items():
            bit = _DUE_LANE[direction]
            due = due | bit if lane.is_busy else due & ~bit
        return due


class Session:
    """One transaction: its connection, and the accounts it has touched. Ends, forgotten, with the transaction."""

    __slots__ = ("_accounts", "execute")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.execute = connection.execute
        self._accounts: dict[str, AccountRow] = {}

    def find_account(self, account_id: str) -> AccountRow | None:
        """Return the account, if there is one."""
        account = self._accounts.get(account_id)
        if account is None:
            row = self.execute(_FIND_ACCOUNT, (account_id,)).fetchone()
            if row is None:
                return None
            account_no, state, set_up, tear_down, due, text = row
            account = AccountRow(account_no, account_id, AccountState(state), bool(set_up), bool(tear_down), due)
            account.pausing = pausing_of(text)
            self._accounts[account_id] = account
        return account

    def account(self, account_id: str) -> AccountRow:
        """Return the account, or refuse with `UnknownAccount`."""
        account = self.find_account(account_id)
        if account is None:
            raise UnknownAccount(account_id)
        return account

    def add_account(self, account_id: str) -> AccountRow:
        """Create and return a new, open account."""
        account_no = self.execute(_ADD_ACCOUNT, (account_id,)).lastrowid
        assert account_no is not None
        account = AccountRow(account_no, account_id, AccountState.OPEN, set_up=False, tear_down=False, due=0)
        self._accounts[account_id] = account
        return account

    def lane(self, account: AccountRow, direction: Direction) -> Lane:
        """Return one direction of the account; all zero if it never saw money."""
        lane = account.lanes.get(direction)
        if lane is None:
            lane = account.lanes[direction] = Lane(account.account_no, direction)
            row = self.execute(_FIND_LANE, (account.account_no, DIRECTION_CODES[direction])).fetchone()
            if row is not None:
                lane.entered, lane.queued, lane.open, lane.settled, lane.parked, lane.pruned = map(Decimal, row[:6])
                lane.entries_queued, lane.open_no, lane.released, lane.releases_ever, retired = row[6:]
                lane.retired = Decimal(retired)
        return lane

    def flush(self) -> None:
        """Write every account and lane that was changed."""
        for account in self._accounts.values():
            for lane in account.lanes.values():
                if lane.changed:
                    self._save_lane(lane)
            due = account.due_now()
            if account.changed or due != account.due:
                account.due, account.changed = due, False
                flags = (account.set_up, account.tear_down)
                values = (account.state.value, *flags, due, pausing_text(account.pausing), account.account_no)
                self.execute(_SAVE_ACCOUNT, values)

    def _save_lane(self, lane: Lane) -> None:
        sums = (lane.entered, lane.queued, lane.open, lane.settled, lane.parked, lane.pruned)
        self.execute(
            _SAVE_LANE,
            (
                lane.account_no,
                DIRECTION_CODES[lane.direction],
                *map(plain_text, sums),
                lane.entries_queued,
                lane.open_no,
                lane.released,
                lane.releases_ever,
                plain_text(lane.retired),
            ),
        )
        lane.changed = False
