"""Lies about what certain methods tell: blocks, receipts, logs, counts, fees, and what became of a transaction."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from settlement_core.testing.lying_node._calls import NodeCall, Refusal
from settlement_core.testing.lying_node._fields import random_hex
from settlement_core.testing.lying_node._kinds import TRUTH, AnswerLie
from settlement_core.testing.lying_node._memory import Memory

__all__ = ["CHAIN_LIES", "SEND"]

SEND = "eth_sendRawTransaction"

_BLOCKS = frozenset({"eth_getBlockByNumber", "eth_getBlockByHash"})
_RECEIPTS = frozenset({"eth_getTransactionReceipt", "eth_getBlockReceipts"})
_COUNTS = frozenset({"eth_getTransactionCount"})
_FEES = frozenset({"eth_maxPriorityFeePerGas", "eth_gasPrice"})
_BALANCES = frozenset({"eth_getBalance", "eth_call"})
_FOUND = frozenset({"eth_getTransactionByHash", "eth_getTransactionReceipt", *_BLOCKS})

_BLOOM = 256
"""Bytes of a bloom filter."""

_NO_ROOT = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
"""The root of a trie that holds nothing (Ethereum yellow paper, appendix D)."""

_FAR_AHEAD = 10**9

_REFUSALS = (
    Refusal(-32000, "header not found"),
    Refusal(-32000, "missing trie node"),
    Refusal(-32603, "Internal error"),
    Refusal(-32005, "limit exceeded"),
    Refusal(-32601, "the method does not exist or is not available"),
    Refusal(-32602, "invalid params"),
    Refusal(429, "Your app has exceeded its compute units per second capacity"),
    Refusal(3, "execution reverted"),
)

_SENT_AND_REFUSED = (
    Refusal(-32000, "already known"),
    Refusal(-32000, "nonce too low"),
    Refusal(-32000, "nonce too high"),
    Refusal(-32000, "replacement transaction underpriced"),
    Refusal(-32000, "transaction underpriced"),
    Refusal(-32000, "insufficient funds for gas * price + value"),
    Refusal(-32000, "intrinsic gas too low"),
    Refusal(-32000, "exceeds block gas limit"),
    Refusal(-32603, "Internal error"),
)

Fields = dict[str, Any]


def _on(name: str, methods: frozenset[str], change: Callable[[Fields, random.Random], Fields | None]) -> AnswerLie:
    """Return a lie that changes some fields of an object, or of one object of a list; None leaves it as it is."""

    def tell(result: Any, _call: NodeCall, chance: random.Random, _memory: Memory) -> Any:
        items = [item for item in (result if isinstance(result, list) else [result]) if isinstance(item, dict)]
        for item in chance.sample(items, len(items)):
            fields = change(item, chance)
            if fields is None or all(item.get(key) == value for key, value in fields.items()):
                continue
            new = {key: value for key, value in {**item, **fields}.items() if value is not TRUTH}
            return [new if other is item else other for other in result] if isinstance(result, list) else new
        return TRUTH

    return AnswerLie(name, tell, methods)


def _value(name: str, methods: frozenset[str], change: Callable[[Any, random.Random], Any]) -> AnswerLie:
    """Return a lie that gives another value; never the same one."""

    def tell(result: Any, _call: NodeCall, chance: random.Random, _memory: Memory) -> Any:
        if result is None:
            return TRUTH
        said = change(result, chance)
        return TRUTH if said == result else said

    return AnswerLie(name, tell, methods)


# blocks


def _transactions(block: Fields) -> list[Any]:
    listed = block.get("transactions")
    return listed if isinstance(listed, list) else []


def _lacks_one(block: Fields, chance: random.Random) -> Fields | None:
    listed = _transactions(block)
    left_out = chance.randrange(len(listed)) if listed else 0
    return {"transactions": [tx for number, tx in enumerate(listed) if number != left_out]} if listed else None


def _hashes_only(block: Fields, _: random.Random) -> Fields | None:
    listed = _transactions(block)
    full = [tx for tx in listed if isinstance(tx, dict)]
    return {"transactions": [tx["hash"] if isinstance(tx, dict) else tx for tx in listed]} if full else None


def _without_transactions(block: Fields, chance: random.Random) -> Fields | None:
    if not _transactions(block):
        return None
    plausible = {"transactionsRoot": _NO_ROOT, "receiptsRoot": _NO_ROOT, "gasUsed": "0x0"}
    return {"transactions": [], **(plausible if chance.random() < 0.5 else {})}


def _other_bloom(fields: Fields, chance: random.Random) -> Fields:
    bloom = fields.get("logsBloom")
    none, full = "0x" + "00" * _BLOOM, "0x" + "ff" * _BLOOM
    others = [none, full, random_hex(chance, _BLOOM)]
    return {"logsBloom": chance.choice([other for other in others if other != bloom])}


def _other_root(_: Fields, chance: random.Random) -> Fields:
    name = chance.choice(["transactionsRoot", "receiptsRoot", "stateRoot"])
    return {name: chance.choice([_NO_ROOT, random_hex(chance, 32)])}


def _other_height(block: Fields, chance: random.Random) -> Fields | None:
    if not isinstance(block.get("number"), str):
        return None
    return {"number": hex(max(int(block["number"], 16) + chance.choice([-5, -1, 1, 5]), 0))}


# receipts


def _without_logs(receipt: Fields, chance: random.Random) -> Fields | None:
    """Real nodes do this for fresh receipts; some give the bloom of the truth, some an empty one."""
    empty = {"logs": []} if chance.random() < 0.5 else {"logs": [], "logsBloom": "0x" + "00" * _BLOOM}
    return empty if receipt.get("logs") else None


def _lacks_a_log(receipt: Fields, chance: random.Random) -> Fields | None:
    logs = receipt.get("logs") or []
    left_out = chance.randrange(len(logs)) if logs else 0
    return {"logs": [log for number, log in enumerate(logs) if number != left_out]} if logs else None


def _in_another_block(receipt: Fields, chance: random.Random) -> Fields | None:
    number = receipt.get("blockNumber")
    if not isinstance(number, str):
        return None
    height = {"blockNumber": hex(max(int(number, 16) + chance.choice([-3, -1, 1, 3]), 0))}
    return chance.choice([{"blockHash": random_hex(chance, 32)}, height])


def _status_turned(receipt: Fields, _: random.Random) -> Fields:
    return {"status": "0x0" if receipt.get("status") == "0x1" else "0x1"}


def _status_of_none(_: Fields, chance: random.Random) -> Fields:
    return {"status": chance.choice(["0x3", "0xff", None, TRUTH, "", True, "0x"])}


# logs


def _other_amount(_log: Fields, chance: random.Random) -> Fields:
    return {"data": chance.choice(["0x", random_hex(chance, 32), "0x" + "00" * 32])}


# values


def _higher(result: Any, chance: random.Random) -> Any:
    return hex(int(result, 16) + chance.randint(1, 3))


def _lower(result: Any, chance: random.Random) -> Any:
    return hex(max(int(result, 16) - chance.randint(1, 3), 0))


def _pending_higher(result: Any, call: NodeCall, chance: random.Random, _memory: Memory) -> Any:
    return _higher(result, chance) if call.params[-1:] == ("pending",) else TRUTH


def _far_ahead(result: Any, call: NodeCall, _chance: random.Random, _memory: Memory) -> Any:
    if call.method == "eth_blockNumber":
        return hex(_FAR_AHEAD)
    latest = call.params[:1] in {("latest",), ("finalized",), ("safe",)}
    return {**result, "number": hex(_FAR_AHEAD)} if latest and isinstance(result, dict) else TRUTH


def _less_gas(_result: Any, chance: random.Random) -> Any:
    return hex(chance.choice([0, 20_999, 21_000, 21_001]))


# the past


def _older(result: Any, call: NodeCall, chance: random.Random, memory: Memory) -> Any:
    older = [other for other in memory.older(call) if other != result]
    return chance.choice(older) if older else TRUTH


def _of_another(result: Any, call: NodeCall, chance: random.Random, memory: Memory) -> Any:
    others = [other for other in memory.others(call) if other not in (result, None)]
    return chance.choice(others) if others else TRUTH


_ANY_READ = frozenset(
    {
        "eth_blockNumber",
        "eth_getLogs",
        "eth_getTransactionByHash",
        *_BLOCKS,
        *_RECEIPTS,
        *_COUNTS,
        *_BALANCES,
    }
)

CHAIN_LIES = (
    AnswerLie("an older answer", _older, _ANY_READ),
    AnswerLie("the answer to another question", _of_another, _ANY_READ),
    _value("found nothing", _FOUND, lambda _result, _chance: None),
    _on("a block without its transactions", _BLOCKS, _without_transactions),
    _on("a block that lacks one transaction", _BLOCKS, _lacks_one),
    _on("transactions as hashes only", _BLOCKS, _hashes_only),
    _on("a block without the field of its transactions", _BLOCKS, lambda _block, _: {"transactions": TRUTH}),
    _on("another bloom", _BLOCKS | _RECEIPTS, _other_bloom),
    _on("another root", _BLOCKS, _other_root),
    _on("a block of another height", _BLOCKS, _other_height),
    _on("a block of another hash", _BLOCKS, lambda _block, chance: {"hash": random_hex(chance, 32)}),
    _on("a block of another parent", _BLOCKS, lambda _block, chance: {"parentHash": random_hex(chance, 32)}),
    AnswerLie("a head far ahead", _far_ahead, frozenset({"eth_blockNumber", "eth_getBlockByNumber"})),
    _on("a receipt without its logs", _RECEIPTS, _without_logs),
    _on("a receipt that lacks one log", _RECEIPTS, _lacks_a_log),
    _on("a receipt of another block", _RECEIPTS, _in_another_block),
    _on("a receipt of status 0x2", _RECEIPTS, lambda _receipt, _: {"status": "0x2"}),
    _on("a receipt of the opposite status", _RECEIPTS, _status_turned),
    _on("a receipt of no status", _RECEIPTS, _status_of_none),
    _on("a log of another amount", frozenset({"eth_getLogs"}), _other_amount),
    _value("no logs", frozenset({"eth_getLogs"}), lambda _result, _chance: []),
    AnswerLie("a pending count too high", _pending_higher, _COUNTS),
    _value("a count too high", _COUNTS, _higher),
    _value("a count too low", _COUNTS, _lower),
    _value("a gas estimate too low", frozenset({"eth_estimateGas"}), _less_gas),
    _value(
        "a gas estimate too high", frozenset({"eth_estimateGas"}), lambda _, chance: hex(chance.choice([10**6, 2**63]))
    ),
    _value("a fee of nothing", _FEES, lambda _result, _chance: "0x0"),
    _value("a fee far too high", _FEES, lambda _, chance: hex(chance.choice([10**12, 10**18, 2**255]))),
    _value("a balance of nothing", _BALANCES, lambda result, _: "0x" + "0" * max(len(result) - 2, 1)),
    _value("a balance far too high", _BALANCES, lambda result, _: "0x" + "7" * max(len(result) - 2, 32)),
    _value("another chain", frozenset({"eth_chainId", "net_version"}), lambda _, chance: hex(chance.randrange(1, 99))),
    _value("a node that is syncing", frozenset({"eth_syncing"}), lambda _result, _chance: True),
    AnswerLie("refused", lambda _result, _call, chance, _memory: chance.choice(_REFUSALS)),
    AnswerLie(
        "sent, and refused", lambda _result, _call, chance, _memory: chance.choice(_SENT_AND_REFUSED), frozenset({SEND})
    ),
)
"""Lies about what certain methods tell."""
