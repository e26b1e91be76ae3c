"""A ledger in one SQLite file, shared by any number of processes: what a settlement engine needs, and its faults.

Double entry, exact amounts, ids chosen by the sender, blocks with confirmations and reorganisations, and for each
address one gap-free sequence of what arrived for good. The sum of all entries is zero at every instant.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Self

from settlement_core.engines.simulated._books import find_problems
from settlement_core.engines.simulated._chain import Chain
from settlement_core.engines.simulated._file import closed_on_error, open_database, telling_errors_apart, transaction
from settlement_core.engines.simulated._replicas import held_entries, held_sequence, held_state
from settlement_core.engines.simulated.faults import FaultPlan
from settlement_core.engines.simulated.records import (
    MINT,
    Held,
    IncomingEntry,
    IncomingPage,
    LedgerRefused,
    LedgerSettings,
    LedgerUnavailable,
    Moved,
    Transfer,
    TransferConflict,
    TransferState,
    TransferStatus,
    check_name,
    check_units,
)
from settlement_core.values.amounts import subtract, total

__all__ = ["SimulatedLedger", "open_ledger"]

# Longer than any transaction of ours, shorter than the five seconds a connector waits for an answer.
PATIENCE_S = 3.0

_FIELDS = "tx_id, source, destination, amount, memo"


def open_ledger(
    path: str | Path,
    *,
    create: LedgerSettings | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    patience_s: float = PATIENCE_S,
    durable: bool = True,
) -> SimulatedLedger:
    """Open the ledger in a file; close it, or use it in a `with` block, when done.

    Args:
        path: the file. It must exist unless `create` is given.
        create: create the file with these settings if there is none. If there is, it must have the same.
        clock: the time in seconds, of which blocks are made.
        sleep: waits for as many seconds; used by delays on purpose only.
        patience_s: seconds to wait for other processes before LedgerUnavailable is raised.
        durable: wait for the disk. Without, what this connection writes is much faster, and only a power cut, not a
            killed process, can damage the file.
    """
    path = Path(path)
    with telling_errors_apart(path):
        db = open_database(path, create, durable=durable, patience_s=patience_s, now=clock())
        with closed_on_error(db), transaction(db, write=False, patience_s=patience_s):
            return SimulatedLedger(db, path, clock=clock, sleep=sleep, patience_s=patience_s)


class SimulatedLedger:
    """One connection to a ledger; get it from `open_ledger`. Synchronous, and safe to call from any thread.

    Every method raises LedgerUnavailable if the file does not answer, and a LocalError for what it refuses.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        path: Path,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        patience_s: float,
    ) -> None:
        self._db = db
        self._path = path
        self._clock = clock
        self._sleep = sleep
        self._patience_s = patience_s
        self._lock = threading.Lock()
        chain = Chain(db)
        self.ledger_id = chain.ledger_id
        self.settings = LedgerSettings(
            asset_scale=chain.asset_scale, confirmations=chain.confirmations, block_time_s=chain.block_time_s
        )

    def __repr__(self) -> str:
        return f"<SimulatedLedger {self.ledger_id} at {self._path}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back. May be called twice."""
        with self._lock:
            self._db.close()

    # paying

    def submit(self, transfer: Transfer) -> None:
        """Take a transfer into the pool. The same again changes nothing; other fields raise TransferConflict.

        That it was taken says nothing about whether it will apply: `lookup` tells.
        """
        transfer.check(self.settings.asset_scale)
        with self._session(write=True) as chain:
            faults = chain.faults
            delay_s = faults.delay_s if chain.draw(faults.delay) else 0.0
            dropped = chain.draw(faults.drop)
            told = dropped and chain.draw(0.5)
            unanswered = chain.draw(faults.lose_reply)
            if not dropped:
                self._enter(transfer)
        if delay_s:
            self._sleep(delay_s)
        if told or (unanswered and not dropped):
            raise LedgerUnavailable(f"the reply to transaction {transfer.tx_id!r} was lost on purpose")

    def lookup(self, tx_id: str) -> TransferStatus:
        """Tell what became of a transaction id, as far as the blocks say that the answer was drawn from."""
        with self._session(draws=True) as chain:
            failing = chain.draw(chain.faults.lookup_failure)
            row = self._db.execute(
                f"SELECT {_FIELDS}, state, height, reason FROM transfer WHERE tx_id = ?",  # noqa: S608
                (tx_id,),
            ).fetchone()
            held = chain.held()
            found = TransferState.UNKNOWN if row is None else held_state(chain, held, TransferState(row[-3]), row[-2])
        if failing:
            raise LedgerUnavailable(f"looking transaction {tx_id!r} up failed on purpose")
        if found is TransferState.UNKNOWN:
            return TransferStatus(state=found, held=held)
        *fields, _, included_at, reason = row
        return TransferStatus(
            state=found,
            transfer=_transfer(fields),
            confirmations=0 if included_at is None else held.height - included_at + 1,
            reason=reason if found is TransferState.FAILED else "",
            held=held,
        )

    def _enter(self, transfer: Transfer) -> None:
        """Add a new transfer to the pool, unless it is there."""
        query = f"SELECT {_FIELDS} FROM transfer WHERE tx_id = ?"  # noqa: S608
        row = self._db.execute(query, (transfer.tx_id,)).fetchone()
        if row is not None:
            if _transfer(row) != transfer:
                raise TransferConflict(transfer.tx_id)
            return
        for address in (transfer.source, transfer.destination):
            self._require(address)
        fields = transfer.to_json()
        self._db.execute(
            f"INSERT INTO transfer ({_FIELDS}, state)"  # noqa: S608
            " VALUES (:tx_id, :source, :destination, :amount, :memo, 'pending')",
            fields,
        )

    # being paid

    def incoming(self, address: str, *, after_seq: int = 0, limit: int = 100) -> IncomingPage:
        """Return the next entries that arrived at an address for good, as far as the answering replica holds them.

        A reader that keeps the last `seq`, and asks again with it, misses nothing unless `first_seq` is above the next
        one. It sees nothing twice, but for faults.
        """
        with self._session(draws=True) as chain:
            self._require(address)
            failing = chain.draw(chain.faults.lookup_failure)
            repeated = chain.draw(chain.faults.duplicate_event)
            first, last = held_sequence(self._db, chain, chain.held(), address)
            start = max(first, after_seq if repeated else after_seq + 1)
            rows = held_entries(self._db, address, first=start, last=last, limit=limit)
        if failing:
            raise LedgerUnavailable(f"reading the incoming entries of {address!r} failed on purpose")
        entries = [
            IncomingEntry(seq=seq, tx_id=tx_id, source=source, amount=Decimal(amount), memo=memo)
            for seq, tx_id, source, amount, memo in rows
        ]
        return IncomingPage(entries=entries[:1] + entries if repeated else entries, first_seq=first, last_seq=last)

    # addresses

    def open_address(self, address: str, balance: Decimal = Decimal(0)) -> None:
        """Create an address with money from the mint. The same again changes nothing."""
        check_name(address, "address")
        text = f"{check_units(balance, self.settings.asset_scale):f}"
        with self._session(write=True):
            row = self._db.execute("SELECT opened_with FROM address WHERE name = ?", (address,)).fetchone()
            if row is not None:
                if row[0] != text:
                    raise LedgerRefused(f"address {address!r} was opened with {row[0]}, not {text}")
                return
            self._db.execute("INSERT INTO address (name, opened_with, balance) VALUES (?, ?, ?)", (address, text, text))
            # no sequence number: what an address starts with is not a payment to it
            self._db.executemany(
                "INSERT INTO entry (tx_id, address, delta) VALUES (?, ?, ?)",
                [(f"opening {address}", address, text), (f"opening {address}", MINT, f"-{text}")],
            )
            minted = Decimal(self._db.execute("SELECT balance FROM address WHERE name = ?", (MINT,)).fetchone()[0])
            left = f"{subtract(minted, Decimal(text)):f}"
            self._db.execute("UPDATE address SET balance = ? WHERE name = ?", (left, MINT))

    def has_address(self, address: str) -> bool:
        """Tell whether an address exists that can pay and be paid; the mint is none."""
        with self._session():
            return self._has(address)

    def balance(self, address: str) -> Decimal:
        """Return what an address holds for good; what is on its way counts as soon as it is final."""
        with self._session():
            self._require(address)
            row = self._db.execute("SELECT balance FROM address WHERE name = ?", (address,)).fetchone()
        return Decimal(row[0])

    def moved(self, *, source: str, destination: str) -> Moved:
        """Return how many transfers from one address to another are final, and their sum."""
        with self._session():
            query = "SELECT amount FROM transfer WHERE state = 'confirmed' AND source = ? AND destination = ?"
            amounts = [Decimal(row[0]) for row in self._db.execute(query, (source, destination))]
        return Moved(len(amounts), total(amounts))

    # the books

    def total(self) -> Decimal:
        """Return the sum of all entries, which is zero."""
        with self._session():
            return total(Decimal(row[0]) for row in self._db.execute("SELECT delta FROM entry"))

    def verify_books(self) -> list[str]:
        """Return one sentence for everything that is wrong with the books: nothing, if all is well."""
        with self._session():
            return find_problems(self._db)

    # blocks and faults

    def height(self) -> int:
        """Return the height of the newest block."""
        with self._session() as chain:
            return chain.height

    def held(self) -> Held:
        """Return the blocks of the replica that answers."""
        with self._session(draws=True) as chain:
            return chain.held()

    def mine(self, blocks: int = 1) -> int:
        """Produce blocks and return the new height; only where the clock does not."""
        if self.settings.block_time_s:
            raise LedgerRefused(f"cannot mine: the clock makes a block every {self.settings.block_time_s} s")
        with self._session(write=True) as chain:
            height = chain.height + blocks
            while chain.height < height:
                chain.advance(height)
            return height

    def reorganise(self, depth: int, *, vanish: bool | None = None) -> list[str]:
        """Drop the transfers of the newest `depth` blocks, which must not be final; return their ids.

        They are forgotten if `vanish`, wait to be included again if not; None leaves it to the fault plan.
        """
        with self._session(write=True) as chain:
            return chain.reorganise(depth, vanish=vanish)

    def fault_plan(self) -> FaultPlan:
        """Return the faults that happen on purpose."""
        with self._session() as chain:
            return chain.faults

    def set_fault_plan(self, plan: FaultPlan) -> None:
        """Have faults happen from now on, for every process; draws start over, so the same seed repeats."""
        with self._session(write=True) as chain:
            chain.restart_draws()
            self._db.execute("UPDATE ledger SET faults = ?", (plan.to_json(),))

    # one transaction

    @contextmanager
    def _session(self, *, write: bool = False, draws: bool = False) -> Iterator[Chain]:
        """Do one thing in one transaction, after the blocks that are due. Reads stay reads where nothing is."""
        with self._lock, telling_errors_apart(self._path):
            write = write or self._must_write(draws=draws)
            with transaction(self._db, write=write, patience_s=self._patience_s):
                chain = Chain(self._db)
                height = chain.height_at(self._clock())
                if write:
                    chain.advance(height)
                elif not chain.unsettled():
                    chain.height = height  # nothing but empty blocks, which need no writing down
                yield chain
                if write:
                    chain.flush()

    def _must_write(self, *, draws: bool) -> bool:
        """Tell whether even a look needs a writer: blocks with transfers are due, or faults are to be drawn."""
        with transaction(self._db, write=False, patience_s=self._patience_s):
            chain = Chain(self._db)
            if draws and chain.faults.disturbs_reading:
                return True
            return chain.height_at(self._clock()) > chain.height and chain.unsettled()

    def _has(self, address: str) -> bool:
        return (
            address != MINT
            and self._db.execute("SELECT 1 FROM address WHERE name = ?", (address,)).fetchone() is not None
        )

    def _require(self, address: str) -> None:
        if not self._has(address):
            raise LedgerRefused(f"address {address!r} does not exist")


def _transfer(fields: list[str]) -> Transfer:
    tx_id, source, destination, amount, memo = fields
    return Transfer(tx_id=tx_id, source=source, destination=destination, amount=Decimal(amount), memo=memo)
