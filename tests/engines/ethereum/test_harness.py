"""The node, and the contracts on it, do what the other tests take for granted."""

from __future__ import annotations

import pytest

from tests.engines.ethereum.anvil import CHAIN_ID, Anvil, NodeRefused, open_node
from tests.engines.ethereum.contracts import TRANSFER, Forwarder, Mood, Refuser, deploy_token


def test_the_chain_survives_a_stop_and_its_pool_does_not(node: Anvil) -> None:
    """As with any node: what is in a block is there again, what only waited for one is lost."""
    rich, poor = node.accounts[0].address, "0x" + "11" * 20
    assert int(node.rpc("eth_chainId"), 16) == CHAIN_ID
    mined = node.send(rich, to=poor, value=5)
    node.mine(3)
    tip = node.block()["hash"]
    waiting = node.send(rich, to=poor, value=7)
    assert node.pool() == [waiting]
    url = node.url
    node.restart()
    assert (node.url, node.block()["hash"], node.balance(poor), node.pool()) == (url, tip, 5, [])
    assert node.receipt(mined) is not None


def test_a_reorganisation_takes_transactions_out_of_the_chain(node: Anvil) -> None:
    """Receipt, balance and block hash are other ones, and nothing is put back into the pool."""
    rich, poor = node.accounts[0].address, "0x" + "11" * 20
    sent = node.send(rich, to=poor, value=5)
    height = node.mine(2)
    before = node.block(height)["hash"]
    node.reorganise(2)
    assert node.height == height
    assert node.block(height)["hash"] != before
    assert (node.receipt(sent), node.balance(poor), node.pool()) == (None, 0, [])


def test_a_dropped_transaction_is_gone(node: Anvil) -> None:
    """And everything after a revert is as it was at the snapshot."""
    rich, poor = node.accounts[0].address, "0x" + "11" * 20
    snapshot = node.snapshot()
    node.drop(node.send(rich, to=poor, value=5))
    assert node.pool() == []
    node.mine(4)
    node.revert(snapshot)
    assert node.height == 0


def test_finality_has_tags() -> None:
    """With one slot in an epoch, `finalized` is two blocks below the newest."""
    with open_node("--slots-in-an-epoch", "1") as node:
        node.mine(8)
        assert [int(node.block(tag)["number"], 16) for tag in ("finalized", "safe", "latest")] == [6, 7, 8]


def test_tokens_transfer_twice_revert_lie_and_charge(node: Anvil) -> None:
    """Each mood, by balances, receipt status and logs."""
    rich, poor = node.accounts[0].address, "0x" + "11" * 20
    token = deploy_token(node, decimals=6, supply=1000)
    assert int(node.rpc("eth_call", {"to": token.address, "data": "0x313ce567"}, "latest"), 16) == 6
    both = token.transfer_twice(rich, to=poor, units=(3, 4))
    node.mine()
    receipt = node.receipt(both)
    assert receipt is not None
    assert [(log["topics"][0], int(log["data"], 16)) for log in receipt["logs"]] == [(TRANSFER, 3), (TRANSFER, 4)]
    assert (token.balance(poor), token.balance(rich)) == (7, 993)
    for mood, status, logs, gained in ((Mood.SILENT, 1, 0, 0), (Mood.CHARGING, 1, 1, 9), (Mood.HONEST, 1, 1, 10)):
        before = token.balance(poor)
        token.set_mood(mood)
        node.mine()
        sent = token.transfer(rich, to=poor, units=10)
        node.mine()
        assert status_and_logs(node, sent) == (status, logs)
        assert token.balance(poor) - before == gained
    token.set_mood(Mood.REVERTING)
    node.mine()
    failed = token.transfer(rich, to=poor, units=1)
    node.mine()
    assert status_and_logs(node, failed) == (0, 0)


def status_and_logs(node: Anvil, tx_hash: str) -> tuple[int, int]:
    """Return a mined transaction's status, 1 if it succeeded, and how much it logged."""
    receipt = node.receipt(tx_hash)
    assert receipt is not None
    return int(receipt["status"], 16), len(receipt["logs"])


def test_contracts_refuse_and_forward_ether(node: Anvil) -> None:
    """A refused payment is in a block and has failed; a forwarded one arrives."""
    rich, poor = node.accounts[0].address, "0x" + "11" * 20
    refuser, forwarder = Refuser.deploy(node), Forwarder.deploy(node)
    refused = node.send(rich, to=refuser.address, value=1)
    node.mine()
    assert status_and_logs(node, refused) == (0, 0)
    refuser.set_open(to=True)
    node.mine()
    node.send(rich, to=refuser.address, value=2)
    forwarder.forward(rich, to=poor, wei=3)
    node.mine()
    assert (node.balance(refuser.address), node.balance(poor)) == (2, 3)


def test_an_error_of_the_node_is_told(node: Anvil) -> None:
    """With its code and its words."""
    with pytest.raises(NodeRefused, match="not found") as refused:
        node.rpc("eth_nonsense")
    assert refused.value.code == -32601


def test_anybody_can_be_made_to_send(node: Anvil) -> None:
    """A stranger's deposit needs no key."""
    stranger, poor = "0x" + "22" * 20, "0x" + "11" * 20
    node.set_balance(stranger, 10**18)
    node.send(stranger, to=poor, value=9)
    node.mine()
    assert node.balance(poor) == 9
