"""Answers that would be true of another node: one that lags, one behind the same URL, one that takes and loses."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from settlement_core.testing.lying_node._calls import NodeCall, Refusal
from settlement_core.testing.lying_node._chain import SEND
from settlement_core.testing.lying_node._kinds import Ask, Replaced, ViewLie

__all__ = ["MAX_LAG", "VIEW_LIES"]

MAX_LAG = 8
"""Blocks that a view is behind at most."""

_TAGS = {"latest", "pending", "safe", "finalized"}

_BLOCK_AT = {
    "eth_getBlockByNumber": 0,
    "eth_getBlockReceipts": 0,
    "eth_getBalance": 1,
    "eth_getTransactionCount": 1,
    "eth_getCode": 1,
    "eth_call": 1,
    "eth_getStorageAt": 2,
    "eth_getProof": 2,
}
"""Which parameter names the block."""

_WHOLE = {"eth_getBlockByNumber", "eth_getBlockReceipts"}
"""Methods that answer null for a block that a node has not; the others refuse."""


async def _lagging(
    calls: Sequence[NodeCall], nodes: Sequence[Ask], chance: random.Random, _: Replaced
) -> list[Any] | None:
    """Answer the whole request as a node that is some blocks behind would."""
    ask = nodes[0]
    (head,) = await ask([NodeCall("eth_blockNumber", ())])
    behind = chance.randint(1, MAX_LAG)
    if isinstance(head, Refusal) or int(head, 16) < 1:
        return None
    height = max(int(head, 16) - behind, 0)
    asked = [await _as_of(call, height, behind, ask) for call in calls]
    results = await ask(asked)
    return [_hidden(call, result, height) for call, result in zip(calls, results, strict=True)]


async def _as_of(call: NodeCall, height: int, behind: int, ask: Ask) -> NodeCall:
    """Return the call with the height that a node which is behind takes each tag for."""
    if call.method == "eth_getLogs":
        return _logs_until(call, height)
    at = _BLOCK_AT.get(call.method)
    if at is None or at >= len(call.params) or call.params[at] not in _TAGS:
        return call
    tag, number = call.params[at], height
    if tag in {"safe", "finalized"}:
        (block,) = await ask([NodeCall("eth_getBlockByNumber", (tag, False))])
        found = block.get("number") if isinstance(block, dict) else None
        number = max(int(found, 16) - behind, 0) if found else height
    return replace(call, params=(*call.params[:at], hex(number), *call.params[at + 1 :]))


def _logs_until(call: NodeCall, height: int) -> NodeCall:
    """Return the call with its range cut where such a node's chain ends, as real nodes do without a word."""
    criteria = dict(call.params[0]) if call.params and isinstance(call.params[0], dict) else {}
    if "blockHash" in criteria:
        return call
    for side in ("fromBlock", "toBlock"):
        if _number(criteria.get(side, "latest")) > height:
            criteria[side] = hex(height)
    return replace(call, params=(criteria, *call.params[1:]))


def _hidden(call: NodeCall, result: Any, height: int) -> Any:
    """Return what is left of a result for a node that has no block above a height."""
    if call.method == "eth_blockNumber":
        return hex(height)
    at = _BLOCK_AT.get(call.method)
    if at is not None and at < len(call.params) and height < _number(call.params[at]) < _LATEST:
        return None if call.method in _WHOLE else Refusal(-32000, "header not found")
    if call.method == "eth_getLogs" and call.params and isinstance(call.params[0], dict):
        begins_above = height < _number(call.params[0].get("fromBlock", "0x0")) < _LATEST
        return [] if begins_above else result
    return _hidden_by_hash(call, result, height)


def _hidden_by_hash(call: NodeCall, result: Any, height: int) -> Any:
    """Hide what was asked for by its hash and is in a block above a height."""
    if not isinstance(result, dict):
        return result
    number = result.get("blockNumber", result.get("number"))
    if not isinstance(number, str) or int(number, 16) <= height:
        return result
    if call.method == "eth_getTransactionByHash":
        return {**result, "blockHash": None, "blockNumber": None, "transactionIndex": None}
    return None


_LATEST = 2**256
"""More than any height."""


def _number(block: Any) -> int:
    if isinstance(block, str) and block.startswith("0x"):
        return int(block, 16)
    return 0 if block == "earliest" else _LATEST


async def _mixed(
    calls: Sequence[NodeCall], nodes: Sequence[Ask], chance: random.Random, _: Replaced
) -> list[Any] | None:
    """Ask one of the nodes for each call; transactions always go to the first."""
    if len(nodes) < 2 or all(call.method == SEND for call in calls):
        return None
    chosen = [0 if call.method == SEND else chance.randrange(len(nodes)) for call in calls]
    if not any(chosen):
        chosen[chance.choice([n for n, call in enumerate(calls) if call.method != SEND])] = 1
    results: dict[int, Any] = {}
    for number, ask in enumerate(nodes):
        asked = [at for at, node in enumerate(chosen) if node == number]
        if asked:
            results.update(zip(asked, await ask([calls[at] for at in asked]), strict=True))
    return [results[at] for at in range(len(calls))]


async def _other(
    calls: Sequence[NodeCall], nodes: Sequence[Ask], _chance: random.Random, _: Replaced
) -> list[Any] | None:
    """Ask the second node for everything."""
    if len(nodes) < 2 or any(call.method == SEND for call in calls):
        return None
    return await nodes[1](calls)


async def _swallowed(
    calls: Sequence[NodeCall], nodes: Sequence[Ask], _chance: random.Random, _: Replaced
) -> list[Any] | None:
    """Take transactions, return their hashes, and pass none on."""
    if not any(call.method == SEND for call in calls):
        return None
    # the hash of a signed transaction is the Keccak-256 of its bytes, which is what this method computes
    asked = [replace(call, method="web3_sha3") if call.method == SEND else call for call in calls]
    return await nodes[0](asked)


async def _replaced(
    calls: Sequence[NodeCall], nodes: Sequence[Ask], _: random.Random, replaced: Replaced
) -> list[Any] | None:
    """Answer what is asked by height or hash from blocks that were replaced, and everything else truly."""
    known = [_on_branch(call, replaced) for call in calls]
    if all(result is None for result in known):
        return None
    truth = await nodes[0](calls)
    return [one if result is None else result for result, one in zip(known, truth, strict=True)]


def _on_branch(call: NodeCall, replaced: Replaced) -> Any:
    """Return what a node on the replaced branch says, or None if the branch does not matter to it."""
    if not call.params:
        return None
    asked = call.params[0]
    at = replaced.get(_number(asked)) if call.method in _WHOLE and asked not in _TAGS else None
    if at is not None:
        return at.receipts if call.method == "eth_getBlockReceipts" else at.answer(full=call.params[1:] == (True,))
    for block in replaced.values():
        for transaction, receipt in zip(block.block["transactions"], block.receipts, strict=True):
            if transaction["hash"] == asked and call.method == "eth_getTransactionReceipt":
                return receipt
            if transaction["hash"] == asked and call.method == "eth_getTransactionByHash":
                return transaction
    return None


VIEW_LIES = (
    ViewLie("a view some blocks behind", _lagging),
    ViewLie("the view of a replaced branch", _replaced, of_replaced=True),
    ViewLie("each call answered by another node", _mixed),
    ViewLie("the view of the other node", _other),
    ViewLie("transactions taken and lost", _swallowed),
)
"""Answers that would be true of another node."""
