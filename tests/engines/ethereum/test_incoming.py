"""Every payment to us is credited once, when it is final; a stranger's is kept, and holds up nobody."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from settlement_core.engines.ethereum.blocks import TRANSFER, Log, Receipt
from settlement_core.engines.ethereum.chain import address_topic
from settlement_core.engines.ethereum.rpc import NodeRefused
from tests.engines.ethereum.anvil import CHAIN_ID, Anvil, dev_accounts
from tests.engines.ethereum.contracts import Forwarder, Mood, call_data, deploy_token
from tests.engines.ethereum.proxy import Call, When, open_proxy
from tests.engines.ethereum.rig import (
    ETHER,
    D,
    EngineServices,
    bind,
    lie,
    open_running,
    open_stepped,
    peer_address,
    until,
)
from tests.engines.ethereum.world import Crash

pytestmark = pytest.mark.anyio

STRANGER = dev_accounts()[9].address


async def test_ether_is_credited_once_it_is_final(node: Anvil) -> None:
    """Not in its first blocks; then exactly what arrived, under chain and transaction."""
    async with open_stepped(node) as side:
        sent = node.send(peer_address(), to=side.address, value=5 * ETHER + 1)
        await side.look(blocks=2)
        assert side.services.credits == {}
        await side.look(blocks=1)
        assert side.services.credits == {f"{CHAIN_ID}:{sent}": ("bob", D("5.000000000000000001"))}
        await side.look(blocks=5)
        assert len(side.services.credits) == 1


async def test_two_transfers_in_one_transaction_are_two_credits(node: Anvil) -> None:
    """A log is the event, not the transaction; its number counts within the transaction."""
    token = deploy_token(node, decimals=6, owner=peer_address())
    async with open_stepped(node, token=token) as side:
        token.transfer(peer_address(), to=STRANGER, units=1)
        both = token.transfer_twice(peer_address(), to=side.address, units=(3_000_000, 3_000_000))
        await side.look(blocks=3)
        assert side.services.credits == {
            f"{CHAIN_ID}:{both}:0": ("bob", D(3)),
            f"{CHAIN_ID}:{both}:1": ("bob", D(3)),
        }


async def test_only_our_asset_is_credited(node: Anvil) -> None:
    """An engine for a token credits neither ether nor another token; one for ether credits no token."""
    token = deploy_token(node, decimals=6, owner=peer_address())
    other = deploy_token(node, decimals=6, owner=peer_address())
    async with open_stepped(node, token=token) as in_token, open_stepped(node) as in_ether:
        other.transfer(peer_address(), to=in_token.address, units=9)
        token.transfer(peer_address(), to=in_token.address, units=2_000_000)
        node.send(peer_address(), to=in_token.address, value=ETHER)
        node.mine(3)
        await in_token.look()
        await in_ether.look()
        assert in_token.services.credited() == D(2)
        assert in_ether.services.credited() == D(1)
        assert in_token.services.unattributed == in_ether.services.unattributed == {}


async def test_of_one_transaction_only_what_is_ours_is_credited(node: Anvil) -> None:
    """It moves two tokens, to us and to others, and something of ours: the token and the receiver of each log count."""
    token = deploy_token(node, decimals=6, owner=peer_address())
    async with open_stepped(node, token=token) as side:
        us, peer = address_topic(side.address), address_topic(peer_address())
        transfers = [
            ("0x" + "33" * 20, peer, us),
            (token.address, peer, address_topic(STRANGER)),
            (token.address, us, us),
            (token.address, peer, us),
        ]
        logs = [
            Log(contract, (TRANSFER, sender, receiver), f"0x{number + 1:064x}", number)
            for number, (contract, sender, receiver) in enumerate(transfers)
        ]
        reader, receipt = side.engine.scan._reader, Receipt("0xab", 9, "0xcd", succeeded=True, fee=0, logs=tuple(logs))
        found = [paid for log, _ in reader._transfers(receipt) for paid in reader._deposit(receipt, log)]
        assert [(deposit.settlement_id, deposit.units) for deposit in found] == [(f"{CHAIN_ID}:0xab:3", 4)]


async def test_a_failed_transaction_credits_nothing(node: Anvil) -> None:
    """It names us and a value, and stands in a block, but its receipt says that it moved nothing."""
    token = deploy_token(node, decimals=6, owner=peer_address())
    # our address has code that takes nothing (EIP-7702), as any address may
    async with open_stepped(node) as side:
        node.rpc("anvil_setCode", side.address, "0x60006000fd")
        raw = {"from": peer_address(), "to": side.address, "value": hex(ETHER), "gas": hex(100_000)}
        sent = node.rpc("eth_sendTransaction", raw)
        await side.look(blocks=3)
        receipt = node.receipt(sent)
        assert receipt is not None
        assert receipt["status"] == "0x0"
        assert (side.services.credits, side.services.unattributed) == ({}, {})
    async with open_stepped(node, token=token) as side:
        data = call_data("transfer(address,uint256)", side.address, 5)
        token.set_mood(Mood.REVERTING)
        node.mine()
        raw = {"from": peer_address(), "to": token.address, "data": data, "gas": hex(100_000)}
        node.rpc("eth_sendTransaction", raw)
        await side.look(blocks=4)
        assert (side.services.credits, side.services.unattributed) == ({}, {})


async def test_a_strangers_deposit_is_kept_and_holds_up_nobody(node: Anvil) -> None:
    """One wei from nobody we know, then the peer's payment: the first waits for a person, the second is credited."""
    async with open_stepped(node) as side:
        strange = node.send(STRANGER, to=side.address, value=1)
        node.mine()
        node.send(peer_address(), to=side.address, value=2 * ETHER)
        await side.look(blocks=3)
        assert side.services.credited() == D(2)
        ((settlement_id, (amount, details)),) = side.services.unattributed.items()
        assert (settlement_id, amount) == (f"{CHAIN_ID}:{strange}", D("0.000000000000000001"))
        assert (details["sender"], details["transaction"], details["units"]) == (STRANGER, strange, "1")


async def test_a_deposit_for_an_account_that_is_gone_is_kept(node: Anvil) -> None:
    """The connector deleted the account before its peer paid: the money is nobody's until a person says whose."""
    async with open_stepped(node) as side:
        side.services.accounts.clear()
        node.send(peer_address(), to=side.address, value=ETHER)
        await side.look(blocks=3)
        ((_, (amount, details)),) = side.services.unattributed.items()
        assert (amount, details["account"]) == (D(1), "bob")


async def test_what_was_kept_for_a_person_is_not_credited_as_well(node: Anvil) -> None:
    """A crash right after a deposit was kept, then its sender becomes a peer: the repeated scan decides as before."""
    async with open_stepped(node) as side:
        node.send(dev_accounts()[3].address, to=side.address, value=ETHER)
        node.mine(3)
        save = side.services.save

        async def crash(key: str, value: Any, account_id: str | None = None) -> None:
            if key == "incoming-cursor":
                raise Crash
            await save(key, value, account_id)

        side.services.save = crash  # type: ignore[method-assign]
        with pytest.raises(Crash):
            await side.engine.scan.scan_once()
        side.services.save = save  # type: ignore[method-assign]
        assert len(side.services.unattributed) == 1
    side.services.accounts.add("carol")
    async with open_stepped(node, side.services) as side:
        await bind(side, "carol", 3)
        await side.look()
        assert side.services.credits == {}
        node.send(dev_accounts()[3].address, to=side.address, value=2 * ETHER)
        await side.look(blocks=3)
        assert side.services.credited("carol") == D(2)
        assert len(side.services.unattributed) == 1


async def test_what_was_kept_for_a_person_is_not_credited_when_its_account_comes_back(node: Anvil) -> None:
    """Deleted as its peer paid, a crash, created again: the money is already the person's to assign."""
    async with open_stepped(node) as side:
        side.services.accounts.clear()
        node.send(peer_address(), to=side.address, value=ETHER)
        node.mine(3)
        scanned = await side.services.load("incoming-cursor")
        await side.look()
        assert len(side.services.unattributed) == 1
        side.services.accounts.add("bob")
        # as if the cursor had not been saved any more
        await side.services.save("incoming-cursor", scanned)
    async with open_stepped(node, side.services) as side:
        await side.look()
        assert side.services.credits == {}
        assert len(side.services.unattributed) == 1


async def test_a_crash_at_any_save_credits_everything_once(node: Anvil) -> None:
    """However few saves each life makes, in the end each of three deposits is credited, and once."""
    services = EngineServices()
    async with open_stepped(node, services) as side:
        address = side.address
    for number in (1, 2, 3):
        node.send(peer_address(), to=address, value=number * ETHER)
        node.mine()
    node.mine(2)
    for lives_for in (0, 1, 2, 3, None):
        services.lives_for = None
        async with open_stepped(node, services) as side:
            services.lives_for = lives_for
            try:
                await side.engine.scan.scan_once()
            except BaseException:  # noqa: BLE001 - it comes alone, or in a group
                assert lives_for is not None
    assert services.credited() == D(6)
    assert len(services.credits) == 3


async def test_deposits_while_the_engine_is_down_are_credited_after(node: Anvil) -> None:
    """Thirty blocks pass, with a deposit in each tenth: the cursor goes on where it stood."""
    async with open_stepped(node) as side:
        await side.look(blocks=3)
    for _ in range(3):
        node.send(peer_address(), to=side.address, value=ETHER)
        node.mine(10)
    async with open_stepped(node, side.services) as side:
        await side.look()
        assert side.services.credited() == D(3)


@pytest.mark.parametrize(("start_block", "credited"), [(None, 2), (0, 7), (3, 6), (100, 0)])
async def test_the_first_scan_begins_where_it_is_told(node: Anvil, start_block: int | None, credited: int) -> None:
    """By default with what becomes final from now on, or with a block; and then it never begins anew."""
    for value in (1, 4):
        node.mine()
        node.send(peer_address(), to=dev_accounts()[1].address, value=value * ETHER)
        node.mine()
    node.mine(3)
    async with open_stepped(node, start_block=start_block) as side:
        await side.look()
    node.send(peer_address(), to=side.address, value=2 * ETHER)
    async with open_stepped(node, side.services, start_block=0) as side:
        await side.look(blocks=3)
        side.services.accounts.add("carol")
        # what came before the peer was known waits for a person
        known = side.services.credited() + sum(amount for amount, _ in side.services.unattributed.values())
        assert known == credited


async def test_a_smaller_range_of_logs_is_asked_for_at_once(node: Anvil) -> None:
    """A provider gives ten blocks at most: one look catches up, without a pause, and remembers the limit."""
    token = deploy_token(node, decimals=6, owner=peer_address())
    async with open_stepped(node, token=token, block_range=64, verify_blocks=False) as side:
        rpc = side.engine._chain.rpc
        asked: list[int] = []
        call, most, began = rpc.call, 10, side.engine._state.scanned

        async def limited(method: str, *params: Any) -> Any:
            if method == "eth_getLogs":
                asked.append(int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1)
                if asked[-1] > most:
                    raise NodeRefused(method, code=-32005, text="query exceeds max block range")
            return await call(method, *params)

        rpc.call = limited  # type: ignore[method-assign]
        token.transfer(peer_address(), to=side.address, units=4_000_000)
        node.mine(402)
        await side.engine.scan.scan_once()
        assert side.services.credited() == D(4)
        assert asked[:4] == [64, 31, 15, 7]
        assert sum(blocks > most for blocks in asked[4:]) <= 4, "it is tried now and then whether more is granted"
        assert sum(blocks for blocks in asked if blocks <= most) == side.engine._state.scanned - began
        assert max(asked[4:]) < 13
        most, asked[:] = 1000, []
        node.mine(2000)
        await side.engine.scan.scan_once()
        assert max(asked) > 10


async def test_a_provider_that_refuses_even_one_block_of_logs_is_waited_for(node: Anvil) -> None:
    """That is no limit, but a fault: the scan backs off, and goes on where it was."""
    token = deploy_token(node, decimals=6, owner=peer_address())
    async with open_stepped(node, token=token, verify_blocks=False) as side:
        end = lie(side, "eth_getLogs", lambda _, call: NodeRefused(call.method, code=-32005, text="not now"))
        token.transfer(peer_address(), to=side.address, units=4_000_000)
        with pytest.raises(NodeRefused):
            await side.look(blocks=5)
        assert side.services.credited() == D(0)
        end()
        await side.look(blocks=5)
        assert side.services.credited() == D(4)


async def test_small_payments_of_strangers_are_counted_and_otherwise_ignored(node: Anvil) -> None:
    """Each would be a row for an operator; a peer's payment is credited however small it is."""
    async with open_stepped(node, incoming_minimum=D("0.5")) as side:
        for sender, value in ((STRANGER, 1), (STRANGER, ETHER // 2), (peer_address(), 2)):
            node.send(sender, to=side.address, value=value)
        await side.look(blocks=3)
        assert side.services.credited() == D("0.000000000000000002")
        assert [amount for amount, _ in side.services.unattributed.values()] == [D("0.5")]
        assert (await side.engine.status())["scan"]["ignored"] == {"payments": 1, "amount": "0.000000000000000001"}


async def test_a_balance_that_no_transaction_explains_is_told(node: Anvil, caplog: pytest.LogCaptureFixture) -> None:
    """Ether that a contract passed on is credited to nobody, and not passed over in silence; what was paid is."""
    forwarder = Forwarder.deploy(node)
    async with open_stepped(node) as side:
        await side.look(blocks=3)
        await side.pay("1")
        node.send(peer_address(), to=side.address, value=2 * ETHER)
        await side.look(blocks=60)
        assert (await side.engine.status())["warnings"] == []
        forwarder.forward(peer_address(), to=side.address, wei=3 * ETHER)
        node.mine()
        await side.look(blocks=60)
        (warning,) = (await side.engine.status())["warnings"]
        assert "had 3.000000000000000000 more than its transactions explain" in warning
        assert warning in caplog.messages
    async with open_stepped(node, side.services) as side:
        await side.look(blocks=60)
        assert (await side.engine.status())["warnings"] == [], "the comparison goes on from what was found"


async def test_a_tokens_balance_is_compared_as_well(node: Anvil) -> None:
    """With all transfers from and to us, our own and those that others make."""
    token = deploy_token(node, decimals=6, owner=peer_address())
    async with open_stepped(node, token=token) as side:
        token.transfer(peer_address(), to=side.address, units=9_000_000)
        await side.look(blocks=3)
        await side.pay("2")
        await side.look(blocks=60)
        assert side.engine.scan._reconciliation.expected == 7_000_000 == token.balance(side.address)
        assert (await side.engine.status())["warnings"] == []


async def test_a_payment_that_changed_its_amount_holds_up_nobody(node: Anvil) -> None:
    """It cannot, but if a chain that was replaced made it so, the first amount stands, and the next is credited."""
    async with open_stepped(node) as side:
        sent = node.send(peer_address(), to=side.address, value=ETHER)
        side.services.credits[f"{CHAIN_ID}:{sent}"] = ("bob", D(3))
        node.mine()
        node.send(peer_address(), to=side.address, value=2 * ETHER)
        await side.look(blocks=3)
        assert side.services.credited() == D(5)


async def test_ether_that_a_contract_passes_on_is_not_seen(node: Anvil) -> None:
    """Told in the documentation: it is in no transaction's own value. The scan goes on."""
    forwarder = Forwarder.deploy(node)
    async with open_stepped(node) as side:
        forwarder.forward(peer_address(), to=side.address, wei=ETHER)
        node.mine()
        node.send(peer_address(), to=side.address, value=2 * ETHER)
        await side.look(blocks=3)
        assert side.services.credited() == D(2)


async def test_the_finalized_tag_decides_where_it_is_asked_to() -> None:
    """Without a number of confirmations the chain's own finality counts: two blocks below the newest, here."""
    from tests.engines.ethereum.anvil import open_node

    with open_node("--slots-in-an-epoch", "1", automine=False) as node:
        async with open_stepped(node, confirmations=None) as side:
            payment = await side.pay()
            node.send(peer_address(), to=side.address, value=ETHER)
            await side.look(blocks=2)
            assert side.services.credits == {}
            await side.look(blocks=1)
            assert side.services.credited() == D(1)
            assert await side.verdict(payment)


async def test_a_running_engine_credits_by_itself(node: Anvil) -> None:
    """Nobody has to ask: it looks, credits, and tells how far it has come."""
    async with open_running(node) as side:
        node.send(peer_address(), to=side.address, value=ETHER)
        node.mine(3)
        await until(lambda: side.services.credited() == D(1))
        status = await side.engine.status()
        assert status["scan"]["scanned"] <= status["chain"]["final"] == node.height - 2


async def test_the_status_holds_the_look_the_scan_used(node: Anvil) -> None:
    """Only the scan looks, as if the watcher were slow: what it scanned is told beside the chain that it saw."""
    async with open_stepped(node) as side:
        await side.look()
        node.send(peer_address(), to=side.address, value=ETHER)
        node.mine(4)
        await side.engine.scan.scan_once()
        status = await side.engine.status()
        assert side.services.credited() == D(1)
        assert status["chain"] == {"head": node.height, "final": node.height - 2}
        assert (status["scan"]["scanned"], status["scan"]["lag_blocks"]) == (node.height - 2, 0)


async def test_an_older_look_that_is_answered_later_does_not_replace_the_status(node: Anvil) -> None:
    """The watcher's answer is held on its way until the scan has looked and credited; the status is the scan's."""
    held, scanned = anyio.Event(), anyio.Event()

    async def hold_the_first(call: Call, when: When) -> bool:
        if when == "after" and not held.is_set():
            held.set()
            await scanned.wait()
        return False

    async with open_proxy(node.url) as proxy, open_stepped(node, node_url=proxy.url) as side:
        await side.look()
        proxy.interrupt = hold_the_first
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(side.engine.watcher.watch_once)
            await held.wait()
            node.mine(3)
            await side.engine.scan.scan_once()
            scanned.set()
        status = await side.engine.status()
        assert status["scan"]["scanned"] == status["chain"]["final"] == node.height - 2


async def test_a_chain_shorter_than_its_confirmations_is_waited_for(node: Anvil) -> None:
    """Nothing is final yet, not even its first block, and nothing breaks; a payment in it is credited in its time."""
    node.send(peer_address(), to=dev_accounts()[3].address, value=1)
    height = int(node.rpc("eth_blockNumber"), 16)
    async with open_stepped(node, confirmations=height + 20) as side:
        sent = node.send(peer_address(), to=side.address, value=ETHER)
        await side.look(blocks=18)
        assert side.services.credits == {}
        await side.look(blocks=height + 20)
        assert side.services.credits == {f"{CHAIN_ID}:{sent}": ("bob", D(1))}
