"""One engine on a real node, its services in memory, and a peer that only has an address.

A side that is *stepped* looks at the chain when the test says so, and never else; one that *runs* does it by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel

from settlement_core.abc import Pending, Verdict
from settlement_core.engines.ethereum import EthereumConfig, EthereumEngine, SigningKey, ethereum_engine
from settlement_core.engines.ethereum.engine import _open
from settlement_core.engines.ethereum.rpc import Call, open_rpc
from settlement_core.values.amounts import total
from settlement_core.values.errors import IdempotencyConflict, SuspenseConflict, UnknownAccount
from settlement_core.values.records import Payment
from tests.engines.ethereum.anvil import CHAIN_ID, Anvil, dev_accounts
from tests.engines.ethereum.contracts import Token
from tests.engines.ethereum.world import PeerServices, Somebody

D = Decimal

ETHER = 10**18

GWEI = 10**9

CONFIRMATIONS = 3

PATIENCE_S = 30.0
"""Seconds that something may take on a busy machine; nothing is asserted about less."""


@dataclass
class EngineServices(PeerServices):
    """All of `AccountServices`, as the core's: an id credits once, and never with another amount."""

    accounts: set[str] = field(default_factory=lambda: {"bob"})
    credits: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    unattributed: dict[str, tuple[Decimal, Any]] = field(default_factory=dict)

    async def credit_settlement(self, account_id: str, amount: Decimal, settlement_id: str | None = None) -> None:
        """Credit an id once."""
        await anyio.lowlevel.checkpoint()
        assert settlement_id is not None
        if account_id not in self.accounts:
            raise UnknownAccount(account_id)
        first, known = self.credits.setdefault(settlement_id, (account_id, amount))
        assert first == account_id, "one payment is never credited to two accounts"
        if known != amount:
            raise IdempotencyConflict(account_id, settlement_id, first=known, now=amount)

    async def report_unattributed(self, settlement_id: str, amount: Decimal, details: Any) -> None:
        """Keep an id once."""
        await anyio.lowlevel.checkpoint()
        if self.unattributed.setdefault(settlement_id, (amount, details))[0] != amount:
            raise SuspenseConflict(settlement_id, "came with another amount")

    def credited(self, account_id: str = "bob") -> Decimal:
        """Return the sum of an account's credits."""
        return total(amount for account, amount in self.credits.values() if account == account_id)


@dataclass
class Side:
    """An engine with its services on a node."""

    node: Anvil
    engine: EthereumEngine
    services: EngineServices

    @property
    def address(self) -> str:
        """Return where it pays from, and is paid."""
        return self.engine._config.key.address

    async def look(self, *, blocks: int = 0) -> None:
        """Have the node make some blocks, and then a stepped engine look at them."""
        if blocks:
            self.node.mine(blocks)
        await self.engine.watcher.watch_once()
        await self.engine.scan.scan_once()

    async def pay(self, amount: str = "7", *, attempt: str = "attempt-1", account: str = "bob") -> Payment:
        """Prepare and submit a payment."""
        payment = await self.prepare(amount, attempt=attempt, account=account)
        await self.engine.submit(payment)
        return payment

    async def prepare(self, amount: str = "7", *, attempt: str = "attempt-1", account: str = "bob") -> Payment:
        """Prepare a payment, as it will be kept: through JSON."""
        payment = await self.engine.prepare(account, D(amount), attempt)
        assert payment is not None
        return payment

    async def verdict(self, payment: Payment) -> Verdict:
        """Return the verdict once it is final."""
        with anyio.fail_after(PATIENCE_S):
            while isinstance(verdict := await self.engine.verify(payment), Pending):
                await anyio.sleep(0.01)
        return verdict


def nonce_of(payment: Payment) -> int:
    """Return the nonce a payment uses."""
    reference: Any = payment.reference
    nonce: int = reference["nonce"]
    return nonce


def hash_of(payment: Payment) -> str:
    """Return the hash of the transaction first signed for a payment."""
    reference: Any = payment.reference
    tx_hash: str = reference["transactions"][0]["hash"]
    return tx_hash


def peer_address(number: int = 2) -> str:
    """Return the address of bob, who is one of the node's accounts."""
    return dev_accounts()[number].address


def config_of(node: Anvil, token: Token | str | None = None, **settings: Any) -> EthereumConfig:
    """Return settings that suit a test: three confirmations, and a look every hundredth of a second."""
    facts: dict[str, Any] = {
        "node_url": node.url,
        "chain_id": CHAIN_ID,
        "key": SigningKey(dev_accounts()[1].key),
        "token": token.address if isinstance(token, Token) else token,
        "confirmations": CONFIRMATIONS,
        "poll_interval_s": 0.01,
        "timeout_s": 10.0,
    }
    return EthereumConfig(**{**facts, **settings})


@asynccontextmanager
async def open_stepped(
    node: Anvil, services: EngineServices | None = None, *, token: Token | str | None = None, **settings: Any
) -> AsyncIterator[Side]:
    """Give an engine that looks at the chain only when told to."""
    config = config_of(node, token, **settings)
    services = services or EngineServices()
    async with open_rpc(config.node_url, timeout_s=config.timeout_s) as rpc:
        side = Side(node, await _open(config, services, rpc), services)
        await bind(side, "bob", 2)
        yield side


@asynccontextmanager
async def open_running(
    node: Anvil, services: EngineServices | None = None, *, token: Token | str | None = None, **settings: Any
) -> AsyncIterator[Side]:
    """Give an engine that works by itself."""
    services = services or EngineServices()
    async with ethereum_engine(config_of(node, token, **settings))(services) as engine:
        side = Side(node, engine, services)
        await bind(side, "bob", 2)
        yield side


Change = Callable[[Any, Call], Any]


def lie(side: Side, method: str, change: Change, *, times: int = 10**9) -> Callable[[], None]:
    """Have the node's answers to a method changed, so many of them; return what ends that."""
    rpc = side.engine._chain.rpc
    left, ask = [times], rpc.try_all

    async def try_all(calls: Sequence[Call]) -> list[Any]:
        answers = await ask(calls)
        for number, call in enumerate(calls):
            if call.method == method and left[0] and answers[number] is not None:
                changed = change(answers[number], call)
                left[0] -= changed != answers[number]
                answers[number] = changed
        return answers

    def end() -> None:
        left[0] = 0

    rpc.try_all = try_all  # type: ignore[method-assign]
    return end


async def bind(side: Side, account_id: str, number: int) -> None:
    """Have the handshake between the engine and one of the node's accounts done, for one of the engine's accounts."""
    if await side.engine._peers.address_of(account_id) is not None:
        return
    peer = Somebody(number, chain_id=side.engine._config.chain_id, token=side.engine._config.token)
    peer.services.channels["them"] = lambda message: side.engine.handle_message(account_id, message)
    side.services.channels[account_id] = peer.listens("them")
    await side.engine.setup_account(account_id)
    assert await side.engine._peers.address_of(account_id) == dev_accounts()[number].address


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition holds."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await anyio.sleep(0.005)
