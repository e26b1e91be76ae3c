"""Blocks that are replaced take no money with them, and bring none twice; before they are final, and even after."""

from __future__ import annotations

import pytest

from settlement_core.abc import Pending, Rejected, Settled
from tests.engines.ethereum.anvil import CHAIN_ID, Anvil, dev_accounts
from tests.engines.ethereum.contracts import Token, call_data, deploy_token
from tests.engines.ethereum.rig import ETHER, GWEI, D, hash_of, open_stepped, peer_address

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """One loop is enough for details."""
    return "trio"


@pytest.mark.parametrize("in_token", [False, True])
async def test_a_payment_that_vanishes_before_it_is_final_goes_out_again(node: Anvil, in_token: bool) -> None:
    """Its block was replaced by an empty one and the pool has forgotten it: the same bytes go out, and pay once."""
    token = deploy_token(node, decimals=6, owner=dev_accounts()[1].address) if in_token else None
    balance = node.balance if token is None else token.balance
    before = balance(peer_address())
    async with open_stepped(node, token=token) as side:
        payment = await side.pay()
        await side.look(blocks=2)
        node.reorganise(2)
        assert node.receipt(hash_of(payment)) is None
        assert isinstance(await side.engine.verify(payment), Pending)
        await side.look()
        assert node.pool() == [hash_of(payment)]
        await side.look(blocks=2)
        assert isinstance(await side.engine.verify(payment), Pending), "its depth is counted anew"
        await side.look(blocks=1)
        assert await side.engine.verify(payment) == Settled(D(7))
    assert balance(peer_address()) - before == (7 * ETHER if token is None else 7_000_000)


async def test_a_failure_that_vanishes_is_no_failure(node: Anvil) -> None:
    """Reverted in one block, which was replaced, and paid in the next: only what is final counts."""
    token = deploy_token(node, decimals=6, owner=dev_accounts()[1].address)
    async with open_stepped(node, token=token) as side:
        payment = await side.prepare()
        snapshot = node.snapshot()
        node.rpc("anvil_setCode", token.address, "0x60006000fd")
        await side.engine.submit(payment)
        await side.look(blocks=2)
        receipt = node.receipt(hash_of(payment))
        assert receipt is not None
        assert receipt["status"] == "0x0"
        node.revert(snapshot)
        node.mine(2)
        await side.look()
        await side.look(blocks=3)
        assert await side.engine.verify(payment) == Settled(D(7))
        assert token.balance(peer_address()) == 7_000_000


async def test_a_payment_that_vanishes_after_it_was_final_goes_out_again(node: Anvil) -> None:
    """The books say settled, the chain no longer does: the stored bytes make it true again, and pay nobody twice."""
    before = node.balance(peer_address())
    async with open_stepped(node) as side:
        payments = [await side.pay(str(number), attempt=f"attempt-{number}") for number in (1, 2)]
        await side.look(blocks=4)
        assert [await side.engine.verify(payment) for payment in payments] == [Settled(D(1)), Settled(D(2))]
        node.reorganise(4)
        assert node.balance(peer_address()) == before
    async with open_stepped(node, side.services) as side:
        await side.look()
        assert sorted(node.pool()) == sorted(hash_of(payment) for payment in payments)
        await side.look(blocks=4)
        assert [await side.engine.verify(payment) for payment in payments] == [Settled(D(1)), Settled(D(2))]
        third = await side.pay("4", attempt="attempt-3")
        await side.look(blocks=3)
        assert await side.engine.verify(third) == Settled(D(4))
    assert (node.balance(peer_address()) - before, node.nonce(side.address)) == (7 * ETHER, 3)


async def test_a_deposit_that_vanishes_before_it_is_final_is_not_credited(node: Anvil) -> None:
    """It was in a block for a moment; the deposit that took its place is credited, and only that."""
    async with open_stepped(node) as side:
        node.send(peer_address(), to=side.address, value=5 * ETHER)
        await side.look(blocks=2)
        node.reorganise(2)
        node.send(peer_address(), to=side.address, value=3 * ETHER)
        await side.look(blocks=5)
        assert side.services.credited() == D(3)


@pytest.mark.parametrize("in_token", [False, True])
async def test_a_deposit_that_moves_to_another_block_is_credited_once(node: Anvil, in_token: bool) -> None:
    """Final blocks were replaced, which is told; the same transactions in others are the same deposits.

    In its new block the token's transfer is preceded by another, so the node's own number of the log is another one.
    """
    token = deploy_token(node, decimals=6, owner=peer_address()) if in_token else None
    stranger = dev_accounts()[8].address
    if token is not None:
        token.transfer(peer_address(), to=stranger, units=500)
        node.mine()
    async with open_stepped(node, token=token) as side:
        snapshot = node.snapshot()
        if token is None:
            sent = node.send(peer_address(), to=side.address, value=5 * ETHER)
        else:
            sent = token.transfer(peer_address(), to=side.address, units=5_000_000)
        await side.look(blocks=6)
        assert side.services.credited() == D(5)
        raw = node.rpc("eth_getRawTransactionByHash", sent)
        log_index = _log_index(node, sent)
        node.revert(snapshot)
        if token is not None:
            _transfer_first(node, token, stranger)
        node.rpc("eth_sendRawTransaction", raw)
        node.mine(4)
        node.send(peer_address(), to=token.address if token else side.address, value=0 if token else ETHER)
        node.mine(6)
        assert _log_index(node, sent) == (log_index + 1 if in_token else log_index)
        await side.look()
        assert side.services.credits.pop(f"{CHAIN_ID}:{sent}:0" if in_token else f"{CHAIN_ID}:{sent}") == ("bob", D(5))
        assert side.services.credited() == (0 if in_token else D(1))
        status = await side.engine.status()
        assert "which had been taken for final, were replaced" in status["scan"]["reorganised"]


def _transfer_first(node: Anvil, token: Token, source: str) -> None:
    """Have a transfer stand before others in its block: it pays more for that."""
    data = call_data("transfer(address,uint256)", dev_accounts()[7].address, 1)
    fee = hex(50 * GWEI)
    transaction = {"from": source, "to": token.address, "data": data, "maxPriorityFeePerGas": fee, "maxFeePerGas": fee}
    node.rpc("eth_sendTransaction", transaction)


def _log_index(node: Anvil, tx_hash: str) -> int:
    receipt = node.receipt(tx_hash)
    assert receipt is not None
    return int(receipt["logs"][0]["logIndex"], 16) if receipt["logs"] else 0


async def test_new_deposits_in_replaced_final_blocks_are_credited(node: Anvil) -> None:
    """The scan goes back to the last block that the chain still has, not on from where it stood."""
    async with open_stepped(node) as side:
        node.send(peer_address(), to=side.address, value=ETHER)
        for _ in range(8):
            await side.look(blocks=1)
        snapshot = node.height
        node.mine(1)
        node.reorganise(5)
        assert node.height == snapshot + 1
        await side.look()
        assert side.services.credited() == D(1)
    # deeper: blocks that were scanned hold a deposit now that they did not hold then
    async with open_stepped(node) as other:
        await other.look(blocks=3)
        mark = node.snapshot()
        for _ in range(6):
            await other.look(blocks=1)
        node.revert(mark)
        node.send(peer_address(), to=other.address, value=2 * ETHER)
        node.mine(9)
        await other.look()
        assert other.services.credited() == D(2)


async def test_a_withdrawal_that_vanishes_after_it_was_final_goes_out_again(node: Anvil) -> None:
    """Its money was freed by proof of the transfer of nothing; that is what is broadcast again, never the payment."""
    async with open_stepped(node, gap_patience_s=1e-9) as side:
        late = await side.prepare(attempt="attempt-1")
        await side.pay("1", attempt="attempt-2")
        await side.look()
        await side.look()
        await side.look(blocks=4)
        assert isinstance(await side.engine.verify(late), Rejected)
        node.reorganise(4)
        await side.look()
        assert hash_of(late) not in node.pool()
        await side.look(blocks=3)
        assert isinstance(await side.engine.verify(late), Rejected)
        assert node.nonce(side.address) == 2
