"""Blocks and receipts as values, each checked against the hashes and roots that commit to it.

A header's hash commits to its fields, and these to the list of transactions, to all receipts and to their logs. So what
a node leaves out or changes shows as a contradiction, unless it makes up a whole chain. Chains that do not make their
blocks as Ethereum does cannot be checked that way; for them `verify=False` leaves the checks that need no hash.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from settlement_core.engines.ethereum.encoding import (
    EMPTY_ROOT,
    Bloom,
    Envelope,
    encode_receipt,
    header_hash,
    root_of,
)
from settlement_core.engines.ethereum.reading import address, data, quantity, word
from settlement_core.engines.ethereum.rpc import NodeUnavailable

__all__ = [
    "TRANSFER",
    "Block",
    "Contradiction",
    "Log",
    "Receipt",
    "Transaction",
    "check_links",
    "read_block",
    "read_receipts",
]

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak256("Transfer(address,address,uint256)"), the first topic of every ERC-20 transfer (ERC-20, "Events")."""


class Contradiction(NodeUnavailable):
    """The node's answers exclude one another, so none of them is used."""

    def __init__(self, block: object, found: str) -> None:
        super().__init__(
            f"the node contradicts itself about block {block}: {found}. Nothing of it is used, and it is asked again. "
            "If this lasts, use another node, or say -o verify_blocks=no if the chain does not make its blocks as "
            "Ethereum does"
        )


@dataclass(frozen=True, slots=True)
class Log:
    """One event of a transaction. `index` counts within its transaction, so that no reorganisation changes it."""

    address: str
    topics: tuple[str, ...]
    data: str
    index: int

    def transfer(self) -> tuple[str, str, int] | None:
        """Return sender, receiver and units if this is an ERC-20 transfer."""
        if len(self.topics) != 3 or self.topics[0] != TRANSFER or len(self.data) != 66:
            return None
        return "0x" + self.topics[1][-40:], "0x" + self.topics[2][-40:], int(self.data, 16)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction in a block. `sender` is what the node says; `signer()` is who signed it.

    Attributes:
        max_fee: wei a unit of gas may cost; `tip` of them at most are the miner's.
    """

    tx_hash: str
    sender: str
    nonce: int
    to: str | None
    value: int
    data: str
    max_fee: int
    tip: int
    envelope: Envelope | None = field(repr=False, compare=False)

    def signer(self) -> str:
        """Return the sender by proof of its signature. Raises `Contradiction`. Unverified, it is what the node says."""
        if self.envelope is None:
            return self.sender
        try:
            signer = self.envelope.signer()
        except ValueError as problem:
            raise Contradiction(f"with transaction {self.tx_hash}", str(problem)) from None
        if signer != self.sender:
            raise Contradiction(f"with transaction {self.tx_hash}", f"it is signed by {signer}, not by {self.sender}")
        return signer


@dataclass(frozen=True, slots=True)
class Block:
    """A block; `transactions` is empty unless it was asked for in full.

    Attributes:
        receipts_root: the root of its receipts.
        bloom: the filter of all its logs.
        count: how many transactions it has.
    """

    number: int
    block_hash: str
    parent_hash: str
    base_fee: int | None
    receipts_root: str
    bloom: str = field(repr=False)
    count: int
    transactions: tuple[Transaction, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a transaction in a block came to. `fee` is in wei, whatever the chain calls its parts."""

    tx_hash: str
    block: int
    block_hash: str
    succeeded: bool
    fee: int
    logs: tuple[Log, ...]


def read_block(said: Any, *, full: bool, verify: bool) -> Block:
    """Return a block that was asked for with or without its transactions. Raises `Contradiction`, or as `parsed`."""
    number, listed = quantity(said["number"]), said["transactions"]
    if not isinstance(listed, list):
        raise TypeError(listed)
    base_fee = said.get("baseFeePerGas")
    block = Block(
        number=number,
        block_hash=word(said["hash"]),
        parent_hash=word(said["parentHash"]),
        base_fee=None if base_fee is None else quantity(base_fee),
        receipts_root=word(said["receiptsRoot"]),
        bloom=_bloom(said["logsBloom"]),
        count=len(listed),
        transactions=tuple(_transaction(item, verify=verify) for item in listed) if full else (),
    )
    if verify:
        _verify_block(said, block, full=full)
    elif not listed and quantity(said["gasUsed"]) > 0:
        raise Contradiction(number, "it used gas and has no transactions")
    elif full and [quantity(item["transactionIndex"]) for item in listed] != list(range(len(listed))):
        raise Contradiction(number, "its transactions are not numbered one after the other")
    return block


def check_links(blocks: Sequence[Block]) -> None:
    """Raise `NodeUnavailable` unless each block stands on the one before it."""
    for before, after in itertools.pairwise(blocks):
        if after.parent_hash != before.block_hash:
            raise NodeUnavailable("the chain changed while it was read; it is read again")


def _verify_block(said: Any, block: Block, *, full: bool) -> None:
    if header_hash(said) != block.block_hash:
        raise Contradiction(block.number, "its header does not have the hash that it names")
    root = word(said["transactionsRoot"])
    if (block.count == 0) != (root == EMPTY_ROOT):
        raise Contradiction(block.number, "only one of its transactions and their root is empty")
    if full and root_of([_envelope(one).content for one in block.transactions]) != root:
        raise Contradiction(block.number, "its transactions do not have the root that its header names")


def _envelope(transaction: Transaction) -> Envelope:
    assert transaction.envelope is not None
    return transaction.envelope


def _transaction(said: Any, *, verify: bool) -> Transaction:
    to, price = said.get("to"), said.get("gasPrice")
    envelope = Envelope(said) if verify else None
    tx_hash = word(said["hash"])
    if envelope is not None and envelope.tx_hash != tx_hash:
        raise Contradiction(f"with transaction {tx_hash}", f"its content has the hash {envelope.tx_hash}")
    return Transaction(
        tx_hash=tx_hash,
        sender=address(said["from"]),
        nonce=quantity(said["nonce"]),
        to=None if to is None else address(to),
        value=quantity(said["value"]),
        data=data(said["input"]),
        max_fee=quantity(said.get("maxFeePerGas", price)),
        tip=quantity(said.get("maxPriorityFeePerGas", price)),
        envelope=envelope,
    )


def read_receipts(said: Any, block: Block, *, verify: bool) -> tuple[Receipt, ...]:
    """Return the receipts of all transactions of a block that was read in full, in their order. Raises as above."""
    if not isinstance(said, list):
        raise TypeError(said)
    if len(said) != block.count:
        raise Contradiction(block.number, f"it has {block.count} transactions and {len(said)} receipts")
    if verify and root_of([encode_receipt(one) for one in said]) != block.receipts_root:
        raise Contradiction(block.number, "its receipts do not have the root that its header names")
    used = [quantity(one["gasUsed"]) for one in said]
    totals = [quantity(one["cumulativeGasUsed"]) for one in said]
    if verify and totals != list(itertools.accumulate(used)):
        raise Contradiction(block.number, "the gas of its receipts does not add up")
    return tuple(
        _receipt(one, transaction, block, used=gas)
        for one, transaction, gas in zip(said, block.transactions, used, strict=True)
    )


def _receipt(said: Any, transaction: Transaction, block: Block, *, used: int) -> Receipt:
    about = f"{block.number} in the receipt of transaction {transaction.tx_hash}"
    if (word(said["transactionHash"]), word(said["blockHash"])) != (transaction.tx_hash, block.block_hash):
        raise Contradiction(about, "it is another's")
    status = quantity(said["status"])
    if status not in {0, 1}:
        raise Contradiction(about, f"its status is {status}, neither 0 nor 1")
    logs = _logs(said["logs"])
    bloom = _bloom(said["logsBloom"])
    # chains that do not fill the filter leave it empty
    if not Bloom(bloom).is_empty and not Bloom.holds_exactly(bloom, ((log.address, log.topics) for log in logs)):
        raise Contradiction(about, "its logs are not those of its bloom filter")
    base, below = block.base_fee or 0, said.get("l1Fee")
    # rollups also charge for their data on the chain below
    fee = used * min(transaction.max_fee, base + transaction.tip) + (0 if below is None else quantity(below))
    return Receipt(transaction.tx_hash, block.number, block.block_hash, status == 1, fee, logs)


def _logs(said: Sequence[Any]) -> tuple[Log, ...]:
    return tuple(
        Log(
            address=address(log["address"]),
            topics=tuple(word(topic) for topic in log["topics"]),
            data=data(log["data"]),
            index=index,
        )
        for index, log in enumerate(said)
    )


def _bloom(said: Any) -> str:
    text = data(said)
    if len(text) != 2 + 512:
        raise ValueError(text)
    return text
