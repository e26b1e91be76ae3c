"""A core that is not there: what an engine needs of one, kept in memory, and two engines joined by it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from settlement_core.engines.simulated import SimulatedEngine, SimulatedLedger, Transfer, simulated_engine
from settlement_core.values.errors import ConnectorError, UnknownAccount
from settlement_core.values.identifiers import check_account_id

D = Decimal

Answerer = Callable[[Any], Awaitable[Any]]


@dataclass
class FakeServices:
    """`AccountServices` in memory. `saved` is JSON text, so nothing is shared with the engine by accident."""

    accounts: set[str] = field(default_factory=lambda: {"them"})
    saved: dict[tuple[str | None, str], str] = field(default_factory=dict)
    credits: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    unattributed: dict[str, tuple[Decimal, Any]] = field(default_factory=dict)
    broken_key: str | None = None
    peer: Answerer | None = None
    _changed: anyio.Event = field(default_factory=anyio.Event)

    async def send_message(self, account_id: str, message: Any) -> Any:
        """Have the peer answer."""
        if self.peer is None:
            raise ConnectorError("nobody answers")
        return await self.peer(message)

    async def credit_settlement(self, account_id: str, amount: Decimal, settlement_id: str | None = None) -> None:
        """Credit an id once."""
        await anyio.lowlevel.checkpoint()
        if check_account_id(account_id) not in self.accounts:
            raise UnknownAccount(account_id)
        assert settlement_id is not None
        assert self.credits.setdefault(settlement_id, (account_id, amount)) == (account_id, amount)
        self._change()

    async def report_unattributed(self, settlement_id: str, amount: Decimal, details: Any) -> None:
        """Keep an id once."""
        await anyio.lowlevel.checkpoint()
        self.unattributed.setdefault(settlement_id, (amount, details))
        self._change()

    def try_settlement(self, account_id: str) -> None:
        """Not used by this engine."""

    async def load(self, key: str, account_id: str | None = None) -> Any:
        """Return what was saved."""
        await anyio.lowlevel.checkpoint()
        return json.loads(self.saved.get((account_id, key), "null"))

    async def save(self, key: str, value: Any, account_id: str | None = None) -> None:
        """Save, or break where the test wants it."""
        await anyio.lowlevel.checkpoint()
        if self.broken_key is not None and key.startswith(self.broken_key):
            raise RuntimeError(f"cannot save {key}")
        self.saved[account_id, key] = json.dumps(value)
        self._change()

    async def lead(self) -> None:
        """Nobody else is there."""

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something saved, credited or reported makes the condition true."""
        await self.until_for(10, condition)

    async def until_for(self, seconds: float, condition: Callable[[], bool]) -> None:
        """Wait for the condition; raise TimeoutError if it takes longer."""
        with anyio.fail_after(seconds):
            while not condition():
                await self._changed.wait()

    def credited(self) -> Decimal:
        """Return the sum of all credits."""
        return sum((amount for _, amount in self.credits.values()), D(0))


@dataclass
class Side:
    """One engine with its services."""

    services: FakeServices
    engine: SimulatedEngine


@asynccontextmanager
async def open_side(path: Path, address: str, services: FakeServices | None = None) -> AsyncIterator[Side]:
    """Run an engine for the block."""
    services = services or FakeServices()
    connect = simulated_engine(path, address, poll_interval_s=0.005, chance=lambda: 0.0)
    async with connect(services) as engine:
        yield Side(services, engine)


@asynccontextmanager
async def open_pair(path: Path) -> AsyncIterator[tuple[Side, Side]]:
    """Run alice's and bob's engine, each the other's peer in its account "them"."""
    async with open_side(path, "alice") as alice, open_side(path, "bob") as bob:
        join(alice, bob)
        join(bob, alice)
        yield alice, bob


def join(side: Side, peer: Side) -> None:
    """Carry a side's messages to its peer, as JSON."""

    async def answer(message: Any) -> Any:
        return json.loads(json.dumps(await peer.engine.handle_message("them", json.loads(json.dumps(message)))))

    side.services.peer = answer


def balances(ledger: SimulatedLedger) -> dict[str, Decimal]:
    """Return what everybody holds for good."""
    return {name: ledger.balance(name) for name in ("alice", "bob", "carol")}


def transfer(tx_id: str, amount: str = "1", *, memo: str = "", source: str = "alice", to: str = "bob") -> Transfer:
    """Return a transfer, from alice to bob unless told otherwise."""
    return Transfer(tx_id=tx_id, source=source, destination=to, amount=D(amount), memo=memo)
