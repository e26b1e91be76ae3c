"""True answers for lies to change, and a node that gives them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from settlement_core.testing.connector._serve import open_server
from settlement_core.testing.connector._wire import Answer
from settlement_core.testing.lying_node import LyingNode, NodeCall

ADDRESS = "0x" + "a1" * 20
HASHES = ["0x" + f"{number:02x}" * 32 for number in range(1, 9)]
BLOOM = "0x" + "00" * 200 + "01" * 56

TRANSACTIONS = [
    {"hash": HASHES[number], "from": ADDRESS, "to": "0x" + "b2" * 20, "value": "0x5", "nonce": hex(number)}
    for number in (0, 1)
]

BLOCK: dict[str, Any] = {
    "number": "0x64",
    "hash": HASHES[2],
    "parentHash": HASHES[3],
    "transactionsRoot": HASHES[4],
    "receiptsRoot": HASHES[5],
    "stateRoot": HASHES[6],
    "logsBloom": BLOOM,
    "gasUsed": "0xa410",
    "transactions": TRANSACTIONS,
}

LOGS: list[Any] = [
    {"address": ADDRESS, "topics": [HASHES[number]], "data": "0x" + "00" * 31 + "07", "logIndex": hex(number)}
    for number in (0, 1)
]

RECEIPT: dict[str, Any] = {
    "transactionHash": HASHES[0],
    "blockNumber": "0x64",
    "blockHash": HASHES[2],
    "status": "0x1",
    "logs": LOGS,
    "logsBloom": BLOOM,
}

RESULTS: dict[str, Any] = {
    "eth_blockNumber": "0x64",
    "eth_chainId": "0x7a69",
    "eth_syncing": False,
    "eth_getBlockByNumber": BLOCK,
    "eth_getTransactionReceipt": RECEIPT,
    "eth_getTransactionByHash": TRANSACTIONS[0],
    "eth_getLogs": LOGS,
    "eth_getTransactionCount": "0x9",
    "eth_estimateGas": "0xc350",
    "eth_maxPriorityFeePerGas": "0x3b9aca00",
    "eth_getBalance": "0x8ac7230489e80000",
    "eth_sendRawTransaction": HASHES[7],
    "web3_sha3": HASHES[7],
}

PARAMS: dict[str, tuple[Any, ...]] = {
    "eth_getBlockByNumber": ("latest", True),
    "eth_getTransactionCount": (ADDRESS, "pending"),
    "eth_getTransactionReceipt": (HASHES[0],),
}


def call_of(method: str, call_id: Any = 1) -> NodeCall:
    """Return a call of a method."""
    return NodeCall(method, PARAMS.get(method, ()), call_id)


@dataclass
class FakeNode:
    """Answers every method with `RESULTS`, or what `results` has instead; takes down what it got."""

    url: str = ""
    results: dict[str, Any] = field(default_factory=lambda: dict(RESULTS))
    acted: list[str] = field(default_factory=list)

    async def respond(self, _method: str, _path: str, _headers: dict[str, str], body: bytes) -> Answer:
        """Answer an HTTP request."""
        content = json.loads(body)
        calls = content if isinstance(content, list) else [content]
        self.acted += [call["method"] for call in calls]
        items = [{"jsonrpc": "2.0", "id": call["id"], "result": self._result(call)} for call in calls]
        said = items if isinstance(content, list) else items[0]
        return Answer(200, json.dumps(said).encode(), {"content-type": "application/json"})

    def _result(self, call: dict[str, Any]) -> Any:
        result = self.results[call["method"]]
        return result(*call["params"]) if isinstance(result, Callable) else result  # type: ignore[arg-type]


@asynccontextmanager
async def open_fake() -> AsyncIterator[FakeNode]:
    """Serve a fake node for the block."""
    node = FakeNode()
    async with open_server(node.respond) as url:
        node.url = url
        yield node


async def post(node: LyingNode | FakeNode | str, content: Any) -> httpx2.Response:
    """Send JSON to a node."""
    url = node if isinstance(node, str) else node.url
    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=30.0) as client:
        return await client.post(url, json=content)


async def ask(node: LyingNode | FakeNode | str, method: str, *params: Any) -> Any:
    """Return what a node says, as JSON."""
    return (await post(node, NodeCall(method, params or PARAMS.get(method, ())).to_json())).json()


def batch(methods: Sequence[str]) -> list[Any]:
    """Return a batch of calls."""
    return [call_of(method, number).to_json() for number, method in enumerate(methods)]
