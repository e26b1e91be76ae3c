"""A nonce is given away once and ends by proof; a gap is filled, and a key that others use is used no more."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest
from eth_account import Account

from settlement_core.abc import InDoubt, Pending, Rejected, Settled
from settlement_core.engines.ethereum.nonces import KEPT, Outcome, Result, Slot, begin_nonces, read_nonces
from settlement_core.engines.ethereum.outgoing import PaymentWithdrawn
from settlement_core.values.errors import SettlementFailed
from settlement_core.values.records import Payment
from tests.engines.ethereum.anvil import CHAIN_ID, Anvil, dev_accounts
from tests.engines.ethereum.rig import (
    ETHER,
    GWEI,
    D,
    EngineServices,
    Side,
    hash_of,
    nonce_of,
    open_stepped,
    peer_address,
)
from tests.engines.ethereum.world import Crash

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """One loop is enough for details."""
    return "trio"


AT_ONCE = 1e-9


async def test_parallel_payments_have_nonces_of_their_own(node: Anvil) -> None:
    """Ten attempts prepared side by side: ten nonces in a row, ten payments, each once."""
    before = node.balance(peer_address())
    async with open_stepped(node) as side:
        payments: dict[int, Payment] = {}

        async def pay(number: int) -> None:
            payments[number] = await side.pay(str(number + 1), attempt=f"attempt-{number}")

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(pay, number)
        assert sorted(nonce_of(payment) for payment in payments.values()) == list(range(10))
        await side.look(blocks=3)
        for number, payment in payments.items():
            assert await side.engine.verify(payment) == Settled(D(number + 1))
    assert node.balance(peer_address()) - before == 55 * ETHER


async def test_a_nonce_is_durable_before_it_is_told(node: Anvil) -> None:
    """A store that fails gives no payment away; the nonce goes to whoever asks next."""
    async with open_stepped(node) as side:
        side.services.lives_for = 0
        with pytest.raises(Crash):
            await side.prepare()
        side.services.lives_for = None
        assert nonce_of(await side.prepare(attempt="attempt-2")) == 0


async def test_a_cancelled_prepare_leaves_no_second_payment(node: Anvil) -> None:
    """Cut as its nonce is being written: whether or not it was, the same attempt has one payment, and one nonce."""
    async with open_stepped(node) as side:
        save = side.services.save

        async def cut(key: str, value: object, account_id: str | None = None) -> None:
            await save(key, value, account_id)
            scope.cancel()
            await anyio.sleep(1)

        side.services.save = cut  # type: ignore[method-assign]
        with anyio.CancelScope() as scope:
            await side.prepare()
        side.services.save = save  # type: ignore[method-assign]
        payment = await side.pay()
        other = await side.pay("1", attempt="attempt-2")
        assert (nonce_of(payment), nonce_of(other)) == (0, 1)
        await side.look(blocks=3)
        assert [await side.engine.verify(p) for p in (payment, other)] == [Settled(D(7)), Settled(D(1))]


# gaps


async def test_a_gap_is_filled_by_nothing_and_frees_the_money_by_proof(node: Anvil) -> None:
    """A payment that was prepared and never submitted makes way for those behind it, and is rejected once final."""
    before = node.balance(peer_address())
    async with open_stepped(node, gap_patience_s=AT_ONCE) as side:
        stranded = await side.prepare(attempt="attempt-1")
        waiting = await side.pay("1", attempt="attempt-2")
        await side.look(blocks=1)
        await side.look()
        with pytest.raises(PaymentWithdrawn):
            await side.prepare(attempt="attempt-1")
        assert isinstance(await side.engine.verify(stranded), Pending)
        await side.look(blocks=2)
        assert isinstance(await side.engine.verify(stranded), Pending)
        await side.look(blocks=1)
        verdict = await side.engine.verify(stranded)
        assert isinstance(verdict, Rejected)
        assert "withdrawn" in verdict.reason
        assert await side.engine.verify(waiting) == Settled(D(1))
        again = await side.pay(attempt="attempt-1")
        assert nonce_of(again) == 2
        await side.look(blocks=3)
        assert await side.engine.verify(again) == Settled(D(7))
    assert node.balance(peer_address()) - before == 8 * ETHER


async def test_a_gap_that_holds_up_nobody_waits(node: Anvil) -> None:
    """No fee is spent on a payment that is only late."""
    async with open_stepped(node, gap_patience_s=AT_ONCE) as side:
        late = await side.prepare()
        for _ in range(3):
            await side.look(blocks=1)
        assert (node.pool(), node.nonce(side.address)) == ([], 0)
        await side.engine.submit(late)
        await side.look(blocks=3)
        assert await side.engine.verify(late) == Settled(D(7))


async def test_a_withdrawn_payment_is_not_broadcast_any_more(node: Anvil) -> None:
    """Submitted after all, it stays out of the way: only one of the two can ever be told apart as final."""
    async with open_stepped(node, gap_patience_s=AT_ONCE) as side:
        late = await side.prepare(attempt="attempt-1")
        await side.pay("1", attempt="attempt-2")
        await side.look()
        await side.look()
        pool = node.pool()
        assert hash_of(late) not in pool
        assert len(pool) == 2
        node.drop_all()
        await side.engine.submit(late)
        assert node.pool() == []
        await side.look()
        assert sorted(node.pool()) == sorted(pool)
        await side.look(blocks=3)
        assert isinstance(await side.engine.verify(late), Rejected)


async def test_should_a_withdrawn_payment_apply_nevertheless_it_is_settled(node: Anvil) -> None:
    """Somebody had its bytes: the proof counts, not what we meant."""
    async with open_stepped(node, gap_patience_s=AT_ONCE) as side:
        late = await side.prepare(attempt="attempt-1")
        slot = side.engine._book.get(0)
        assert slot is not None
        await side.pay("1", attempt="attempt-2")
        await side.look()
        await side.look()
        node.drop_all()
        node.rpc("eth_sendRawTransaction", slot.payments[0].raw)
        node.mine(1)
        await side.look(blocks=2)
        assert await side.engine.verify(late) == Settled(D(7))
        assert await side.prepare(attempt="attempt-1") == late


async def test_a_gap_is_still_filled_in_another_life(node: Anvil) -> None:
    """What was withdrawn stays so, and its transfer of nothing is broadcast again and replaced like any other."""
    async with open_stepped(node, gap_patience_s=AT_ONCE) as side:
        late = await side.prepare(attempt="attempt-1")
        await side.pay("1", attempt="attempt-2")
        await side.look()
        await side.look()
    node.drop_all()
    node.set_next_base_fee(20 * GWEI)
    node.mine(5)
    async with open_stepped(node, side.services) as side:
        await side.look()
        slot = side.engine._book.get(0)
        assert slot is not None
        assert len(slot.fillers) == 2
        assert slot.fillers[-1].tx_hash in node.pool()
        node.mine(3)
        await side.look()
        assert isinstance(await side.engine.verify(late), Rejected)


async def test_a_nonce_that_the_store_forgot_is_filled(node: Anvil) -> None:
    """The store lost one slot and kept the next: what waits behind the hole still gets through, and is paid once."""
    async with open_stepped(node, gap_patience_s=AT_ONCE) as side:
        lost = await side.prepare(attempt="attempt-1")
        kept = await side.pay("1", attempt="attempt-2")
    del side.services.saved[None, "nonce:0"]
    async with open_stepped(node, side.services, gap_patience_s=AT_ONCE) as side:
        await side.look()
        await side.look()
        await side.look(blocks=3)
        assert await side.engine.verify(kept) == Settled(D(1))
        assert isinstance(await side.engine.verify(lost), Rejected)


@pytest.mark.parametrize("first", [True, False])
async def test_a_nonce_given_out_twice_pays_one_of_the_two(node: Anvil, first: bool) -> None:
    """The store forgot the first: whichever applied is settled, whichever did not is free again, and never both."""
    async with open_stepped(node) as side:
        one = await side.prepare("3", attempt="attempt-1")
    del side.services.saved[None, "nonce:0"]
    async with open_stepped(node, side.services) as side:
        other = await side.prepare("4", attempt="attempt-2")
        assert nonce_of(one) == nonce_of(other)
        if first:
            reference: Any = one.reference
            node.rpc("eth_sendRawTransaction", reference["transactions"][0]["raw"])
        else:
            await side.engine.submit(other)
        await side.engine.submit(one)
        await side.look(blocks=3)
        verdicts = [await side.engine.verify(payment) for payment in (one, other)]
        paid, freed = verdicts if first else reversed(verdicts)
        assert paid == Settled(D(3 if first else 4))
        assert isinstance(freed, Rejected)


# a key in other hands


async def foreign(side: Side, *, nonce: int, to: str, value: int, tip: int = 50 * GWEI) -> str:
    """Use the engine's key elsewhere, at a price that wins; return the hash."""
    signed = Account.sign_transaction(
        {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": nonce,
            "to": bytes.fromhex(to[2:]),
            "value": value,
            "data": b"",
            "gas": 21_000,
            "maxFeePerGas": tip * 2,
            "maxPriorityFeePerGas": tip,
        },
        dev_accounts()[1].key,
    )
    sent: str = side.node.rpc("eth_sendRawTransaction", signed.raw_transaction.to_0x_hex())
    return sent


async def test_a_nonce_used_by_a_stranger_stops_paying_with_an_alarm(node: Anvil) -> None:
    """The payment can never apply, which is proven: its money is free. But a person must look before more is paid."""
    async with open_stepped(node) as side:
        payment = await side.pay()
        taken = await foreign(side, nonce=0, to=dev_accounts()[9].address, value=1)
        await side.look(blocks=1)
        assert isinstance(await side.engine.verify(payment), Pending), "not final yet"
        with pytest.raises(SettlementFailed, match="seems to be used by a transaction that was not made here"):
            await side.prepare(attempt="attempt-2")
        await side.look(blocks=2)
        verdict = await side.engine.verify(payment)
        assert isinstance(verdict, Rejected)
        assert taken in verdict.reason
        alarm = (await side.engine.status())["alarm"]
        assert taken in alarm
        with pytest.raises(SettlementFailed, match="key is in use elsewhere.*known_nonces_below=1"):
            await side.prepare(attempt="attempt-2")
    async with open_stepped(node, side.services) as side:
        with pytest.raises(SettlementFailed, match="key is in use elsewhere"):
            await side.prepare(attempt="attempt-2")
    async with open_stepped(node, side.services, known_nonces_below=1) as side:
        again = await side.pay(attempt="attempt-2")
        await side.look(blocks=3)
        assert await side.engine.verify(again) == Settled(D(7))


async def test_an_alarm_stops_what_was_not_submitted_and_nothing_else(node: Anvil) -> None:
    """Of two payments prepared before it, the submitted one still goes out again, and applies; the other waits."""
    before = node.balance(peer_address())
    async with open_stepped(node) as side:
        await side.pay(attempt="attempt-1")
        await foreign(side, nonce=0, to=dev_accounts()[9].address, value=1)
        submitted = await side.pay("2", attempt="attempt-2")
        waiting = await side.prepare("3", attempt="attempt-3")
        await side.look(blocks=3)
        assert "key is in use elsewhere" in (await side.engine.status())["alarm"]
        with pytest.raises(SettlementFailed, match="key is in use elsewhere"):
            await side.engine.submit(waiting)
        await side.engine.submit(submitted)
        await side.look(blocks=3)
        assert await side.engine.verify(submitted) == Settled(D(2))
        assert isinstance(await side.engine.verify(waiting), Pending)
    assert node.balance(peer_address()) - before == 2 * ETHER


async def test_the_same_payment_made_by_somebody_else_is_in_doubt_and_alarms(node: Anvil) -> None:
    """A wallet may have hurried ours up, or another server paid a debt of its own: an operator has to find out."""
    before = node.balance(peer_address())
    async with open_stepped(node) as side:
        payment = await side.pay()
        await foreign(side, nonce=0, to=peer_address(), value=7 * ETHER)
        await side.look(blocks=3)
        verdict = await side.engine.verify(payment)
        assert isinstance(verdict, InDoubt)
        assert "nobody here can tell for which debt" in verdict.reason
        assert "key is in use elsewhere" in (await side.engine.status())["alarm"]
    assert node.balance(peer_address()) - before == 7 * ETHER


async def test_nonces_that_were_not_given_out_here_stop_paying(node: Anvil) -> None:
    """An old copy of the store would pay again what was paid since: the key's count gives it away."""
    async with open_stepped(node) as side:
        await side.pay("1", attempt="attempt-1")
        await side.look(blocks=3)
        copy = dict(side.services.saved)
        await side.pay(attempt="attempt-2")
        await side.look(blocks=3)
    async with open_stepped(node, EngineServices(saved=dict(copy))) as restored:
        with pytest.raises(SettlementFailed, match="this store is older than the last payments.*known_nonces_below=2"):
            await restored.prepare(attempt="attempt-3")
        assert restored.engine._book.next == 1
        await restored.look()
        assert "this store is older than the last payments" in (await restored.engine.status())["alarm"]
    async with open_stepped(node, EngineServices(saved=dict(copy)), known_nonces_below=2) as restored:
        payment = await restored.pay(attempt="attempt-3")
        assert nonce_of(payment) == 2
        await restored.look(blocks=3)
        assert await restored.engine.verify(payment) == Settled(D(7))


async def test_a_key_with_a_past_goes_on_where_it_is(node: Anvil) -> None:
    """A first start with a key that was used before, and a transaction of it waiting, begins after them.

    A restart then finds what was given out, however many nonces came before.
    """
    node.rpc("anvil_setNonce", dev_accounts()[1].address, hex(1000))
    node.send(dev_accounts()[1].address, to=dev_accounts()[9].address, value=1)
    node.mine()
    node.send(dev_accounts()[1].address, to=dev_accounts()[9].address, value=1)
    async with open_stepped(node) as side:
        payment = await side.pay()
        assert nonce_of(payment) == 1002
    async with open_stepped(node, side.services) as side:
        assert await side.prepare() == payment
        await side.look(blocks=3)
        assert await side.engine.verify(payment) == Settled(D(7))
        assert nonce_of(await side.prepare(attempt="attempt-2")) == 1003


async def test_a_stranger_is_searched_for_block_by_block(node: Anvil) -> None:
    """A missing receipt proves nothing: the stranger's transaction does, wherever in a long range it stands."""
    async with open_stepped(node) as side:
        payment = await side.prepare()
        node.mine(70)
        taken = await foreign(side, nonce=0, to=dev_accounts()[9].address, value=1)
        node.mine(40)
        await side.look()
        verdict = await side.engine.verify(payment)
        assert isinstance(verdict, Rejected)
        assert taken in verdict.reason


async def test_finished_nonces_are_forgotten_after_a_while(node: Anvil) -> None:
    """The store does not grow for ever, and each nonce's fee is counted once."""
    services = EngineServices()
    book = await begin_nonces(services, nonce=5, since=0)
    for number in range(KEPT + 2):
        slot = await book.allocate(partial(_blank, number))
        await book.finish(slot, Outcome(Result.PAID, "0x", units=1, fee=2, block=0))
    assert [await services.load(f"nonce:{nonce}") is None for nonce in (5, 6, 7)] == [True, True, False]
    assert (book.find("attempt-1"), book.find("attempt-2")) == (None, book.get(7))
    again = await read_nonces(services)
    assert again is not None
    assert (again.floor, again.next, again.fees_spent) == (5 + KEPT + 2, 5 + KEPT + 2, 2 * (KEPT + 2))
    assert again.get(7) == book.get(7)


def _blank(number: int, nonce: int) -> Slot:
    return Slot(nonce=nonce, account_id="bob", attempt_id=f"attempt-{number}", to="", units=1, since=0)


async def test_a_forgotten_payment_is_still_told_by_the_chain(node: Anvil) -> None:
    """An account that slept while hundreds of others were paid learns of its payment all the same."""
    async with open_stepped(node) as side:
        payment = await side.pay("0.5")
        await side.look(blocks=3)
        book = await side.services.load("nonces")
        await side.services.save("nonces", {**book, "floor": KEPT + 1})
        await side.services.save("nonce:0", None)
    async with open_stepped(node, side.services) as side:
        assert side.engine._book.get(0) is None
        assert await side.engine.verify(payment) == Settled(D("0.5"))
        await side.engine.submit(payment)
        assert node.pool() == []
