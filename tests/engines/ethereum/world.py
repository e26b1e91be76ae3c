"""Peers without a core: their services kept in memory, and channels that carry, or betray, what they say."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio.lowlevel
import pytest

from settlement_core.engines.ethereum.config import SigningKey
from settlement_core.engines.ethereum.handshake import step_of
from settlement_core.engines.ethereum.peers import PeerError, Peers
from settlement_core.values.errors import ConnectorError
from tests.engines.ethereum.anvil import CHAIN_ID, dev_accounts

NOW = 1_790_000_000.0

Carry = Callable[[Any], Awaitable[Any]]


class Crash(BaseException):
    """The process ends here."""


@dataclass
class PeerServices:
    """What peers need of `AccountServices`. `saved` is JSON text, so that nothing is shared by accident.

    `lives_for` is how many more saves are made before the process crashes; None is for ever.
    """

    saved: dict[tuple[str | None, str], str] = field(default_factory=dict)
    channels: dict[str, Carry] = field(default_factory=dict)
    nudged: list[str] = field(default_factory=list)
    lives_for: int | None = None

    async def send_message(self, account_id: str, message: Any) -> Any:
        """Have the account's channel carry it."""
        await anyio.lowlevel.checkpoint()
        if account_id not in self.channels:
            raise ConnectorError("nobody answers")
        return json.loads(json.dumps(await self.channels[account_id](json.loads(json.dumps(message)))))

    def try_settlement(self, account_id: str) -> None:
        """Remember that the account was rung for."""
        self.nudged.append(account_id)

    async def load(self, key: str, account_id: str | None = None) -> Any:
        """Return what was saved."""
        await anyio.lowlevel.checkpoint()
        return json.loads(self.saved.get((account_id, key), "null"))

    async def save(self, key: str, value: Any, account_id: str | None = None) -> None:
        """Save, or crash."""
        await anyio.lowlevel.checkpoint()
        if self.lives_for is not None:
            if self.lives_for == 0:
                raise Crash
            self.lives_for -= 1
        self.saved[account_id, key] = json.dumps(value)

    async def lead(self) -> None:
        """Return at once: nobody else runs this engine."""

    async def credit_settlement(self, account_id: str, amount: Decimal, settlement_id: str | None = None) -> None:
        """Never asked by peers."""
        raise AssertionError

    async def report_unattributed(self, settlement_id: str, amount: Decimal, details: Any) -> None:
        """Never asked by peers."""
        raise AssertionError


@dataclass
class Somebody:
    """One engine's peers, with a key of the node's accounts; `time_s` is its clock."""

    number: int
    chain_id: int = CHAIN_ID
    token: str | None = None
    require_strong: bool = False
    services: PeerServices = field(default_factory=PeerServices)
    time_s: float = NOW

    def __post_init__(self) -> None:
        self.key = SigningKey(dev_accounts()[self.number].key)
        self.restart()

    def restart(self) -> None:
        """Begin a new life with what was saved."""
        self.services.lives_for = None
        self.peers = Peers(
            self.services,
            self.key,
            chain_id=self.chain_id,
            token=self.token,
            require_strong_handshake=self.require_strong,
            now=lambda: self.time_s,
        )

    @property
    def address(self) -> str:
        """Return its address."""
        address: str = self.key.address
        return address

    def listens(self, account_id: str) -> Carry:
        """Return what carries a message to it, as its account's peer."""

        async def carry(message: Any) -> Any:
            return await self.peers.handle_message(account_id, message)

        return carry


def join(one: Somebody, account_with_other: str, other: Somebody, account_with_one: str) -> None:
    """Make two accounts peers."""
    one.services.channels[account_with_other] = other.listens(account_with_one)
    other.services.channels[account_with_one] = one.listens(account_with_other)


def open_pair(**facts: Any) -> tuple[Somebody, Somebody]:
    """Return alice, whose account "bob" is the peer of bob's account "alice"; `facts` hold for both."""
    alice, bob = Somebody(0, **facts), Somebody(1, **facts)
    join(alice, "bob", bob, "alice")
    return alice, bob


def only_rust(somebody: Somebody, account_id: str) -> Carry:
    """Return what carries a message to a peer that knows the Rust engine's handshake and no other."""

    async def carry(message: Any) -> Any:
        if "type" in message:
            raise ConnectorError("F00: Settlement engine rejected request with error code: 400 Bad Request")
        return await somebody.peers.handle_message(account_id, message)

    return carry


async def known(somebody: Somebody, account_id: str) -> tuple[str | None, bool]:
    """Return where an account is paid, and whether what comes from there is credited to it."""
    address = await somebody.peers.address_of(account_id)
    return address, address is not None and await somebody.peers.account_of(address) == account_id


def steps(seen: list[Any]) -> list[str]:
    """Return which of the messages were our own handshake's, and "" for each other one."""
    return [step_of(message) for message in seen]


def overhear(somebody: Somebody, account_id: str) -> list[Any]:
    """Return a list of all that somebody will say to the account's peer."""
    said: list[Any] = []
    carry = somebody.services.channels[account_id]

    async def listen(message: Any) -> Any:
        said.append(message)
        return await carry(message)

    somebody.services.channels[account_id] = listen
    return said


async def refused(asker: Somebody, account_id: str, reason: str) -> None:
    """Have somebody ask; it must fail for this reason, with nobody paid."""
    with pytest.raises(PeerError, match=reason):
        await asker.peers.set_up(account_id)
    assert await asker.peers.address_of(account_id) is None
