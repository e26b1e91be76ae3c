"""A node's answer is a claim: whatever it leaves out, changes or makes up, nothing is paid twice or lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.abc import InDoubt, Pending, Rejected, Settled, Verdict
from settlement_core.engines.ethereum.chain import NodeLagging
from settlement_core.engines.ethereum.rpc import Call, NodeError, NodeRefused
from settlement_core.values.errors import SettlementFailed
from settlement_core.values.records import Payment
from tests.engines.ethereum.anvil import Anvil, dev_accounts
from tests.engines.ethereum.contracts import Mood, Refuser, Token, deploy_token
from tests.engines.ethereum.rig import (
    ETHER,
    Change,
    D,
    EngineServices,
    Side,
    lie,
    nonce_of,
    open_stepped,
    peer_address,
)

pytestmark = pytest.mark.anyio

RECEIPTS = ("eth_getTransactionReceipt", "eth_getBlockReceipts")


@pytest.fixture
def anyio_backend() -> str:
    """One loop is enough: what is asked and believed does not depend on it."""
    return "trio"


async def look(side: Side, *, blocks: int = 0) -> None:
    """Look as the engine's tasks do: a node's failure is waited for."""
    side.node.mine(blocks)
    for once in (side.engine.watcher.watch_once, side.engine.scan.scan_once):
        try:
            await once()
        except NodeError as error:
            side.engine._state.trouble = str(error)


async def verdict(side: Side, payment: Payment) -> Verdict | NodeError:
    """Return the verdict, or the node's failure."""
    try:
        return await side.engine.verify(payment)
    except NodeError as error:
        return error


def of_receipts(change: Callable[[dict[str, Any]], Any]) -> Change:
    """Return a change of single receipts that changes lists of them alike."""

    def changed(said: Any, _call: Call) -> Any:
        return [change(one) for one in said] if isinstance(said, list) else change(said)

    return changed


# what is said of our payments

OF_PAYMENTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "without logs": lambda r: {**r, "logs": []},
    "without logs and filter": lambda r: {**r, "logs": [], "logsBloom": "0x" + "00" * 256},
    "reverted": lambda r: {**r, "status": "0x0"},
    "reverted, without logs": lambda r: {**r, "status": "0x0", "logs": [], "logsBloom": "0x" + "00" * 256},
    "status 2": lambda r: {**r, "status": "0x2"},
    "no status": lambda r: {key: value for key, value in r.items() if key != "status"},
    "half the amount": lambda r: {**r, "logs": [{**log, "data": "0x" + "00" * 32} for log in r["logs"]]},
    "another's": lambda r: {**r, "transactionHash": "0x" + "77" * 32},
    "of another block": lambda r: {**r, "blockHash": "0x" + "77" * 32},
    "in the first block": lambda r: {**r, "blockNumber": "0x0"},
    "in a block to come": lambda r: {**r, "blockNumber": "0xffffff"},
    "of no block": lambda r: {**r, "blockNumber": None, "blockHash": None},
    "huge gas": lambda r: {**r, "gasUsed": "0x" + "f" * 5000},
    "not there": lambda _: None,
    "nothing but a number": lambda _: 7,
}


@pytest.mark.parametrize("verify", [True, False], ids=["verified", "told"])
@pytest.mark.parametrize("asset", ["ether", "token"])
@pytest.mark.parametrize("name", OF_PAYMENTS)
async def test_a_wrong_receipt_ends_no_payment(node: Anvil, name: str, asset: str, *, verify: bool) -> None:
    """For as long as the node lies, and by whatever method, the payment is pending; then it is settled, once."""
    if not verify and name in {"reverted", "reverted, without logs", "half the amount", "without logs and filter"}:
        pytest.skip("without a root there is nothing that it contradicts")
    token = _token(node, asset)
    before = _balance(node, token, peer_address())
    async with open_stepped(node, token=token, verify_blocks=verify) as side:
        payment = await side.pay("7")
        ends = [lie(side, method, of_receipts(OF_PAYMENTS[name])) for method in RECEIPTS]
        for _ in range(4):
            await look(side, blocks=3)
            assert not isinstance(await verdict(side, payment), Rejected | Settled | InDoubt) or (
                # which is true, and needs none of what the node says wrong
                await verdict(side, payment) == Settled(D(7))
            )
        assert side.engine._book.next == nonce_of(payment) + 1
        for end in ends:
            end()
        await look(side, blocks=3)
        assert await verdict(side, payment) == Settled(D(7))
    assert _balance(node, token, peer_address()) - before == 7 * 10 ** (18 if token is None else 6)


def _token(node: Anvil, asset: str) -> Token | None:
    if asset == "ether":
        return None
    token = deploy_token(node)
    for address in (dev_accounts()[1].address, peer_address()):
        token.transfer(node.accounts[0].address, to=address, units=10**9)
    node.mine(3)
    return token


def _balance(node: Anvil, token: Token | None, address: str) -> int:
    return node.balance(address) if token is None else token.balance(address)


async def test_a_contradiction_that_stays_is_in_doubt(node: Anvil) -> None:
    """After a while with an alarm, so that later payments go on and an operator looks it up on another node."""
    async with open_stepped(node, token=_token(node, "token"), doubt_after_s=0.05) as side:
        payment = await side.pay("7")
        ends = [lie(side, method, of_receipts(OF_PAYMENTS["without logs"])) for method in RECEIPTS]
        await look(side, blocks=4)
        assert isinstance(await verdict(side, payment), Pending)
        await anyio.sleep(0.06)
        await look(side)
        found = await verdict(side, payment)
        assert isinstance(found, InDoubt)
        assert "Look it up on another node" in found.reason
        for end in ends:
            end()
        second = await side.pay("1", attempt="attempt-2")
        await look(side, blocks=4)
        assert await verdict(side, second) == Settled(D(1))
        assert isinstance(await verdict(side, payment), InDoubt), "which an operator may have resolved by now"


# what is said of payments to us


def _without(number: int) -> Callable[[list[Any]], list[Any]]:
    return lambda listed: listed[:number] + listed[number + 1 :]


def _block(change: Callable[[list[Any]], Any]) -> Change:
    return lambda b, call: {**b, "transactions": change(b["transactions"])} if call.params[1] else b


OF_DEPOSITS: dict[str, tuple[str, Change]] = {
    "no transactions": ("eth_getBlockByNumber", _block(lambda _: [])),
    "one transaction less": ("eth_getBlockByNumber", _block(_without(0))),
    "the last transaction less": ("eth_getBlockByNumber", _block(lambda listed: listed[:-1])),
    "one transaction twice": ("eth_getBlockByNumber", _block(lambda listed: [*listed, *listed[:1]])),
    "hashes only": ("eth_getBlockByNumber", _block(lambda listed: [one["hash"] for one in listed])),
    "no list": ("eth_getBlockByNumber", _block(lambda _: None)),
    "another receiver": (
        "eth_getBlockByNumber",
        _block(lambda listed: [{**one, "to": "0x" + "11" * 20} for one in listed]),
    ),
    "another value": ("eth_getBlockByNumber", _block(lambda listed: [{**one, "value": "0x1"} for one in listed])),
    "another sender": (
        "eth_getBlockByNumber",
        _block(lambda listed: [{**one, "from": dev_accounts()[5].address} for one in listed]),
    ),
    "no field": (
        "eth_getBlockByNumber",
        lambda b, call: {k: v for k, v in b.items() if k != "transactions"} if call.params[1] else b,
    ),
    "no filter": ("eth_getBlockByNumber", lambda b, _: {**b, "logsBloom": "0x" + "00" * 256}),
    "another block": ("eth_getBlockByNumber", lambda b, _: {**b, "number": hex(int(b["number"], 16) + 1)}),
    "reverted": ("eth_getBlockReceipts", of_receipts(OF_PAYMENTS["reverted"])),
    "without logs": ("eth_getBlockReceipts", of_receipts(OF_PAYMENTS["without logs"])),
    "half the amount": ("eth_getBlockReceipts", of_receipts(OF_PAYMENTS["half the amount"])),
    "one receipt less": ("eth_getBlockReceipts", lambda listed, _: listed[:-1]),
    "no receipts": ("eth_getBlockReceipts", lambda *_: []),
}


@pytest.mark.parametrize("asset", ["ether", "token"])
@pytest.mark.parametrize("name", OF_DEPOSITS)
async def test_an_incomplete_answer_moves_no_cursor(node: Anvil, name: str, asset: str) -> None:
    """What the node leaves out or changes is noticed: once it tells all, everything is credited, as it was paid."""
    token = _token(node, asset)
    async with open_stepped(node, token=token) as side:
        end = lie(side, *OF_DEPOSITS[name])
        for whole in (2, 3):
            _pay_us(side, token, whole)
            await look(side, blocks=1)
        await look(side, blocks=6)
        wrong = {amount for _, amount in side.services.credits.values()} - {D(2), D(3)}
        assert not wrong
        end()
        await look(side, blocks=3)
        assert sorted(amount for _, amount in side.services.credits.values()) == [D(2), D(3)]
        assert side.services.unattributed == {}


def _pay_us(side: Side, token: Token | None, whole: int) -> None:
    if token is None:
        # so that a block has more than one transaction
        side.node.send(dev_accounts()[7].address, to=dev_accounts()[8].address, value=1)
        side.node.send(peer_address(), to=side.address, value=whole * ETHER)
    else:
        token.transfer(node_owner(side), to=dev_accounts()[8].address, units=1)
        token.transfer(peer_address(), to=side.address, units=whole * 10**6)


def node_owner(side: Side) -> str:
    """Return who owns the token's supply."""
    return side.node.accounts[0].address


async def test_logs_that_are_not_in_the_receipts_are_not_passed_over(node: Anvil) -> None:
    """Where blocks cannot be checked, logs and receipts have to agree; neither alone moves the cursor."""
    token = _token(node, "token")
    async with open_stepped(node, token=token, verify_blocks=False) as side:
        for change in (OF_PAYMENTS["without logs"], OF_PAYMENTS["without logs and filter"]):
            end = lie(side, "eth_getBlockReceipts", of_receipts(change))
            _pay_us(side, token, 2)
            await look(side, blocks=4)
            assert "contradicts itself" in side.engine._state.trouble
            end()
            await look(side, blocks=4)
        assert side.services.credited() == D(4)


# two servers with one key


async def test_two_servers_with_one_key_never_sign_the_same(node: Anvil) -> None:
    """Both pay the same peer the same amount with the same nonce: one server's is settled, the other's in doubt.

    What both take for paid is never more than what has arrived.
    """
    before = node.balance(peer_address())
    async with open_stepped(node, EngineServices()) as one, open_stepped(node, EngineServices()) as two:
        first, second = await one.prepare("1"), await two.prepare("1")
        assert nonce_of(first) == nonce_of(second)
        await one.engine.submit(first)
        await two.engine.submit(second)
        for side in (one, two):
            await look(side, blocks=3)
        # which of the two the node keeps depends on their marks
        found = [await verdict(one, first), await verdict(two, second)]
        assert found.count(Settled(D(1))) == 1
        for side, verdict_of in zip((one, two), found, strict=True):
            if verdict_of != Settled(D(1)):
                assert isinstance(verdict_of, InDoubt)
                assert "its key is in use elsewhere" in (await side.engine.status())["alarm"]
    assert node.balance(peer_address()) - before == ETHER


# gas


@pytest.mark.parametrize("gas", ["0x0", "0x1", "0x5207", "0x5208"])
async def test_one_estimate_that_is_too_low_holds_nothing_up(node: Anvil, gas: str) -> None:
    """Never less than any transaction takes, and estimated again where that is refused or fails."""
    refuser = Refuser.deploy(node)
    refuser.set_open(to=True)
    node.mine()
    async with open_stepped(node) as side:
        side.services.saved[None, "nonces"]
        await _pay_contract(side, refuser.address)
        lie(side, "eth_estimateGas", lambda *_: gas, times=1)
        first = await side.prepare("7", account="contract")
        with suppress(NodeError):
            await side.engine.submit(first)
        second = await side.pay("1", attempt="attempt-2")
        for _ in range(10):
            await look(side, blocks=3)
        assert await verdict(side, second) == Settled(D(1))
        assert isinstance(await verdict(side, first), Settled | Rejected)
    # out of gas it cost a fee, and is paid by another attempt; else it was replaced and paid
    paid = node.balance(refuser.address)
    assert paid == (7 * ETHER if isinstance(await verdict(side, first), Settled) else 0)


async def _pay_contract(side: Side, address: str) -> None:
    side.services.accounts.add("contract")
    side.engine._peers.address_of = _always(address, side.engine._peers.address_of)  # type: ignore[method-assign,assignment]


def _always(address: str, otherwise: Callable[[str], Any]) -> Callable[[str], Any]:
    async def address_of(account_id: str) -> Any:
        return address if account_id == "contract" else await otherwise(account_id)

    return address_of


async def test_a_refused_transaction_is_signed_again_with_enough_gas(node: Anvil) -> None:
    """What an earlier version signed with less gas than anything takes is replaced at once; all behind it goes on."""
    async with open_stepped(node) as side:
        payment = await side.prepare("7")
        slot = side.engine._book.find("attempt-1")
        assert slot is not None
        await side.engine._book.change(slot.nonce, lambda known: known and _with_gas(side, known, 20_000))
        with pytest.raises(NodeError, match="gas"):
            await side.engine.submit(payment)
        second = await side.pay("1", attempt="attempt-2")
        await look(side)
        await look(side, blocks=3)
        assert [await verdict(side, one) for one in (payment, second)] == [Settled(D(7)), Settled(D(1))]


def _with_gas(side: Side, slot: Any, gas: int) -> Any:
    signed = side.engine.watcher._signed(slot, slot.payments[0].fees, gas, side.engine._chain.view)  # type: ignore[arg-type]
    return replace(slot, payments=(signed,))


# money burnt


async def test_payments_that_only_cost_fees_pause_the_account(node: Anvil) -> None:
    """A contract behaves while a payment is estimated and reverts in the block: three times, then an operator decides.

    What is lost is shown.
    """
    refuser = Refuser.deploy(node)
    async with open_stepped(node) as side:
        await _pay_contract(side, refuser.address)
        end = lie(side, "eth_estimateGas", lambda said, _: "0x7530" if isinstance(said, NodeRefused) else said)
        verdicts = []
        for attempt in range(4):
            payment = await side.pay("7", account="contract", attempt=f"attempt-{attempt}")
            await look(side, blocks=3)
            verdicts.append(await verdict(side, payment))
        assert [isinstance(one, Rejected) and one.pause for one in verdicts] == [False, False, True, True]
        wasted = (await side.engine.status())["wasted"]
        assert wasted["contract"]["payments"] == 4
        assert Decimal(wasted["contract"]["ether"]) == Decimal(side.engine._book.fees_spent).scaleb(-18) > 0
        end()
        refuser.set_open(to=True)
        node.mine()
        payment = await side.pay("7", account="contract", attempt="resumed")
        await look(side, blocks=3)
        assert await verdict(side, payment) == Settled(D(7))


async def test_gas_is_estimated_with_the_fees_that_are_paid(node: Anvil) -> None:
    """Code can read the price of gas, and behave while there is none: `if (tx.gasprice == 0) stop(); revert();`."""
    async with open_stepped(node) as side:
        node.rpc("anvil_setCode", "0x" + "99" * 20, "0x3a6006" + "57" + "00" + "5b" + "60006000fd")
        await _pay_contract(side, "0x" + "99" * 20)
        with pytest.raises(SettlementFailed, match="would fail now"):
            await side.prepare("7", account="contract")
        assert side.engine._book.next == 0


async def test_a_leftover_that_a_fee_taking_token_never_moves_is_dust(node: Anvil) -> None:
    """It charges one unit: of two, one arrives; of the one that is left nothing does, so it waits for more."""
    token = _token(node, "token")
    assert token is not None
    token.set_mood(Mood.CHARGING)
    node.mine()
    async with open_stepped(node, token=token) as side:
        for number, (amount, moves) in enumerate((("0.000002", D("0.000001")), ("0.000001", None))):
            payment = await side.pay(amount, attempt=f"attempt-{number}")
            await look(side, blocks=4)
            found = await verdict(side, payment)
            assert (found.amount if isinstance(found, Settled) else None) == moves
        assert await side.engine.prepare("bob", D("0.000001"), "attempt-3") is None
        assert await side.engine.prepare("bob", D("0.000002"), "attempt-4") is not None


# heads and nonces


async def test_one_wrong_head_is_not_believed(node: Anvil) -> None:
    """A header commits to its number."""
    async with open_stepped(node) as side:
        await side.look()
        lie(
            side,
            "eth_getBlockByNumber",
            lambda b, call: {**b, "number": hex(10**9)} if call.params[0] == "latest" else b,
            times=1,
        )
        with pytest.raises(NodeError, match="contradicts itself"):
            await side.look()
        await side.look(blocks=3)
        assert side.engine._chain.seen == node.height


async def test_a_head_that_was_wrong_is_given_up_after_a_while(node: Anvil) -> None:
    """With a warning: all waits for the height that was seen, and then goes on where the chain is."""
    async with open_stepped(node, lag_patience_s=0.05) as side:
        side.engine._chain.seen = 10**9
        payment = None
        with pytest.raises(NodeLagging):
            await side.look()
        await anyio.sleep(0.06)
        await side.look()
        payment = await side.pay("7")
        await side.look(blocks=3)
        assert await side.engine.verify(payment) == Settled(D(7))
        (warning,) = (await side.engine.status())["warnings"]
        assert "the newest block was 1000000000 once" in warning


async def test_a_node_that_errs_about_an_old_block_sets_no_alarm_for_ever(node: Anvil) -> None:
    """A block taken for final is another one's, says a node that is on a fork, and then it is what it was."""
    async with open_stepped(node, verify_blocks=False) as side:
        await side.look(blocks=6)

        def forked(block: Any, _call: Call) -> Any:
            return {**block, "hash": "0x77" + block["hash"][4:], "parentHash": "0x77" + block["parentHash"][4:]}

        end = lie(side, "eth_getBlockByNumber", forked)
        await side.look(blocks=1)
        assert "were replaced" in (await side.engine.status())["warnings"][0]
        end()
        await side.look(blocks=3)
        await side.look(blocks=3)
        assert (await side.engine.status())["warnings"] == []
    async with open_stepped(node, side.services) as side:
        assert (await side.engine.status())["warnings"] == []


async def test_a_dropped_transaction_of_somebody_else_that_holds_up_ours_is_told(node: Anvil) -> None:
    """It was pending when the key was first used here, so ours came after it; an operator must send it again."""
    us = dev_accounts()[1].address
    foreign = node.send(us, to=dev_accounts()[5].address, value=1)
    async with open_stepped(node, gap_patience_s=0.05) as side:
        payment = await side.pay("7")
        assert nonce_of(payment) == 1
        await side.look()
        assert (await side.engine.status())["alarm"] == ""
        node.drop(foreign)
        await side.look(blocks=3)
        await anyio.sleep(0.06)
        await side.look()
        alarm = (await side.engine.status())["alarm"]
        assert f"nonce 0 of address {us}" in alarm
        assert "no later payment applies before it" in alarm
        node.send(us, to=us, value=0, nonce=0)
        await side.look(blocks=3)
        assert (await side.engine.status())["alarm"] == ""
        assert await side.engine.verify(payment) == Settled(D(7))


async def test_nonces_that_nobody_can_know_yet_are_not_known(node: Anvil) -> None:
    """`known_nonces_below` far too high would hide for ever that somebody else uses the key."""
    async with open_stepped(node, known_nonces_below=1000) as side:
        await side.look()
        assert "known_nonces_below=1000 is higher than the next nonce" in (await side.engine.status())["alarm"]
        with pytest.raises(SettlementFailed, match="known_nonces_below=1000"):
            await side.prepare("7")
    async with open_stepped(node, side.services, known_nonces_below=0) as side:
        payment = await side.pay("7")
        await side.look(blocks=3)
        assert await side.engine.verify(payment) == Settled(D(7))


async def test_a_suspicion_stands_until_it_is_disproved(node: Anvil) -> None:
    """It is found again in every look; in between, while the node is asked, nothing may slip through."""
    async with open_stepped(node) as side:
        await side.pay("7")
        node.send(side.address, to=peer_address(), value=1, nonce=1)
        await side.look(blocks=1)
        assert "were not given out here" in side.engine._state.suspicion
        seen: list[str] = []
        prove = side.engine.watcher._outcomes

        async def observed(*arguments: Any) -> Any:
            seen.append(side.engine._state.suspicion)
            return await prove(*arguments)

        side.engine.watcher._outcomes = observed  # type: ignore[method-assign,assignment]
        await side.look(blocks=1)
        assert seen
        assert all(seen)
