"""What the node says of its chain, as values that were checked; nothing is decided here.

Only what stands in a block that is final, and that is on the canonical chain at that moment, is ever proof.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from settlement_core.engines.ethereum.blocks import Block, Receipt, read_block, read_receipts
from settlement_core.engines.ethereum.reading import data, parsed, quantity, word
from settlement_core.engines.ethereum.rpc import Call, NodeError, NodeRefused, NodeUnavailable, Rpc

__all__ = ["Chain", "NodeLagging", "Place", "View", "WrongChain", "address_topic"]

DECIMALS = "0x313ce567"
"""The selector of `decimals()`."""

BALANCE_OF = "0x70a08231"
"""The selector of `balanceOf(address)`."""

_TIP = 10**9
"""Wei a unit of gas that miners are given where the node has no opinion."""

_WOBBLE = 3
"""Blocks by which one answer may be older than another: behind one URL there may be several nodes."""

_TAGGED_DEPTH = 64
"""Blocks that stand on one at least until the chain tags it as finalized, where the tag is at a later one."""

_SMALL = 10
"""Transactions or receipts that are checked at once; more take milliseconds, and are checked in a thread."""


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
class Place:
    """Where the node says that a transaction stands."""

    tx_hash: str
    block: int


@dataclass(frozen=True, slots=True)
class View:
    """One look at the chain and at our address on it.

    Attributes:
        head: the newest block.
        final: the newest block that counts as final; -1 if none does yet.
        final_hash: its hash, if the chain's own tag told it.
        nonce: how many transactions of ours are in blocks, in the node's opinion.
        pending_nonce: the same with those in the node's pool.
        balance: wei of ours, and units of the token if there is one.
    """

    head: Block
    final: int
    final_hash: str
    nonce: int
    pending_nonce: int
    balance: int
    token_balance: int


class Chain:
    """One node's chain, seen from one address, in ether or one token."""

    def __init__(
        self,
        rpc: Rpc,
        *,
        chain_id: int,
        address: str,
        token: str | None,
        confirmations: int | None,
        verify: bool = True,
        lag_patience_s: float = 600.0,
    ) -> None:
        self.rpc = rpc
        self.chain_id = chain_id
        self.address = address
        self.token = token
        self.verify = verify
        self._confirmations = confirmations
        self._lag_patience_s = lag_patience_s
        self._lagging_since: float | None = None
        self.seen = -1
        """The highest block that any look has met."""
        self.fell = ""
        """How the chain once came to be lower than it had been, if that ever happened."""
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
        chain_id, said_head, said_final, *counted = answers
        self.check_chain(chain_id)
        head = self._block(said_head)
        self._check_height(head.number)
        if self._confirmations is not None:
            final, final_hash = max(head.number - self._confirmations + 1, -1), ""
        elif said_final is None:
            final, final_hash = -1, ""
        else:
            tagged = self._block(said_final)
            final, final_hash = tagged.number, tagged.block_hash
        nonce, pending, balance, *units = (parsed("count", quantity, said) for said in counted)
        view = View(head, final, final_hash, nonce, max(nonce, pending), balance, units[0] if units else 0)
        if number > self._viewed:
            self.view, self._viewed = view, number
        return view

    def _check_height(self, height: int) -> None:
        """Raise `NodeLagging` if the chain was higher before, for `lag_patience_s` at most, as that may be wrong."""
        if height >= self.seen - _WOBBLE:
            self._lagging_since = None
            self.seen = max(self.seen, height)
            return
        now = anyio.current_time()
        if self._lagging_since is None:
            self._lagging_since = now
        if now - self._lagging_since < self._lag_patience_s:
            raise NodeLagging(found=height, seen=self.seen)
        self.fell = (
            f"the newest block was {self.seen} once, and has been {height} or lower for {self._lag_patience_s:g} s "
            "since: either a node was wrong, or the chain was replaced; compare the node with another one"
        )
        self.seen, self._lagging_since = height, None

    def check_chain(self, said: Any) -> None:
        """Raise `WrongChain` unless the answer to `eth_chainId` is ours."""
        found = parsed("chain id", quantity, said)
        if found != self.chain_id:
            raise WrongChain(found=found, expected=self.chain_id)

    async def decimals(self, token: str) -> int:
        """Return a token's scale."""
        chain_id, said = await self.rpc.ask([Call("eth_chainId"), _token_call(token, DECIMALS)])
        self.check_chain(chain_id)
        return parsed("answer to decimals()", quantity, said)

    async def tip(self) -> int:
        """Return the wei a unit of gas that miners are given on top, in the node's opinion."""
        (tip,) = await self.rpc.try_all([Call("eth_maxPriorityFeePerGas")])
        return _TIP if isinstance(tip, NodeRefused) else parsed("priority fee", quantity, tip)

    async def estimate_gas(self, call: dict[str, str]) -> int | NodeRefused:
        """Return the gas that a transaction of ours would take now, or why it would fail."""
        (gas,) = await self.rpc.try_all([Call("eth_estimateGas", ({"from": self.address, **call},))])
        return gas if isinstance(gas, NodeRefused) else parsed("gas estimate", quantity, gas)

    async def simulate(self, call: dict[str, str]) -> str | NodeRefused:
        """Return what a call of ours would return after what waits in the node's pool, or why it would fail."""
        asked = {"from": self.address, **call}
        # not every node has a state with its pool
        after, before = await self.rpc.try_all([Call("eth_call", (asked, at)) for at in ("pending", "latest")])
        said = before if isinstance(after, NodeRefused) else after
        return said if isinstance(said, NodeRefused) else parsed("answer to eth_call", data, said)

    async def syncing(self) -> bool:
        """Tell whether the node says that it has yet to catch up with its chain."""
        return bool(await self.rpc.call("eth_syncing"))

    async def balance_at(self, number: int) -> int | None:
        """Return our balance after a block, in wei or the token's units; None if the node does not know it any more."""
        if self.token is None:
            call = Call("eth_getBalance", (self.address, hex(number)))
        else:
            call = _token_call(self.token, BALANCE_OF + address_topic(self.address)[2:], at=hex(number))
        (said,) = await self.rpc.try_all([call])
        return None if isinstance(said, NodeRefused) else parsed("balance", quantity, said)

    # blocks

    async def headers(self, numbers: Sequence[int]) -> list[Block | None]:
        """Return the canonical blocks of these heights, without their transactions."""
        said = await self.rpc.ask([Call("eth_getBlockByNumber", (hex(number), False)) for number in numbers])
        found = [None if block is None else self._block(block) for block in said]
        for number, block in zip(numbers, found, strict=True):
            _check_number(number, block)
        return found

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        """Return the canonical blocks of these heights with their transactions; all of them must be there."""
        said = await self.rpc.ask([Call("eth_getBlockByNumber", (hex(number), True)) for number in numbers])
        found = []
        for number, item in zip(numbers, said, strict=True):
            if item is None:
                raise NodeUnavailable(f"the node has no block {number}, which should be there")
            read = partial(parsed, "block", partial(read_block, full=True, verify=self.verify), item)
            block = await _aside(read, size=_length(item.get("transactions") if isinstance(item, dict) else None))
            _check_number(number, block)
            found.append(block)
        return found

    async def check_depth(self, number: int, block_hash: str, view: View) -> None:
        """Raise `NodeUnavailable` unless enough blocks stand on a block, each on the one before, to make it final.

        A block is taken by its height, and behind one URL there may be a node that is still on a branch which the
        others have left. As many blocks as the view says never came to stand on that branch.
        """
        if self._confirmations is not None:
            end, end_hash, depth = view.head.number, view.head.block_hash, self._confirmations - 1
        else:
            end, end_hash, depth = view.final, view.final_hash, _TAGGED_DEPTH
        last, found = min(number + depth, end), block_hash
        for block in await self.headers(range(number + 1, last + 1)):
            if block is None or block.parent_hash != found:
                raise NodeUnavailable(f"what the node has after block {number} does not stand on it; it is read again")
            found = block.block_hash
        if last == end and found != end_hash:
            raise NodeUnavailable(f"block {number} is not below the newest block that the node told; it is read again")

    def _block(self, said: Any) -> Block:
        return parsed("block", partial(read_block, full=False, verify=self.verify), said)

    async def receipts(self, block: Block) -> tuple[Receipt, ...]:
        """Return what became of all transactions of a block that was read in full."""
        if not block.transactions:
            return ()
        (said,) = await self.rpc.try_all([Call("eth_getBlockReceipts", (hex(block.number),))])
        if isinstance(said, NodeRefused):
            # not every node has that method
            calls = [Call("eth_getTransactionReceipt", (one.tx_hash,)) for one in block.transactions]
            said = await self.rpc.ask(calls)
        read = partial(parsed, "receipts", partial(read_receipts, block=block, verify=self.verify), said)
        return await _aside(read, size=_length(said))

    # single transactions

    async def places(self, hashes: Sequence[str]) -> list[Place | None]:
        """Return where the node says that each transaction stands now; None for those in no block."""
        said = await self.rpc.ask([Call("eth_getTransactionReceipt", (tx_hash,)) for tx_hash in hashes])
        found = [parsed("receipt", _place, receipt) for receipt in said]
        for tx_hash, place in zip(hashes, found, strict=True):
            if place is not None and place.tx_hash != tx_hash:
                raise NodeUnavailable(f"the node answers with the receipt of {place.tx_hash}, not of {tx_hash}")
        return found

    async def known(self, hashes: Sequence[str]) -> list[bool]:
        """Tell which transactions the node has, in its pool or in a block."""
        said = await self.rpc.ask([Call("eth_getTransactionByHash", (tx_hash,)) for tx_hash in hashes])
        return [transaction is not None for transaction in said]

    async def broadcast(self, raw: str) -> str:
        """Hand a signed transaction to the node; return "" or why it does not wait in the node's pool.

        What it returns proves nothing: a transaction that is refused now may be in a block already.
        """
        try:
            await self.rpc.call("eth_sendRawTransaction", raw)
        except NodeRefused as refusal:
            return "" if _is_there(refusal.text) else refusal.text
        return ""


async def _aside(read: Callable[[], T], *, size: int) -> T:
    """Call a function, in a thread if it has much to do."""
    return read() if size <= _SMALL else await anyio.to_thread.run_sync(read)


def _length(said: Any) -> int:
    return len(said) if isinstance(said, list) else 0


def _check_number(asked: int, block: Block | None) -> None:
    if block is not None and block.number != asked:
        raise NodeUnavailable(f"the node answers with block {block.number} where {asked} was asked for")


def _place(said: Any) -> Place | None:
    # some nodes have a receipt of what is in no block yet
    if said is None or (said["blockNumber"] is None and said["blockHash"] is None):
        return None
    return Place(word(said["transactionHash"]), quantity(said["blockNumber"]))


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


def _token_call(token: str, content: str, *, at: str = "latest") -> Call:
    return Call("eth_call", ({"to": token, "data": content}, at))
