"""A ledger with blocks, finality, expiry and reorganisations. A transaction id applies at most once, and never late."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from settlement_core.testing.lives.diary import Diary

__all__ = ["Fate", "Ledger", "Tx"]

BLOCK_S = 5.0
FINAL_S = 15.0
EXPIRES_S = 60.0


class Fate(StrEnum):
    """What the ledger knows of a transaction."""

    UNKNOWN = "unknown"
    WAITING = "waiting"
    INCLUDED = "included"
    FINAL = "final"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Tx:
    """A payment to an account of one side, stamped with the attempt it is made for."""

    tx_id: str
    to: str
    memo: str
    amount: Decimal
    expires_at: float
    attempt_id: str = ""


@dataclass(slots=True)
class _Entry:
    tx: Tx
    block_at: float
    fails: bool
    fate: Fate = Fate.WAITING
    seq: int = 0


@dataclass(slots=True)
class Ledger:
    """One ledger for both sides. Its own clock is the true one."""

    now: Callable[[], float]
    diary: Diary
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _last_seq: int = 0
    failing: set[str] = field(default_factory=set)
    """Transactions that will fail for good when they are included."""

    def submit(self, tx: Tx) -> None:
        """Take a transaction, once."""
        self._advance()
        if tx.tx_id in self._entries:
            return
        entry = self._entries[tx.tx_id] = _Entry(tx, self._next_block(), tx.tx_id in self.failing)
        if self.now() > tx.expires_at:
            entry.fate = Fate.REFUSED
        self.diary.tell(f"ledger: {tx.tx_id} pays {tx.to}/{tx.memo} {tx.amount:f}, {entry.fate}")

    def fate(self, tx_id: str, expires_at: float) -> Fate:
        """Return what is known; what is unknown when it has expired can never apply any more."""
        self._advance()
        entry = self._entries.get(tx_id)
        if entry is not None:
            return entry.fate
        return Fate.REFUSED if self.now() > expires_at else Fate.UNKNOWN

    def events(self, side: str, after: int) -> list[tuple[int, Tx]]:
        """Return final payments to a side, in the order in which they became final."""
        self._advance()
        found = ((e.seq, e.tx) for e in self._entries.values() if e.fate is Fate.FINAL and e.tx.to == side)
        return sorted((pair for pair in found if pair[0] > after), key=lambda pair: pair[0])

    def reorganise(self, *, forget: bool) -> None:
        """Drop all blocks that are not final."""
        self._advance()
        for tx_id, entry in list(self._entries.items()):
            if entry.fate is Fate.INCLUDED:
                self.diary.fault("reorganised transaction", f"ledger: {tx_id} is dropped, forgotten: {forget}")
                entry.fate, entry.block_at = Fate.WAITING, self._next_block()
                if forget:
                    del self._entries[tx_id]

    def transactions(self) -> dict[str, tuple[Tx, Fate]]:
        """Return all that was ever taken."""
        self._advance()
        return {tx_id: (entry.tx, entry.fate) for tx_id, entry in self._entries.items()}

    def _next_block(self) -> float:
        return (math.floor(self.now() / BLOCK_S) + 1) * BLOCK_S

    def _advance(self) -> None:
        for entry in self._entries.values():
            if entry.fate is Fate.WAITING and entry.block_at <= self.now():
                late = entry.block_at > entry.tx.expires_at
                entry.fate = Fate.REFUSED if late or entry.fails else Fate.INCLUDED
        final = [e for e in self._entries.values() if e.fate is Fate.INCLUDED and e.block_at + FINAL_S <= self.now()]
        for entry in sorted(final, key=lambda entry: entry.block_at):
            self._last_seq += 1
            entry.fate, entry.seq = Fate.FINAL, self._last_seq
