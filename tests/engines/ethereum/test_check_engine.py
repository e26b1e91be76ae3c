"""The engine keeps every promise that `check_engine` asks of any engine: on a real node, in a real token."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from eth_utils.crypto import keccak

from settlement_core.abc import AccountServices
from settlement_core.engines.ethereum import EthereumEngine, SigningKey, ethereum_engine
from settlement_core.engines.ethereum.blocks import TRANSFER
from settlement_core.engines.ethereum.chain import address_topic
from settlement_core.engines.ethereum.peers import Peers
from settlement_core.engines.ethereum.rpc import NodeUnavailable
from settlement_core.testing.engine_check import PROMISES, check_engine
from tests.engines.ethereum.anvil import CHAIN_ID, Anvil, dev_accounts, open_node, send_signed
from tests.engines.ethereum.contracts import Mood, Token, call_data, deploy_token
from tests.engines.ethereum.rig import CONFIRMATIONS, config_of
from tests.engines.ethereum.world import PeerServices

pytestmark = pytest.mark.anyio

OWNER, US = dev_accounts()[0].address, dev_accounts()[1].address


@dataclass
class TokenOnAnvil:
    """A node with a token as `check_engine` wants it: `LedgerControls` with every button but those of replicas."""

    node: Anvil
    token: Token
    peers: dict[str, Peers] = field(default_factory=dict)
    losing: str = ""
    rejecting: bool = False

    @asynccontextmanager
    async def connect(self, services: AccountServices) -> AsyncIterator[EthereumEngine]:
        """Make the engine, and stand between it and its node."""
        async with ethereum_engine(config_of(self.node, self.token))(services) as engine:
            rpc = engine._chain.rpc
            post = rpc._post

            async def meddle(content: Any) -> Any:
                if not (isinstance(content, dict) and content["method"] == "eth_sendRawTransaction"):
                    return await post(content)
                losing, self.losing = self.losing, ""
                if losing == "request":
                    raise NodeUnavailable("the request was lost")
                rejecting, self.rejecting = self.rejecting, False
                if rejecting:
                    self._set_mood(Mood.REVERTING)
                answer = await post(content)
                if rejecting:
                    self.node.mine()
                    self._set_mood(Mood.HONEST)
                if losing == "reply":
                    raise NodeUnavailable("the reply was lost")
                return answer

            rpc._post = meddle  # type: ignore[method-assign]
            yield engine

    def _set_mood(self, mood: Mood) -> None:
        self.token.set_mood(mood)
        self.node.mine()

    async def paid(self, account_id: str) -> Decimal:
        """Return what final blocks moved to the peer."""
        criteria = {
            "fromBlock": "0x0",
            "toBlock": hex(max(self.node.height - CONFIRMATIONS + 1, 0)),
            "address": self.token.address,
            "topics": [TRANSFER, address_topic(US), address_topic(_key(account_id).address)],
        }
        logs = self.node.rpc("eth_getLogs", criteria)
        return Decimal(sum(int(log["data"], 16) for log in logs)).scaleb(-self.token.decimals)

    async def make_final(self) -> None:
        """Make blocks."""
        self.node.mine(CONFIRMATIONS)

    async def answer(self, account_id: str, message: Any) -> Any:
        """Be the peer of an account, with a key of its own."""
        if account_id not in self.peers:
            self.peers[account_id] = Peers(
                PeerServices(), _key(account_id), chain_id=CHAIN_ID, token=self.token.address
            )
        return await self.peers[account_id].handle_message("them", message)

    async def lose_next_request(self) -> None:
        """Break the way there."""
        self.losing = "request"

    async def lose_next_reply(self) -> None:
        """Break the way back."""
        self.losing = "reply"

    async def reject_next(self) -> None:
        """Have the next payment's block find the token reverting."""
        self.rejecting = True

    async def reorganise(self) -> None:
        """Replace what is not final, and forget what waits."""
        self.node.drop_all()
        self.node.reorganise(CONFIRMATIONS - 1)

    async def pay_us(self, account_id: str, amount: Decimal) -> None:
        """Have the peer pay."""
        self._pay_from(_key(account_id), amount)

    async def pay_us_as_stranger(self, amount: Decimal) -> None:
        """Have somebody pay."""
        self._pay_from(SigningKey(dev_accounts()[9].key), amount)

    def _pay_from(self, key: SigningKey, amount: Decimal) -> None:
        units = int(amount.scaleb(self.token.decimals))
        self.node.set_balance(key.address, 10**18)
        self.token.transfer(OWNER, to=key.address, units=units)
        self.node.mine()
        data = call_data("transfer(address,uint256)", US, units)
        send_signed(self.node, key, to=self.token.address, data=data)
        self.node.mine(CONFIRMATIONS)


def _key(account_id: str) -> SigningKey:
    return SigningKey(keccak(account_id.encode()))


@pytest.fixture(scope="module")
def chain() -> Iterator[TokenOnAnvil]:
    """Give one node for all trials, on which we have tokens: accounts are fresh in each."""
    with open_node(automine=False) as node:
        token = deploy_token(node, decimals=6)
        token.transfer(OWNER, to=US, units=10**12)
        node.mine(10)
        yield TokenOnAnvil(node, token)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_every_promise_is_kept(chain: TokenOnAnvil) -> None:
    """Cancelled, crashed, shut down and unheard at moments of all its calls, on a chain that loses and reorders."""

    @asynccontextmanager
    async def open_ledger() -> AsyncIterator[TokenOnAnvil]:
        chain.losing, chain.rejecting = "", False
        # nothing of an earlier trial may still arrive
        chain.node.drop_all()
        chain.node.mine(CONFIRMATIONS)
        yield chain

    report = await check_engine(open_ledger, stride=int(os.environ.get("CHECK_STRIDE", "6")))
    replicas = {promise.name for promise in PROMISES if "catch_up" in promise.needs}
    assert report.skipped.keys() == replicas
    assert set(report.held) == {promise.name for promise in PROMISES} - replicas
