"""What a replica of the ledger that lags or is pruned answers: everything of the blocks it holds, and nothing else."""

from __future__ import annotations

import sqlite3

from settlement_core.engines.simulated._chain import Chain
from settlement_core.engines.simulated.records import Held, TransferState

__all__ = ["held_entries", "held_sequence", "held_state"]

_FINAL_AT = "transfer.height + :depth"


def held_state(chain: Chain, held: Held, state: TransferState, included_at: int | None) -> TransferState:
    """Return the state of a transfer as the replica has it."""
    lags = held.height < chain.height
    if included_at is None:
        # in the pool, or failed before it was in any block
        pruned = state is TransferState.FAILED and held.lowest > 0
        return TransferState.UNKNOWN if lags or pruned else state
    final_at = included_at + chain.confirmations - 1
    if included_at > held.height or (state is not TransferState.INCLUDED and final_at < held.lowest):
        return TransferState.UNKNOWN
    return TransferState.INCLUDED if final_at > held.height else state


def held_sequence(db: sqlite3.Connection, chain: Chain, held: Held, address: str) -> tuple[int, int]:
    """Return the numbers of the first and the last of an address's entries that the replica has, or would have."""
    (last,) = db.execute("SELECT last_seq FROM address WHERE name = ?", (address,)).fetchone()
    if held.lowest <= 0 and held.height >= chain.height:
        return 1, last
    query = (
        "SELECT coalesce(max(entry.seq), 0) FROM entry JOIN transfer USING (tx_id)"  # noqa: S608
        f" WHERE address = :address AND seq IS NOT NULL AND {_FINAL_AT} <= :height"
    )
    facts = {"address": address, "depth": chain.confirmations - 1}
    (pruned,) = db.execute(query, {**facts, "height": held.lowest - 1}).fetchone()
    (known,) = db.execute(query, {**facts, "height": held.height}).fetchone()
    return pruned + 1, max(known, pruned)


def held_entries(
    db: sqlite3.Connection, address: str, *, first: int, last: int, limit: int
) -> list[tuple[int, str, str, str, str]]:
    """Return the rows of an address's entries with these numbers."""
    return db.execute(
        "SELECT entry.seq, tx_id, source, amount, memo FROM entry JOIN transfer USING (tx_id)"
        " WHERE address = ? AND entry.seq BETWEEN ? AND ? ORDER BY entry.seq LIMIT ?",
        (address, first, last, limit),
    ).fetchall()
