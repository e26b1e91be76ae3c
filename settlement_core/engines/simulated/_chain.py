"""The ledger's rules, inside one transaction: how transfers enter blocks, become final, fail or are thrown back.

Money moves only when a transfer becomes final. From inclusion to finality its amount is reserved at the source,
so nobody can spend what a reorganisation could take back, and no balance can ever fall below zero.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256

from settlement_core.engines.simulated.faults import FaultPlan, chance
from settlement_core.engines.simulated.records import Held, LedgerRefused
from settlement_core.values.amounts import add, subtract

__all__ = ["Chain", "block_hash"]

# Transfers in a block: with the default block time, more than the file can take in.
_BLOCK_SIZE = 1000

# Blocks made up for in one transaction; the rest follows in the next one.
_BLOCKS_AT_ONCE = 100


@dataclass(slots=True)
class _Address:
    balance: Decimal
    reserved: Decimal
    last_seq: int


class Chain:
    """The newest state of the ledger, as one transaction reads and changes it.

    Rows are written as they change; height and draws with `flush`.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        row = db.execute(
            "SELECT ledger_id, asset_scale, confirmations, block_time_s, started_at, height, faults, draws FROM ledger"
        ).fetchone()
        self.ledger_id: str = row[0]
        self.asset_scale: int = row[1]
        self.confirmations: int = row[2]
        self.block_time_s: float = row[3]
        self._started_at: float = row[4]
        self.height: int = row[5]
        self.faults = _parsed(row[6])
        self._draws: int = row[7]
        self._db = db
        self._addresses: dict[str, _Address] = {}

    def flush(self) -> None:
        """Write back height and draws, before the transaction commits."""
        self._db.execute("UPDATE ledger SET height = ?, draws = ?", (self.height, self._draws))

    def draw(self, probability: float) -> bool:
        """Tell whether a fault happens now. A fault that is off draws nothing."""
        if not probability:
            return False
        self._draws += 1
        return chance(self.faults.seed, self._draws) < probability

    def held(self) -> Held:
        """Return the blocks of the replica that answers now, which is drawn."""
        height = min(self.height, self.faults.lag_at) if self.draw(self.faults.lag) else self.height
        return Held(self.faults.pruned_below if self.draw(self.faults.prune) else 0, height)

    def restart_draws(self) -> None:
        """Have the next draw be the seed's first."""
        self._draws = 0

    # blocks

    def height_at(self, now: float) -> int:
        """Return the height the clock asks for; never below the present one, whatever the clock does."""
        if not self.block_time_s:
            return self.height
        return max(self.height, int((now - self._started_at) / self.block_time_s))

    def unsettled(self) -> bool:
        """Tell whether any transfer still waits for a block or for finality."""
        query = "SELECT EXISTS (SELECT 1 FROM transfer WHERE state IN ('pending', 'included'))"
        return bool(self._db.execute(query).fetchone()[0])

    def advance(self, height: int) -> None:
        """Produce the blocks up to `height`, or as many as one transaction should."""
        for _ in range(_BLOCKS_AT_ONCE):
            if self.height >= height:
                return
            if not self.unsettled():
                self.height = height  # all of them empty
                return
            if self.draw(self.faults.reorganise):
                self.reorganise(self.confirmations - 1, vanish=None)
            self.height += 1
            self._include()
            self._finalise()
            self._write_addresses()

    def reorganise(self, depth: int, *, vanish: bool | None) -> list[str]:
        """Empty the newest `depth` blocks; return the ids of what was in them. Final blocks stay as they are.

        Their transfers are forgotten if `vanish`, wait again if not; None leaves it to the fault plan.
        """
        if not 0 <= depth < self.confirmations:
            problem = f"cannot reorganise {depth} blocks: only the newest {self.confirmations - 1} are not yet final"
            raise LedgerRefused(problem)
        above = self.height - depth
        rows = self._db.execute(
            "SELECT tx_id, source, amount FROM transfer WHERE state = 'included' AND height > ? ORDER BY ordinal",
            (above,),
        ).fetchall()
        for tx_id, source, amount in rows:
            self._release(source, Decimal(amount))
            if self.draw(self.faults.vanish) if vanish is None else vanish:
                self._db.execute("DELETE FROM transfer WHERE tx_id = ?", (tx_id,))
            else:
                self._db.execute("UPDATE transfer SET state = 'pending', height = NULL WHERE tx_id = ?", (tx_id,))
        self._db.execute("DELETE FROM block WHERE height > ?", (above,))
        self._write_addresses()
        return [tx_id for tx_id, _, _ in rows]

    def _include(self) -> None:
        """Put what waits into the block at `height`; fail for good what its source cannot pay."""
        rows = self._db.execute(
            "SELECT tx_id, source, amount FROM transfer WHERE state = 'pending' ORDER BY ordinal LIMIT ?",
            (_BLOCK_SIZE,),
        ).fetchall()
        included, failed = [], []
        for tx_id, source, amount in rows:
            payer = self._address(source)
            free = subtract(payer.balance, payer.reserved)
            if Decimal(amount) <= free:
                payer.reserved = add(payer.reserved, Decimal(amount))
                included.append(tx_id)
            else:
                failed.append((f"insufficient funds: {free:f} of {amount}", tx_id))
        self._db.executemany(
            "UPDATE transfer SET state = 'included', height = ? WHERE tx_id = ?",
            [(self.height, tx_id) for tx_id in included],
        )
        self._fail(failed)
        if included:
            newest = self._db.execute("SELECT hash FROM block ORDER BY height DESC LIMIT 1").fetchone()
            parent = newest[0] if newest else self.ledger_id
            row = (self.height, block_hash(parent, self.height, included), parent)
            self._db.execute("INSERT INTO block (height, hash, parent) VALUES (?, ?, ?)", row)

    def _finalise(self) -> None:
        """Move the money of what has its confirmations now, in the order of blocks."""
        rows = self._db.execute(
            "SELECT tx_id, source, destination, amount FROM transfer WHERE state = 'included' AND height <= ?"
            " ORDER BY height, ordinal",
            (self.height - self.confirmations + 1,),
        ).fetchall()
        entries, confirmed, failed = [], [], []
        for tx_id, source, destination, text in rows:
            amount = Decimal(text)
            self._release(source, amount)
            if self.draw(self.faults.fail_at_finality):
                failed.append(("failed at finality", tx_id))
                continue
            payer, payee = self._address(source), self._address(destination)
            payer.balance = subtract(payer.balance, amount)
            payee.balance = add(payee.balance, amount)
            payee.last_seq += 1
            entries += [(tx_id, source, f"-{text}", None), (tx_id, destination, text, payee.last_seq)]
            confirmed.append((tx_id,))
        self._db.executemany("INSERT INTO entry (tx_id, address, delta, seq) VALUES (?, ?, ?, ?)", entries)
        self._db.executemany("UPDATE transfer SET state = 'confirmed' WHERE tx_id = ?", confirmed)
        self._fail(failed)

    def _fail(self, rows: list[tuple[str, str]]) -> None:
        # the row stays for ever: under its id nothing can be submitted again
        self._db.executemany("UPDATE transfer SET state = 'failed', reason = ? WHERE tx_id = ?", rows)

    def _release(self, source: str, amount: Decimal) -> None:
        payer = self._address(source)
        payer.reserved = subtract(payer.reserved, amount)

    def _address(self, name: str) -> _Address:
        if name not in self._addresses:
            balance, reserved, last_seq = self._db.execute(
                "SELECT balance, reserved, last_seq FROM address WHERE name = ?", (name,)
            ).fetchone()
            self._addresses[name] = _Address(Decimal(balance), Decimal(reserved), last_seq)
        return self._addresses[name]

    def _write_addresses(self) -> None:
        self._db.executemany(
            "UPDATE address SET balance = ?, reserved = ?, last_seq = ? WHERE name = ?",
            [(f"{a.balance:f}", f"{a.reserved:f}", a.last_seq, name) for name, a in self._addresses.items()],
        )
        self._addresses.clear()


@lru_cache(maxsize=8)
def _parsed(faults: str) -> FaultPlan:
    """Return the plan, which hardly ever changes and is needed in every transaction."""
    return FaultPlan.from_json(faults)


def block_hash(parent: str, height: int, tx_ids: list[str]) -> str:
    """Return the hash of a block, which covers every block before it."""
    return sha256("\n".join([parent, str(height), *tx_ids]).encode()).hexdigest()
