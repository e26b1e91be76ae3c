"""Two engines behind nodes that lie settle to the wei; without lies the lying node is transparent to a real one."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import httpx2
import pytest

from settlement_core.abc import Pending, Settled
from settlement_core.engines.ethereum.rpc import NodeError
from settlement_core.testing.lying_node import open_lying_node
from tests.engines.ethereum.anvil import Anvil
from tests.engines.ethereum.contracts import Mood, deploy_token
from tests.engines.ethereum.lying import describe, run_seed
from tests.engines.ethereum.rig import D, hash_of, open_stepped, peer_address

SEEDS = int(os.environ.get("LYING_SEEDS", "6"))


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_books_agree_to_the_wei_when_nodes_lie(seed: int) -> None:
    """Settlements both ways, reorganisations, restarts and lies; then honest nodes, and the conservation check."""
    verdict = run_seed(seed)
    assert not verdict.faults, describe(verdict)
    assert verdict.lies


@pytest.mark.anyio
async def test_without_lies_a_real_node_is_passed_on_byte_by_byte(node: Anvil) -> None:
    """Blocks, receipts, logs, refusals and batches of anvil are the same with the lying node between."""
    token = deploy_token(node)
    sent = token.transfer(node.accounts[0].address, to=node.accounts[1].address, units=5)
    node.mine(2)
    calls: list[tuple[str, list[Any]]] = [
        ("eth_chainId", []),
        ("eth_getBlockByNumber", ["latest", True]),
        ("eth_getBlockByNumber", ["0x2", True]),
        ("eth_getTransactionReceipt", [sent]),
        ("eth_getLogs", [{"fromBlock": "0x0", "toBlock": "0x3"}]),
        ("eth_getBalance", [node.accounts[0].address, "latest"]),
        ("eth_nonsense", []),
        ("eth_sendRawTransaction", ["0x00"]),
    ]
    batch = [
        {"jsonrpc": "2.0", "id": n, "method": method, "params": params} for n, (method, params) in enumerate(calls)
    ]
    async with open_lying_node(node.url, seed=1, rate=0) as liar, httpx2.AsyncClient(trust_env=False) as client:
        for content in (batch, *batch):
            direct, through = [await client.post(url, json=content) for url in (node.url, liar.url)]
            assert through.content == direct.content
            assert through.status_code == direct.status_code


@pytest.mark.anyio
async def test_a_replaced_branch_is_shown_as_a_node_on_it_would(node: Anvil) -> None:
    """Its blocks by height, and the receipts in them, by block or one by one; the newest block is the chain's own."""
    rich, poor = node.accounts[0].address, "0x" + "11" * 20
    sent = node.send(rich, to=poor, value=5)
    height = node.mine()
    block, receipt = node.block(height, full=True), node.receipt(sent)
    async with open_lying_node(node.url, seed=1, rate=0) as liar, httpx2.AsyncClient(trust_env=False) as client:

        async def ask(method: str, *params: Any) -> Any:
            call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            return (await client.post(liar.url, json=call)).json()["result"]

        liar.tell("the view of a replaced branch", times=4)
        assert await ask("eth_getBlockByNumber", hex(height), True) == block
        assert liar.told == []
        node.reorganise(1)
        assert node.receipt(sent) is None
        assert await ask("eth_getBlockByNumber", "latest", True) == node.block(height, full=True)
        assert await ask("eth_getBlockByNumber", hex(height), True) == block
        assert await ask("eth_getBlockByNumber", hex(height), False) == {**block, "transactions": [sent]}
        assert await ask("eth_getTransactionReceipt", sent) == receipt
        assert await ask("eth_getBlockReceipts", hex(height)) == [receipt]
        assert len(liar.told) == 4
        assert await ask("eth_getBlockByNumber", hex(height), True) == node.block(height, full=True)
        assert await ask("eth_getTransactionReceipt", sent) is None


@pytest.mark.anyio
async def test_payment_that_failed_on_a_replaced_branch_only_is_settled(node: Anvil) -> None:
    """A replica that stays on the branch, where the token reverted, answers for a while: no verdict comes of it."""
    token = deploy_token(node)
    rich = node.accounts[0].address
    async with (
        open_lying_node(node.url, seed=1, rate=0) as liar,
        open_stepped(node, token=token, node_url=liar.url) as side,
    ):
        for to in (side.address, peer_address()):
            token.transfer(rich, to=to, units=10**9)
        await side.look(blocks=6)
        liar.tell("the view of a replaced branch", times=12)
        payment: Any = await side.prepare("7")
        token.set_mood(Mood.REVERTING)
        node.mine()
        await side.engine.submit(payment)
        await side.look(blocks=1)
        node.reorganise(2)
        node.rpc("eth_sendRawTransaction", payment.reference["transactions"][0]["raw"])
        node.mine(4)
        receipt = node.receipt(hash_of(payment))
        assert receipt is not None
        assert receipt["status"] == "0x1"
        for _ in range(10):
            with contextlib.suppress(NodeError):
                await side.look()
            assert isinstance(verdict := await side.engine.verify(payment), Pending | Settled), verdict
        assert len(liar.told) > 3
        liar.honest = True
        await side.look()
        assert await side.verdict(payment) == Settled(D(7))
        assert token.balance(peer_address()) == 10**9 + 7 * 10**token.decimals
