"""Whatever becomes of a transaction, a payment counts once it is final, and moves at most once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from settlement_core.abc import Pending, Rejected, Settled, VerifiableEngine
from settlement_core.values.errors import SettlementFailed
from tests.engines.ethereum.anvil import Anvil
from tests.engines.ethereum.contracts import Mood, Refuser, deploy_token
from tests.engines.ethereum.rig import ETHER, GWEI, D, hash_of, nonce_of, open_stepped, peer_address
from tests.engines.ethereum.world import Crash

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Always:
    """Every peer is paid at one address."""

    address: str

    async def set_up(self, account_id: str) -> None:
        """Nothing is to be asked."""

    async def address_of(self, account_id: str) -> str | None:
        """Return it."""
        return self.address


LATER = Pending(0.01)
LATER_AND_AGAIN = Pending(0.01, resubmit=True)


async def test_ether_is_settled_once_it_is_final_and_not_before(node: Anvil) -> None:
    """In the pool, and in a block with fewer confirmations than asked for, it is pending; then it has moved."""
    async with open_stepped(node) as side:
        assert isinstance(side.engine, VerifiableEngine)
        assert side.engine.asset_scale == 18
        before = node.balance(peer_address())
        payment = await side.pay("7.000000000000000001")
        for blocks in (0, 1, 1):
            await side.look(blocks=blocks)
            assert await side.engine.verify(payment) == LATER
        await side.look(blocks=1)
        assert await side.engine.verify(payment) == Settled(D("7.000000000000000001"))
        assert node.balance(peer_address()) - before == 7 * ETHER + 1


async def test_a_token_is_settled_by_its_transfer_log(node: Anvil) -> None:
    """Units at the token's own scale, from us to the peer; ether only pays the fee."""
    token = deploy_token(node, decimals=6, owner=node.accounts[1].address)
    async with open_stepped(node, token=token) as side:
        assert side.engine.asset_scale == 6
        payment = await side.pay("12.345678")
        await side.look(blocks=3)
        assert await side.engine.verify(payment) == Settled(D("12.345678"))
        assert token.balance(peer_address()) == 12_345_678


async def test_preparing_has_no_effect(node: Anvil) -> None:
    """What was never submitted is in no pool, moves nothing however long it waits, and is to be submitted."""
    async with open_stepped(node) as side:
        payment = await side.prepare()
        await side.look(blocks=10)
        assert await side.engine.verify(payment) == LATER_AND_AGAIN
        assert (node.pool(), node.nonce(side.address)) == ([], 0)


async def test_the_same_attempt_is_the_same_payment(node: Anvil) -> None:
    """Prepared again, even in another life, it is the same bytes; submitted again and again, it pays once."""
    before = node.balance(peer_address())
    async with open_stepped(node) as side:
        first = await side.prepare()
        assert await side.prepare() == first
    async with open_stepped(node, side.services) as side:
        assert await side.prepare() == first
        for _ in range(3):
            await side.engine.submit(first)
        await side.look(blocks=3)
        await side.engine.submit(first)
        assert await side.prepare() == first
        assert await side.engine.verify(first) == Settled(D(7))
        await side.look(blocks=3)
    assert (node.balance(peer_address()) - before, node.nonce(side.address)) == (7 * ETHER, 1)


async def test_what_the_core_forgot_is_known_by_the_engine(node: Anvil) -> None:
    """A life that ends between submission and proof: the next one asks the chain, and does not pay again."""
    async with open_stepped(node) as side:
        payment = await side.pay()
    node.mine(5)
    async with open_stepped(node, side.services) as side:
        assert await side.engine.verify(payment) == LATER
        await side.look()
        assert await side.engine.verify(payment) == Settled(D(7))
    assert node.nonce(side.address) == 1


async def test_what_the_store_forgot_is_told_by_the_payment(node: Anvil) -> None:
    """The engine's own notes of a payment are lost, the core's are not: it is submitted, and settled, once."""
    async with open_stepped(node) as side:
        payment = await side.prepare()
        forgotten = dict(side.services.saved)
        await side.engine.submit(payment)
    side.services.saved = {key: text for key, text in forgotten.items() if not key[1].startswith("nonce:")}
    async with open_stepped(node, side.services) as side:
        assert await side.engine.verify(payment) == LATER_AND_AGAIN
        await side.engine.submit(payment)
        await side.look(blocks=3)
        assert await side.engine.verify(payment) == Settled(D(7))
        second = await side.pay("1", attempt="attempt-2")
        assert nonce_of(second) == 1


async def test_a_dropped_transaction_is_broadcast_again(node: Anvil) -> None:
    """The pool forgot it: the stored bytes go out again, the same transaction, which moves once."""
    async with open_stepped(node) as side:
        payment = await side.pay()
        node.drop_all()
        await side.look()
        assert node.pool() == [hash_of(payment)]
        await side.look(blocks=3)
        assert await side.engine.verify(payment) == Settled(D(7))


async def test_a_reverted_payment_frees_the_money_once_that_is_final(node: Anvil) -> None:
    """The peer's contract refuses in the block what it took in the estimate: nothing moved, and the fee is counted."""
    refuser = Refuser.deploy(node)
    refuser.set_open(to=True)
    node.mine()
    async with open_stepped(node) as side:
        side.engine._outgoing._peers = Always(refuser.address)
        payment = await side.prepare()
        refuser.set_open(to=False)
        node.mine()
        await side.engine.submit(payment)
        await side.look(blocks=2)
        receipt = node.receipt(hash_of(payment))
        assert receipt is not None
        assert receipt["status"] == "0x0"
        assert await side.engine.verify(payment) == LATER
        await side.look(blocks=1)
        verdict = await side.engine.verify(payment)
        assert isinstance(verdict, Rejected)
        assert "was reverted" in verdict.reason
        fee = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        assert (await side.engine.status())["fees_spent_ether"] == f"{D(fee).scaleb(-18):f}"
        assert node.balance(refuser.address) == 0
        with pytest.raises(SettlementFailed, match="would fail now: .*not here"):
            await side.prepare(attempt="attempt-2")


@pytest.mark.parametrize(
    ("mood", "expected"),
    [(Mood.REVERTING, None), (Mood.SILENT, None), (Mood.CHARGING, "6.999999"), (Mood.HONEST, "7")],
)
async def test_a_token_is_believed_by_its_logs_only(node: Anvil, mood: Mood, expected: str | None) -> None:
    """A transfer that reverts, or says yes and logs nothing, moved nothing; one that charges moved what it logs."""
    token = deploy_token(node, decimals=6, owner=node.accounts[1].address)
    async with open_stepped(node, token=token) as side:
        payment = await side.prepare()
        token.set_mood(mood)
        node.mine()
        await side.engine.submit(payment)
        await side.look(blocks=2)
        assert await side.engine.verify(payment) == LATER
        await side.look(blocks=1)
        verdict = await side.engine.verify(payment)
        moved = D(token.balance(peer_address())).scaleb(-6)
        if expected is None:
            assert isinstance(verdict, Rejected)
            assert moved == 0
        else:
            assert verdict == Settled(D(expected))
            assert moved == D(expected)


async def test_a_contract_that_takes_too_much_gas_is_not_paid(node: Anvil) -> None:
    """A peer's address may be code: what it may cost us is bounded before anything is signed."""
    refuser = Refuser.deploy(node)
    refuser.set_open(to=True)
    node.mine()
    async with open_stepped(node, max_gas=21_001) as side:
        side.engine._outgoing._peers = Always(refuser.address)
        with pytest.raises(SettlementFailed, match="more than the 21001 of max_gas"):
            await side.prepare()
        assert side.engine._book.next == 0


async def test_a_waiting_transaction_is_replaced_at_a_higher_fee_within_the_cap(node: Anvil) -> None:
    """Gas got dearer: after five blocks the same payment goes out with a higher fee, and moves once."""
    before = node.balance(peer_address())
    async with open_stepped(node) as side:
        payment = await side.pay()
        node.drop_all()
        node.set_next_base_fee(20 * GWEI)
        node.mine()
        node.rpc("anvil_dropAllTransactions")
        await side.look()
        assert node.pool() == [], "the node takes no transaction that the next block could not"
        node.mine(4)
        await side.look()
        (bumped,) = node.pool()
        assert bumped != hash_of(payment)
        await side.look(blocks=3)
        assert await side.engine.verify(payment) == Settled(D(7))
        assert (node.balance(peer_address()) - before, node.nonce(side.address)) == (7 * ETHER, 1)


@pytest.mark.parametrize("which", ["first", "second"])
async def test_whichever_of_two_replacements_is_final_settles_the_payment(node: Anvil, which: str) -> None:
    """A miner may still have the cheaper one: each hash of the nonce is remembered, over a restart as well."""
    before = node.balance(peer_address())
    async with open_stepped(node, bump_after_blocks=1) as side:
        payment = await side.pay()
        node.drop_all()
        node.set_next_base_fee(5 * GWEI)
        node.mine(1)
        await side.look()
        slot = side.engine._book.get(0)
        assert slot is not None
        assert len(slot.payments) == 2
        cheap, dear = slot.payments
        assert dear.fees.max_fee * 8 >= cheap.fees.max_fee * 9
        assert dear.fees.tip * 8 >= cheap.fees.tip * 9
        node.drop_all()
        node.mine(10)
        node.rpc("eth_sendRawTransaction", (cheap if which == "first" else dear).raw)
    node.mine(1)
    assert node.pool() == []
    async with open_stepped(node, side.services, bump_after_blocks=1) as side:
        await side.look(blocks=2)
        assert await side.engine.verify(payment) == Settled(D(7))
    assert (node.balance(peer_address()) - before, node.nonce(side.address)) == (7 * ETHER, 1)


async def test_every_replacement_is_durable_before_it_is_broadcast(node: Anvil) -> None:
    """The store fails as the fee is raised: nothing is broadcast that a later life would not know."""
    async with open_stepped(node, bump_after_blocks=1) as side:
        await side.pay()
        node.drop_all()
        node.set_next_base_fee(5 * GWEI)
        node.mine(1)
        side.services.lives_for = 0
        with pytest.raises(Crash):
            await side.engine.watcher.watch_once()
        assert node.pool() == []


async def test_what_waits_for_another_reason_gets_no_dearer(node: Anvil) -> None:
    """Its funds are gone, or the node is slow to take it: at today's price already, raising the fee would not help."""
    async with open_stepped(node, bump_after_blocks=1) as side:
        payment = await side.pay()
        node.drop_all()
        node.set_balance(side.address, 1)
        for _ in range(5):
            await side.look(blocks=1)
        slot = side.engine._book.get(0)
        assert slot is not None
        assert len(slot.payments) == 1
        assert "funds" in (await side.engine.status())["nonces"]["stuck"]["0"]
        node.set_balance(side.address, 10 * ETHER)
        await side.look()
        await side.look(blocks=3)
        assert await side.engine.verify(payment) == Settled(D(7))


async def test_fees_above_the_cap_wait(node: Anvil) -> None:
    """Nothing is signed while gas costs more than the operator pays, and nothing is raised above it."""
    async with open_stepped(node, max_fee_per_gas=4 * GWEI, bump_after_blocks=1) as side:
        payment = await side.pay()
        node.drop_all()
        node.set_next_base_fee(50 * GWEI)
        node.mine()
        with pytest.raises(SettlementFailed, match="4000000000 wei that max_fee_per_gas allows"):
            await side.prepare(attempt="attempt-2")
        for _ in range(5):
            await side.look(blocks=1)
        slot = side.engine._book.get(0)
        assert slot is not None
        assert all(signed.fees.max_fee <= 4 * GWEI for signed in slot.payments)
        assert "base fee" in (await side.engine.status())["nonces"]["stuck"]["0"]
        side.services.nudged.clear()
        await side.look(blocks=40)
        assert side.services.nudged == ["bob"], "what was too dear may be paid now"
        await side.look(blocks=3)
        assert await side.engine.verify(payment) == Settled(D(7))


async def test_lacking_funds_frees_the_money_and_resumes_by_itself(node: Anvil) -> None:
    """Nothing is signed that cannot be paid beside all that is under way; the account is rung once it can."""
    async with open_stepped(node) as side:
        node.set_balance(side.address, 10 * ETHER)
        await side.pay("6")
        with pytest.raises(SettlementFailed, match="lacks funds"):
            await side.prepare("6", attempt="attempt-2")
        assert (await side.engine.status())["short_of_funds"] == ["bob"]
        side.services.nudged.clear()
        await side.look()
        assert side.services.nudged == []
        await side.look(blocks=1)
        assert side.services.nudged == []
        node.set_balance(side.address, 20 * ETHER)
        await side.look()
        assert side.services.nudged == ["bob"]
        assert nonce_of(await side.pay("6", attempt="attempt-2")) == 1


async def test_token_funds_are_counted_with_what_is_under_way(node: Anvil) -> None:
    """Ten units do not pay six twice, even while the first six have not left yet."""
    token = deploy_token(node, decimals=6, supply=10_000_000, owner=node.accounts[1].address)
    async with open_stepped(node, token=token) as side:
        await side.pay("6")
        with pytest.raises(SettlementFailed, match="lacks funds.*6000000 units"):
            await side.prepare("6", attempt="attempt-2")
        assert nonce_of(await side.prepare("4", attempt="attempt-3")) == 2, "deploying the token took nonce 0"


async def test_too_little_waits_until_it_adds_up(node: Anvil) -> None:
    """Below the operator's minimum, and below the ledger's scale, it is not worth a fee."""
    async with open_stepped(node, minimum=D("0.5")) as side:
        assert await side.engine.prepare("bob", D("0.4999"), "attempt-1") is None
        assert await side.engine.prepare("bob", D("0.5"), "attempt-2") is not None
    token = deploy_token(node, decimals=6, owner=node.accounts[1].address)
    async with open_stepped(node, token=token) as side:
        assert await side.engine.prepare("bob", D("0.0000009"), "attempt-3") is None


async def test_a_peer_without_an_address_is_not_paid(node: Anvil) -> None:
    """Its money stays queued until the handshake is done."""
    async with open_stepped(node) as side:
        with pytest.raises(SettlementFailed, match="has not told its address"):
            await side.prepare(account="carol")


async def test_a_binding_that_the_store_forgot_is_made_again_before_anything_is_paid(node: Anvil) -> None:
    """A failover may forget the peer's address and keep that the account was set up, which is not repeated."""
    async with open_stepped(node) as side:
        await side.engine._peers.close("bob")
        assert await side.engine._peers.address_of("bob") is None
        payment = await side.prepare()
        assert payment is not None
        reference: Any = payment.reference
        assert reference["to"] == peer_address()
