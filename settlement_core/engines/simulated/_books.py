"""Checks that the ledger's books are what double entry demands; used by proofs, never needed by the ledger."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby

from settlement_core.engines.simulated._chain import block_hash
from settlement_core.engines.simulated.records import MINT
from settlement_core.values.amounts import ZERO, add, subtract, total

__all__ = ["find_problems"]


def find_problems(db: sqlite3.Connection) -> list[str]:
    """Return one sentence for everything that is wrong; nothing, if the books balance."""
    return [*_addresses(db), *_transfers(db), *_sequences(db), *_blocks(db)]


def _addresses(db: sqlite3.Connection) -> Iterator[str]:
    """Balances are the sums of their entries, none but the mint's is below zero, all together are zero."""
    booked: dict[str, Decimal] = defaultdict(Decimal)
    for address, delta in db.execute("SELECT address, delta FROM entry"):
        booked[address] = add(booked[address], Decimal(delta))
    reserved: dict[str, Decimal] = defaultdict(Decimal)
    for source, amount in db.execute("SELECT source, amount FROM transfer WHERE state = 'included'"):
        reserved[source] = add(reserved[source], Decimal(amount))
    if total(booked.values()) != 0:
        yield f"the entries sum up to {total(booked.values()):f}, not to zero"
    for name, balance, held in db.execute("SELECT name, balance, reserved FROM address"):
        if Decimal(balance) != booked.pop(name, ZERO):
            yield f"address {name!r} has balance {balance}, its entries say otherwise"
        if Decimal(held) != reserved.pop(name, ZERO):
            yield f"address {name!r} has {held} reserved, its transfers say otherwise"
        if subtract(Decimal(balance), Decimal(held)) < 0 and name != MINT:
            yield f"address {name!r} has balance {balance} and {held} reserved: below zero"
    yield from (f"entries or transfers of address {name!r}, which does not exist" for name in {*booked, *reserved})


def _transfers(db: sqlite3.Connection) -> Iterator[str]:
    """A confirmed transfer is booked once at either end; any other is not booked at all."""
    entries: dict[str, dict[str, str]] = defaultdict(dict)
    for tx_id, address, delta in db.execute("SELECT tx_id, address, delta FROM entry WHERE tx_id NOT LIKE 'opening %'"):
        entries[tx_id][address] = delta
    for tx_id, source, destination, amount, state in db.execute(
        "SELECT tx_id, source, destination, amount, state FROM transfer"
    ):
        due = {source: f"-{amount}", destination: amount} if state == "confirmed" else {}
        if entries.pop(tx_id, {}) != due:
            yield f"transfer {tx_id!r} is {state}, but its entries do not say so"
    yield from (f"entries of transfer {tx_id!r}, which does not exist" for tx_id in entries)


def _sequences(db: sqlite3.Connection) -> Iterator[str]:
    """Incoming entries of an address count 1, 2, 3, … in the order in which they were booked."""
    lasts = dict(db.execute("SELECT name, last_seq FROM address"))
    rows = db.execute("SELECT address, seq FROM entry WHERE seq IS NOT NULL ORDER BY address, ordinal")
    for address, entries in groupby(rows, key=lambda row: row[0]):
        if [seq for _, seq in entries] != list(range(1, lasts.pop(address, 0) + 1)):
            yield f"the incoming entries of address {address!r} are not in sequence"
    yield from (f"incoming entries of address {name!r} are missing" for name, last in lasts.items() if last)


def _blocks(db: sqlite3.Connection) -> Iterator[str]:
    """Every block carries its parent's hash and that of its transfers."""
    content: dict[int, list[str]] = defaultdict(list)
    for height, tx_id in db.execute("SELECT height, tx_id FROM transfer WHERE height IS NOT NULL ORDER BY ordinal"):
        content[height].append(tx_id)
    expected = db.execute("SELECT ledger_id FROM ledger").fetchone()[0]
    for height, found, parent in db.execute("SELECT height, hash, parent FROM block ORDER BY height"):
        if parent != expected or found != block_hash(parent, height, content.pop(height, [])):
            yield f"block {height} does not fit the chain"
        expected = found
    yield from (f"transfers in block {height}, which does not exist" for height in content)
