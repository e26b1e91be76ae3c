"""What the node says of its chain, as values that were checked; nothing is decided here.

Only what stands in a block that is final, and that is on the canonical chain at that moment, is ever proof.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from settlement_core.engines.ethereum.rpc import Call, NodeError, NodeRefused, NodeUnavailable, Rpc

__all__ = [
    "Block",
    "Chain",
    "Log",
    "NodeLagging",
    "Receipt",
    "Transaction",
    "View",
    "WrongChain",
    "address_topic",
]

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak256("Transfer(address,address,uint256)"), the first topic of every ERC-20 transfer (ERC-20, "Events")."""

DECIMALS = "0x313ce567"
"""The selector of `decimals()`."""

BALANCE_OF = "0x70a08231"
"""The selector of `balanceOf(address)`."""

_TIP = 10**9
"""Wei a unit of gas that miners are given where the node has no opinion."""

_WOBBLE = 3
"""Blocks by which one answer may be older than another: behind one URL there may be several nodes."""

T = TypeVar("T")


class WrongChain(NodeError):
    """The node is on another chain than we are configured for; nothing it says is of use."""

    def __init__(self, *, found: int, expected: int) -> None:
        super().__init__(
            f"the node is on chain {found}, not on {expected}: nothing is read or sent until it is; check its URL"
        )


class NodeLagging(NodeError):
    """The node knows less of the chain than was seen before."""

    def __init__(self, *, found: int, seen: int) -> None:
        super().__init__(
            f"the node's newest block is {found}, but block {seen} was seen before: it is behind, or its chain was "
            "replaced; nothing is decided until it has caught up"
        )


@dataclass(frozen=True, slots=True)
class Log:
    """One event of a transaction. `index` counts from its transaction's first, so that no reorganisation changes it."""

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
class Receipt:
    """What a transaction in a block came to. `fee` is in wei, whatever the chain calls its parts."""

    tx_hash: str
    block: int
    block_hash: str
    succeeded: bool
    fee: int
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction in a block."""

    tx_hash: str
    sender: str
    nonce: int
    to: str | None
    value: int
    data: str


@dataclass(frozen=True, slots=True)
class Block:
    """A block; `transactions` is empty unless it was asked for in full."""

    number: int
    block_hash: str
    parent_hash: str
    base_fee: int | None
    transactions: tuple[Transaction, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """One look at the chain and at our address on it.

    Attributes:
        head: the newest block.
        final: the newest block that counts as final; -1 if none does yet.
        nonce: how many transactions of ours are in blocks.
        pending_nonce: the same with those in the node's pool.
        balance: wei of ours, and units of the token if there is one.
    """

    head: Block
    final: int
    nonce: int
    pending_nonce: int
    balance: int
    token_balance: int


class Chain:
    """One node's chain, seen from one address, in ether or one token."""

    def __init__(self, rpc: Rpc, *, chain_id: int, address: str, token: str | None, confirmations: int | None) -> None:
        self.rpc = rpc
        self.chain_id = chain_id
        self.address = address
        self.token = token
        self._confirmations = confirmations
        self.seen = -1
        """The highest block that any look has met."""
        self.view: View | None = None
        """The latest look that succeeded, by the order of asking: an older answer that arrives late changes nothing."""
        self._looks = 0
        self._viewed = 0

    async def look(self) -> View:
        """Look. Raises `WrongChain`, `NodeLagging`, `NodeRefused`, `NodeUnavailable`."""
        self._looks += 1
        number = self._looks
        calls = [
            Call("eth_chainId"),
            Call("eth_getBlockByNumber", ("latest", False)),
            Call("eth_getBlockByNumber", ("latest" if self._confirmations else "finalized", False)),
            Call("eth_getTransactionCount", (self.address, "latest")),
            Call("eth_getTransactionCount", (self.address, "pending")),
            Call("eth_getBalance", (self.address, "latest")),
        ]
        if self.token is not None:
            calls.append(_token_call(self.token, BALANCE_OF + address_topic(self.address)[2:]))
        answers = await self.rpc.try_all(calls)
        if self.token is not None and isinstance(answers[-1], NodeRefused):
            answers[-1] = "0x0"  # a token that does not even tell balances must not hold up what is proven otherwise
        for answer in answers:
            if isinstance(answer, NodeRefused):
                raise answer
        chain_id, head, final, *counted = answers
        self.check_chain(chain_id)
        head = _parsed("block", _block, head)
        if head.number < self.seen - _WOBBLE:
            raise NodeLagging(found=head.number, seen=self.seen)
        self.seen = max(self.seen, head.number)
        if self._confirmations is not None:
            final = max(head.number - self._confirmations + 1, -1)
        else:
            final = -1 if final is None else _parsed("block", _block, final).number
        nonce, pending, balance, *units = (_parsed("count", _integer, said) for said in counted)
        view = View(head, final, nonce, max(nonce, pending), balance, units[0] if units else 0)
        if number > self._viewed:
            self.view, self._viewed = view, number
        return view

    def check_chain(self, said: Any) -> None:
        """Raise `WrongChain` unless the answer to `eth_chainId` is ours."""
        found = _parsed("chain id", _integer, said)
        if found != self.chain_id:
            raise WrongChain(found=found, expected=self.chain_id)

    async def decimals(self, token: str) -> int:
        """Return a token's scale."""
        chain_id, said = await self.rpc.ask([Call("eth_chainId"), _token_call(token, DECIMALS)])
        self.check_chain(chain_id)
        return _parsed("answer to decimals()", _integer, said)

    async def tip(self) -> int:
        """Return the wei a unit of gas that miners are given on top, in the node's opinion."""
        (tip,) = await self.rpc.try_all([Call("eth_maxPriorityFeePerGas")])
        return _TIP if isinstance(tip, NodeRefused) else _parsed("priority fee", _integer, tip)

    async def estimate_gas(self, *, to: str, value: int, data: str) -> int | NodeRefused:
        """Return the gas that a transaction of ours would take now, or why it would fail."""
        call = {"from": self.address, "to": to, "value": hex(value), "data": data}
        (gas,) = await self.rpc.try_all([Call("eth_estimateGas", (call,))])
        return gas if isinstance(gas, NodeRefused) else _parsed("gas estimate", _integer, gas)

    async def syncing(self) -> bool:
        """Tell whether the node says that it has yet to catch up with its chain."""
        return bool(await self.rpc.call("eth_syncing"))

    async def headers(self, numbers: Sequence[int]) -> list[Block | None]:
        """Return the canonical blocks of these heights, without their transactions."""
        said = await self.rpc.ask([Call("eth_getBlockByNumber", (hex(number), False)) for number in numbers])
        return [None if block is None else _parsed("block", _block, block) for block in said]

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        """Return the canonical blocks of these heights with their transactions; all of them must be there."""
        said = await self.rpc.ask([Call("eth_getBlockByNumber", (hex(number), True)) for number in numbers])
        return [_parsed("block", _block, block) for block in said]

    async def receipts(self, hashes: Sequence[str]) -> list[Receipt | None]:
        """Return what became of each transaction in whatever block it is in now, or None."""
        said = await self.rpc.ask([Call("eth_getTransactionReceipt", (tx_hash,)) for tx_hash in hashes])
        return [None if receipt is None else _parsed("receipt", _receipt, receipt) for receipt in said]

    async def final_receipts(self, hashes: Sequence[str], *, final: int) -> list[Receipt | None]:
        """Return the receipts of those transactions that stand in a final block of the canonical chain."""
        found = await self.receipts(hashes)
        proven = await self.proofs([receipt for receipt in found if receipt is not None], final=final)
        return [receipt if receipt in proven else None for receipt in found]

    async def proofs(self, receipts: Sequence[Receipt], *, final: int) -> list[Receipt]:
        """Return those receipts whose block is final and, at this moment, on the canonical chain."""
        deep = [receipt for receipt in receipts if receipt.block <= final]
        heights = sorted({receipt.block for receipt in deep})
        canonical = {block.number: block.block_hash for block in await self.headers(heights) if block is not None}
        return [receipt for receipt in deep if canonical.get(receipt.block) == receipt.block_hash]

    async def known(self, hashes: Sequence[str]) -> list[bool]:
        """Tell which transactions the node has, in its pool or in a block."""
        said = await self.rpc.ask([Call("eth_getTransactionByHash", (tx_hash,)) for tx_hash in hashes])
        return [transaction is not None for transaction in said]

    async def incoming_transfers(self, first: int, last: int) -> list[str]:
        """Return the hashes of the transactions with a transfer of our token to us, of any sender, in a range."""
        criteria = {
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "address": self.token,
            "topics": [TRANSFER, None, address_topic(self.address)],
        }
        found = await self.rpc.call("eth_getLogs", criteria)
        return _parsed("logs", lambda logs: list(dict.fromkeys(_text(log["transactionHash"]) for log in logs)), found)

    async def broadcast(self, raw: str) -> str:
        """Hand a signed transaction to the node; return "" or why it does not wait in the node's pool.

        What it returns proves nothing: a transaction that is refused now may be in a block already.
        """
        try:
            await self.rpc.call("eth_sendRawTransaction", raw)
        except NodeRefused as refusal:
            return "" if _is_there(refusal.text) else refusal.text
        return ""


def _is_there(text: str) -> bool:
    """Tell whether a refusal says that this transaction, or another of its nonce, has arrived: look the hash up."""
    said = text.lower().replace(" ", "")
    return any(
        word in said
        for word in ("alreadyknown", "alreadyimported", "knowntransaction", "noncetoolow", "oldnonce", "underpriced")
    )


def address_topic(address: str) -> str:
    """Return an address as a 32-byte word."""
    return "0x" + address[2:].rjust(64, "0")


def _token_call(token: str, data: str) -> Call:
    return Call("eth_call", ({"to": token, "data": data}, "latest"))


def _parsed(what: str, parse: Callable[[Any], T], said: Any) -> T:
    try:
        return parse(said)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise NodeUnavailable(f"the node's {what} cannot be read: {said!r:.100}") from None


def _integer(said: Any) -> int:
    return int(_text(said), 16)


def _text(said: Any) -> str:
    if not isinstance(said, str):
        raise TypeError(said)
    return said.lower()


def _block(said: Any) -> Block:
    listed = said.get("transactions", ())
    base_fee = said.get("baseFeePerGas")
    return Block(
        number=_integer(said["number"]),
        block_hash=_text(said["hash"]),
        parent_hash=_text(said["parentHash"]),
        base_fee=None if base_fee is None else _integer(base_fee),
        transactions=tuple(_transaction(item) for item in listed if isinstance(item, dict)),
    )


def _transaction(said: Any) -> Transaction:
    to = said.get("to")
    return Transaction(
        tx_hash=_text(said["hash"]),
        sender=_text(said["from"]),
        nonce=_integer(said["nonce"]),
        to=None if to is None else _text(to),
        value=_integer(said["value"]),
        data=_text(said["input"]),
    )


def _receipt(said: Any) -> Receipt:
    # rollups also charge for their data on the chain below
    below = said.get("l1Fee")
    first = min((_integer(log["logIndex"]) for log in said["logs"]), default=0)
    logs = tuple(
        Log(
            address=_text(log["address"]),
            topics=tuple(_text(topic) for topic in log["topics"]),
            data=_text(log["data"]),
            index=_integer(log["logIndex"]) - first,
        )
        for log in said["logs"]
    )
    return Receipt(
        tx_hash=_text(said["transactionHash"]),
        block=_integer(said["blockNumber"]),
        block_hash=_text(said["blockHash"]),
        succeeded=_integer(said["status"]) == 1,
        fee=_integer(said["gasUsed"]) * _integer(said["effectiveGasPrice"]) + (_integer(below) if below else 0),
        logs=logs,
    )
