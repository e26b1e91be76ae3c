"""The engine keeps every promise that `check_engine` asks of any engine: on a real node, in a real token."""

from __future__ import annotations

import os
import random
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


@dataclass(frozen=True)
class Replica:
    """A node that holds the blocks from `oldest` to `newest` only, and answers its share of the requests."""

    share: float
    oldest: int = 0
    newest: int = 10**9

    def move(self, content: Any) -> Any:
        """Return a request, or a batch, about the newest block that the replica has."""
        if isinstance(content, list):
            return [self.move(call) for call in content]
        newest = {"latest", "pending"} if self.newest < 10**9 else set()
        params = [hex(self.newest) if isinstance(p, str) and p in newest else p for p in content["params"]]
        return {**content, "params": params}

    def limit(self, content: Any, said: Any) -> Any:
        """Return an answer, or a batch of them, without what the replica does not hold."""
        if isinstance(content, list):
            by_id = {one["id"]: one for one in said}
            return [self.limit(call, by_id[call["id"]]) for call in content]
        about = self._block_of(content, said.get("result"))
        return said if about is None or self.oldest <= about <= self.newest else {**said, "result": None}

    def _block_of(self, call: Any, result: Any) -> int | None:
        """Return the block that a call asks for, or that its answer is drawn from."""
        if call["method"] in {"eth_getBlockByNumber", "eth_getBlockReceipts"}:
            asked = call["params"][0]
            return int(asked, 16) if asked.startswith("0x") else None
        if call["method"] in {"eth_getTransactionReceipt", "eth_getTransactionByHash"} and result:
            return None if result["blockNumber"] is None else int(result["blockNumber"], 16)
        return None


@dataclass
class TokenOnAnvil:
    """A node with a token as `check_engine` wants it: `LedgerControls` with every button."""

    node: Anvil
    token: Token
    peers: dict[str, Peers] = field(default_factory=dict)
    losing: str = ""
    rejecting: bool = False
    replica: Replica | None = None

    @asynccontextmanager
    async def connect(self, services: AccountServices) -> AsyncIterator[EthereumEngine]:
        """Make the engine, and stand between it and its node."""
        async with ethereum_engine(config_of(self.node, self.token))(services) as engine:
            rpc = engine._chain.rpc
            post = rpc._post

            async def meddle(content: Any) -> Any:
                if not (isinstance(content, dict) and content["method"] == "eth_sendRawTransaction"):
                    replica = self.replica
                    if replica is None or random.random() >= replica.share:
                        return await post(content)
                    return replica.limit(content, await post(replica.move(content)))
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

    async def fall_behind(self, share: float) -> None:
        """Have a part of the look-ups answered by a replica that gets no more blocks."""
        self.replica = Replica(share, newest=self.node.height)

    async def prune(self, share: float) -> None:
        """Have a part of the look-ups answered by a replica that has dropped all blocks until now."""
        self.replica = Replica(share, oldest=self.node.height + 1)

    async def catch_up(self) -> None:
        """Ask no replica."""
        self.replica = None

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
        chain.losing, chain.rejecting, chain.replica = "", False, None
        # nothing of an earlier trial may still arrive
        chain.node.drop_all()
        chain.node.mine(CONFIRMATIONS)
        yield chain

    report = await check_engine(open_ledger, stride=int(os.environ.get("CHECK_STRIDE", "6")))
    assert not report.skipped
    assert set(report.held) == {promise.name for promise in PROMISES}
