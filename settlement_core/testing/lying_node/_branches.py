"""Blocks that a reorganisation replaced, as a node on the replaced branch would still give them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from settlement_core.testing.lying_node._calls import NodeCall, Refusal
from settlement_core.testing.lying_node._kinds import Ask

__all__ = ["Branches", "ReplacedBlock"]

_HEIGHTS = 64
"""Heights below the newest block whose blocks are kept."""


@dataclass(frozen=True, slots=True)
class ReplacedBlock:
    """One block with its transactions in full, and their receipts in the same order."""

    block: dict[str, Any]
    receipts: list[Any] = field(default_factory=list)

    def answer(self, *, full: bool) -> dict[str, Any]:
        """Return the block as it is asked for: with its transactions, or with their hashes."""
        if full:
            return self.block
        return {**self.block, "transactions": [transaction["hash"] for transaction in self.block["transactions"]]}


class Branches:
    """The blocks of a node by height, those that it has and those that it had."""

    def __init__(self) -> None:
        self._current: dict[int, ReplacedBlock] = {}
        self._replaced: dict[int, ReplacedBlock] = {}

    def __repr__(self) -> str:
        return f"<Branches, {len(self._replaced)} blocks replaced>"

    async def record(self, ask: Ask) -> None:
        """Take down what is new on the node's chain, from its newest block down to one that is known."""
        block = await _block(ask, "latest")
        for _ in range(_HEIGHTS):
            if block is None or not self._is_new(block):
                break
            receipts = await _receipts(ask, block)
            number = int(block["number"], 16)
            # only now: another request may have taken the block down meanwhile
            if self._is_new(block):
                if number in self._current:
                    self._replaced[number] = self._current[number]
                self._current[number] = ReplacedBlock(block, receipts)
            block = await _block(ask, hex(number - 1)) if number else None
        self._forget()

    def _is_new(self, block: dict[str, Any]) -> bool:
        known = self._current.get(int(block["number"], 16))
        return known is None or known.block["hash"] != block["hash"]

    def _forget(self) -> None:
        oldest = max(self._current, default=0) - _HEIGHTS
        for blocks in (self._current, self._replaced):
            for number in [number for number in blocks if number < oldest]:
                del blocks[number]

    def replaced(self) -> dict[int, ReplacedBlock]:
        """Return the block that was replaced last at each height where one was."""
        # one that came back is on the chain again
        return {number: old for number, old in self._replaced.items() if self._is_new(old.block)}


async def _block(ask: Ask, number: str) -> dict[str, Any] | None:
    (block,) = await ask([NodeCall("eth_getBlockByNumber", (number, True))])
    listed = None if isinstance(block, Refusal) or not isinstance(block, dict) else block.get("transactions")
    whole = isinstance(listed, list) and all(isinstance(transaction, dict) for transaction in listed)
    return block if whole else None


async def _receipts(ask: Ask, block: dict[str, Any]) -> list[Any]:
    hashes = [transaction["hash"] for transaction in block["transactions"]]
    return await ask([NodeCall("eth_getTransactionReceipt", (tx_hash,)) for tx_hash in hashes]) if hashes else []
