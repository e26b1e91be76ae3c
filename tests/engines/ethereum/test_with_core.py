"""The engine under a real core: what connectors ask for is paid to the wei, and what is finer waits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import pytest

from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core, open_core
from settlement_core.engines.ethereum import ethereum_engine
from settlement_core.engines.ethereum.rpc import Rpc
from settlement_core.stores.memory import create_memory_store
from settlement_core.values.amounts import Quantity
from settlement_core.values.backoff import Backoff
from settlement_core.values.commands import Overview
from settlement_core.values.records import AccountOverview
from tests.core.worlds import Ears, FakeConnector
from tests.engines.ethereum.anvil import Anvil, dev_accounts
from tests.engines.ethereum.contracts import deploy_token
from tests.engines.ethereum.rig import ETHER, D, config_of, peer_address, until
from tests.engines.ethereum.world import Somebody

pytestmark = pytest.mark.anyio

SOON = Backoff(first_s=0.02, max_s=0.05)


@dataclass
class PeerConnector(FakeConnector):
    """A connector whose other side is bob."""

    peer: Somebody = field(default_factory=lambda: Somebody(2))

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Have bob answer."""
        return json.dumps(await self.peer.peers.handle_message("them", json.loads(message))).encode()


@dataclass
class Life:
    """One core's life over a store that survives it."""

    core: Core
    node: Anvil

    async def owe(self, quantity: str, key: str) -> None:
        """Have the connector ask for a settlement such as "9@19"."""
        amount, scale = quantity.split("@")
        await self.core.request_settlement("bob", Quantity(amount, int(scale)).to_amount(), key)

    async def books(self) -> AccountOverview:
        """Return bob's account."""
        (found,) = await self.core.ask(Overview(account_id="bob"))
        return found

    async def mine_until_settled(self, amount: str) -> None:
        """Make blocks until so much is settled."""

        async def settled() -> bool:
            self.node.mine(1)
            return (await self.books()).outgoing.settled == D(amount)

        await until(settled)


@asynccontextmanager
async def open_life(node: Anvil, store: Any, connector: PeerConnector, **settings: Any) -> AsyncIterator[Life]:
    """Run a core with the engine for the block."""
    config = CoreConfig(settle_backoff=SOON, credit_backoff=SOON, shutdown_s=5.0)
    connect = ethereum_engine(config_of(node, **settings))
    async with open_core(connect, store=store, connector=connector, config=config, observer=Ears()) as core:

        async def carry(message: Any) -> Any:
            return json.loads(await core.handle_message("bob", json.dumps(message).encode()))

        connector.peer.services.channels["them"] = carry
        await core.create_account("bob")
        yield Life(core, node)


async def test_amounts_finer_than_a_wei_wait_until_they_add_up(node: Anvil) -> None:
    """9 at scale 19, 11 at 20 and 100 at 9 are one transaction of 100000000001 wei; a hundredth of a wei is left."""
    before = node.balance(peer_address())
    # not worth its fee alone, the first wei waits for the others
    async with open_life(node, create_memory_store(), PeerConnector(), minimum=D("0.000000001")) as life:
        await life.owe("9@19", "first")
        await life.owe("11@20", "second")
        await until(lambda: "not worth paying yet" in "".join(lane.last_error for lane in life.core.lanes()))
        assert node.pool() == []
        await life.owe("100@9", "third")
        await life.mine_until_settled("0.000000100000000001")
        assert node.nonce(dev_accounts()[1].address) == 1
        outgoing = (await life.books()).outgoing
        assert outgoing.queued == Decimal("1E-20")
        assert outgoing.open == 0
    assert node.balance(peer_address()) - before == 100_000_000_001


async def test_a_deposit_reaches_the_connector_to_the_wei(node: Anvil) -> None:
    """The connector is told 100000000001 at scale 18, once."""
    connector = PeerConnector()
    async with open_life(node, create_memory_store(), connector) as life:

        async def ready() -> bool:
            return (await life.books()).step is None

        await until(ready)
        node.send(peer_address(), to=dev_accounts()[1].address, value=100_000_000_001)
        node.mine(3)
        await until(lambda: connector.total() == D("0.000000100000000001"))
        assert [Quantity.of(amount).to_json() for amount in connector.credited.values()] == [
            {"amount": "100000000001", "scale": 18}
        ]


async def test_lives_that_end_at_any_call_pay_once(node: Anvil, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many lives of core and engine over one store, each cut as it calls the node for the nth time.

    Whatever was under way then, in the end all that is owed is paid, and once.
    """
    token = deploy_token(node, decimals=6, owner=dev_accounts()[1].address)
    store, connector = create_memory_store(), PeerConnector(peer=Somebody(2, token=token.address))
    post = Rpc._post
    calls_left, scopes = 0, [anyio.CancelScope()]

    async def counted(rpc: Rpc, content: Any) -> Any:
        nonlocal calls_left
        calls_left -= 1
        if calls_left == 0:
            scopes[-1].cancel()
        return await post(rpc, content)

    monkeypatch.setattr(Rpc, "_post", counted)
    for number in range(2, 30):
        calls_left = number
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            async with open_life(node, store, connector, token=token) as life:
                await life.owe(f"{number}@0", f"key-{number}")
                node.mine(1)
                await anyio.sleep_forever()
    async with open_life(node, store, connector, token=token) as life:
        await life.owe("1@0", "last")
        asked = (await life.books()).outgoing.entered
        await life.mine_until_settled(f"{asked:f}")
        outgoing = (await life.books()).outgoing
        assert (outgoing.queued, outgoing.open, outgoing.parked) == (D(0), D(0), D(0))
    assert token.balance(peer_address()) == asked * 10**6


async def test_money_queued_for_lack_of_funds_is_paid_once_there_are_some(node: Anvil) -> None:
    """The account rests in long back-off; the engine rings for it as soon as the key has the money."""
    node.set_balance(dev_accounts()[1].address, ETHER)
    store = create_memory_store()
    async with open_life(node, store, PeerConnector()) as life:
        await life.owe("5@0", "first")
        await until(lambda: bool(life.core.lanes()) and "lacks funds" in life.core.lanes()[0].last_error)
        assert (await life.books()).outgoing.settled == 0
        node.set_balance(dev_accounts()[1].address, 10 * ETHER)
        await life.mine_until_settled("5")
