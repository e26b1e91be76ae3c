"""What came to our address, and what left it, in a range of final blocks.

Ether is in the transactions of the blocks, which their headers commit to. Transfers of a token are in the logs of the
receipts: a header's bloom filter tells which blocks can hold one of ours, and of those all receipts are read, which
their headers commit to as well. A chain whose blocks cannot be checked that way is asked for logs (`eth_getLogs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from settlement_core.engines.ethereum.blocks import (
    TRANSFER,
    Block,
    Contradiction,
    Log,
    Receipt,
    Transaction,
    check_links,
)
from settlement_core.engines.ethereum.chain import Chain, address_topic
from settlement_core.engines.ethereum.encoding import Bloom
from settlement_core.engines.ethereum.reading import parsed, quantity, word
from settlement_core.engines.ethereum.rpc import NodeRefused, NodeUnavailable

__all__ = ["Deposit", "DepositReader", "Scanned"]

_FULL_BLOCKS = 20
"""Blocks read with all their transactions at once."""

_HEADERS = 50
"""Headers read at once."""

_PATIENT = 20
"""Ranges of logs that the node gave without complaint, after which it is asked for more than it once refused."""


@dataclass(frozen=True, slots=True)
class Deposit:
    """One payment to us. Its `settlement_id` never changes."""

    settlement_id: str
    sender: str
    units: int
    transaction: str
    block: int


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a range of blocks holds.

    Attributes:
        last: the last block of the range, and `block_hash` its hash.
        change: by how much the range changes our balance, in wei or the token's units; None if that is not known.
    """

    last: int
    block_hash: str
    deposits: list[Deposit]
    change: int | None


class DepositReader:
    """Reads ranges of one chain for one address in one asset."""

    def __init__(self, chain: Chain, *, block_range: int) -> None:
        self._chain = chain
        if chain.token is None:
            self._widest, self._read = min(block_range, _FULL_BLOCKS), self._ether
        elif chain.verify:
            self._widest, self._read = min(block_range, _HEADERS), self._proven_transfers
        else:
            self._widest, self._read = block_range, self._told_transfers
        self._range = self._limit = self._widest
        self._granted = 0

    async def read(self, first: int, final: int, *, parent: str) -> Scanned | None:
        """Return a range from `first` on, up to `final` at most; None if it does not follow the block hash `parent`.

        An empty `parent` is followed by any block. Raises `NodeError`.
        """
        while True:
            last = min(first + self._range - 1, final)
            try:
                found = await self._read(first, last, parent)
            except NodeRefused:
                # too much for it, perhaps: fewer blocks may do, and are asked for at once
                if self._read != self._told_transfers or last == first:
                    raise
                self._limit = last - first
                self._range = max(self._limit // 2, 1)
                self._granted = 0
                continue
            self._grow()
            return found

    def _grow(self) -> None:
        self._granted += 1
        if self._granted % _PATIENT == 0:
            self._limit += max(self._limit // 8, 1)
        self._limit = min(self._limit, self._widest)
        self._range = min(self._range + max(self._range // 8, 1), self._limit)

    # ether

    async def _ether(self, first: int, last: int, parent: str) -> Scanned | None:
        blocks = await self._chain.blocks(range(first, last + 1))
        if not _follow(blocks, parent):
            return None
        deposits: list[Deposit] = []
        change = 0
        for block in blocks:
            if not any(self._chain.address in {one.to, one.sender} for one in block.transactions):
                continue
            for transaction, receipt in zip(block.transactions, await self._chain.receipts(block), strict=True):
                if self._chain.address in {transaction.to, transaction.sender}:
                    change += self._ether_moved(transaction, receipt, deposits)
        return Scanned(last, blocks[-1].block_hash, deposits, change)

    def _ether_moved(self, transaction: Transaction, receipt: Receipt, deposits: list[Deposit]) -> int:
        """Add what a transaction paid us to the deposits; return what it changed in our balance."""
        ours, sender = self._chain.address, transaction.signer()
        value = transaction.value if receipt.succeeded else 0
        if sender == ours:
            return -receipt.fee - (0 if transaction.to == ours else value)
        if value > 0:
            settlement_id = f"{self._chain.chain_id}:{receipt.tx_hash}"
            deposits.append(Deposit(settlement_id, sender, value, receipt.tx_hash, receipt.block))
        return value

    # a token

    async def _proven_transfers(self, first: int, last: int, parent: str) -> Scanned | None:
        headers = await self._headers(first, last)
        if not _follow(headers, parent):
            return None
        token, topic = str(self._chain.token), address_topic(self._chain.address)
        deposits: list[Deposit] = []
        change = 0
        for header in headers:
            if not Bloom(header.bloom).may_hold(token, TRANSFER, topic):
                continue
            (block,) = await self._chain.blocks([header.number])
            _same(header.block_hash, block.block_hash)
            for receipt in await self._chain.receipts(block):
                for log, units in self._transfers(receipt):
                    change += units
                    deposits += self._deposit(receipt, log)
        return Scanned(last, headers[-1].block_hash, deposits, change)

    async def _headers(self, first: int, last: int) -> list[Block]:
        numbers = range(first, last + 1)
        found = await self._chain.headers(numbers)
        for number, header in zip(numbers, found, strict=True):
            if header is None:
                raise NodeUnavailable(f"the node has no block {number}, which should be final")
        return [header for header in found if header is not None]

    def _transfers(self, receipt: Receipt) -> list[tuple[Log, int]]:
        """Return the token's transfers from or to us, with what each adds to our balance."""
        found = []
        for log in receipt.logs:
            transfer = log.transfer() if log.address == self._chain.token else None
            if transfer is not None:
                sender, receiver, units = transfer
                ours = self._chain.address
                found.append((log, units * ((receiver == ours) - (sender == ours))))
        return [(log, units) for log, units in found if units]

    def _deposit(self, receipt: Receipt, log: Log) -> list[Deposit]:
        transfer = log.transfer()
        assert transfer is not None
        sender, receiver, units = transfer
        if receiver != self._chain.address:
            return []
        settlement_id = f"{self._chain.chain_id}:{receipt.tx_hash}:{log.index}"
        return [Deposit(settlement_id, sender, units, receipt.tx_hash, receipt.block)]

    # a token on a chain whose blocks cannot be checked

    async def _told_transfers(self, first: int, last: int, parent: str) -> Scanned | None:
        ends = await self._ends(first, last)
        if not _follow(ends[:1], parent):
            return None
        criteria = {
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "address": self._chain.token,
            "topics": [TRANSFER, None, address_topic(self._chain.address)],
        }
        said = await self._chain.rpc.call("eth_getLogs", criteria)
        listed = parsed("logs", _places, said)
        deposits: list[Deposit] = []
        for number in sorted({number for _, number in listed}):
            hashes = [tx_hash for tx_hash, there in listed if there == number]
            deposits += await self._told_deposits(number, hashes)
        # what was read in between belongs to one chain only if that is still the same one
        for before, after in zip(ends, await self._ends(first, last), strict=True):
            _same(before.block_hash, after.block_hash)
        return Scanned(last, ends[-1].block_hash, deposits, None)

    async def _ends(self, first: int, last: int) -> list[Block]:
        return [block for number in (first, last) for block in await self._headers(number, number)]

    async def _told_deposits(self, number: int, hashes: Sequence[str]) -> list[Deposit]:
        """Return a block's deposits, of which the node's logs name the transactions, once each."""
        (block,) = await self._chain.blocks([number])
        receipts = await self._chain.receipts(block)
        held = [receipt.tx_hash for receipt in receipts for log in receipt.logs if self._is_asked_for(log)]
        if sorted(held) != sorted(hashes):
            raise Contradiction(number, "its logs name other transfers to us than its receipts hold")
        return [
            deposit
            for receipt in receipts
            for log, _ in self._transfers(receipt)
            for deposit in self._deposit(receipt, log)
        ]

    def _is_asked_for(self, log: Log) -> bool:
        topics = (TRANSFER, address_topic(self._chain.address))
        return log.address == self._chain.token and (log.topics[:1] + log.topics[2:3]) == topics


def _places(said: Any) -> list[tuple[str, int]]:
    return [(word(log["transactionHash"]), quantity(log["blockNumber"])) for log in said]


def _follow(blocks: Sequence[Block], parent: str) -> bool:
    """Tell whether the blocks follow a block's hash. Raises `NodeUnavailable` if they do not follow one another."""
    check_links(blocks)
    return parent in {"", blocks[0].parent_hash}


def _same(before: str, after: str) -> None:
    if before != after:
        raise NodeUnavailable("the chain changed while it was read; it is read again")
