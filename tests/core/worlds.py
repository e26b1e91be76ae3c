"""A small world for the core: engines on a ledger in memory, a connector with books, and ears for events."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel

from settlement_core.abc import (
    AccountServices,
    Acknowledged,
    CreditOutcome,
    Pending,
    Refused,
    Rejected,
    Settled,
    Unanswered,
    Verdict,
)
from settlement_core.core.config import CoreConfig
from settlement_core.core.core import Core, open_core
from settlement_core.stores.memory import create_memory_store
from settlement_core.values.amounts import total
from settlement_core.values.commands import History, Overview
from settlement_core.values.events import Event
from settlement_core.values.records import AccountOverview, Attempt, Payment

D = Decimal

new_store: Callable[[], Any] = create_memory_store
"""Makes the store of a world that is given none; `conftest.py` runs the same tests on another."""


@dataclass
class Ears:
    """Remembers events with their virtual times."""

    heard: list[tuple[float, Event]] = field(default_factory=list)

    def observe(self, event: Event) -> None:
        """Remember."""
        self.heard.append((anyio.current_time(), event))

    def of(self, kind: type[Event]) -> list[Any]:
        """Return the events of one type."""
        return [event for _, event in self.heard if isinstance(event, kind)]

    def times(self, kind: type[Event]) -> list[float]:
        """Return when events of one type happened."""
        return [when for when, event in self.heard if isinstance(event, kind)]


@dataclass
class FakeConnector:
    """Credits each idempotency key once. `answers` scripts what goes wrong, then everything works."""

    answers: list[CreditOutcome] = field(default_factory=list)
    credited: dict[str, Decimal] = field(default_factory=dict)
    offers: list[tuple[float, str, str, Decimal]] = field(default_factory=list)
    applies_before_failing: bool = True
    takes_s: float = 0.0

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Credit, then answer as scripted."""
        self.offers.append((anyio.current_time(), account_id, idempotency_key, amount))
        await anyio.sleep(self.takes_s)
        answer = self.answers.pop(0) if self.answers else Acknowledged()
        if isinstance(answer, Acknowledged) or (isinstance(answer, Unanswered) and self.applies_before_failing):
            first = self.credited.setdefault(f"{account_id} {idempotency_key}", amount)
            if first != amount:
                answer = Refused(f"key {idempotency_key!r} came with {first:f} first, now with {amount:f}")
        await anyio.lowlevel.checkpoint()
        return answer

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Echo."""
        await anyio.lowlevel.checkpoint()
        return message

    def total(self) -> Decimal:
        """Return everything credited."""
        return total(self.credited.values())


@dataclass
class MinimalEngine:
    """Pays at once; `script` says what the next calls do instead."""

    script: list[Callable[[Decimal], Awaitable[Any]]] = field(default_factory=list)
    calls: list[tuple[float, str, Decimal]] = field(default_factory=list)
    paid: list[Decimal] = field(default_factory=list)
    takes_s: float = 0.0

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay."""
        self.calls.append((anyio.current_time(), account_id, amount))
        if self.script:
            settled = await self.script.pop(0)(amount)
        else:
            await anyio.sleep(self.takes_s)
            settled = amount
        self.paid.append(settled)
        await anyio.lowlevel.checkpoint()
        return settled  # type: ignore[no-any-return]


@dataclass
class MemoryLedger:
    """Final after `final_after_s`; a transaction id applies at most once."""

    transactions: dict[str, tuple[float, Decimal]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    submissions: list[tuple[float, str]] = field(default_factory=list)
    final_after_s: float = 0.0
    reject_next: int = 0

    def total(self) -> Decimal:
        """Return everything paid."""
        return total(amount for _, amount in self.transactions.values())


@dataclass
class VerifiableEngine:
    """Pays on a `MemoryLedger`.

    `fail` names calls that raise once: "prepare", "submit-before", "submit-after" or "verify"; with "unworthy" the
    next `prepare` finds the money not worth paying.
    """

    ledger: MemoryLedger
    fail: list[str] = field(default_factory=list)
    largest: Decimal | None = None
    prepared: list[tuple[float, str, Decimal]] = field(default_factory=list)

    def _may_fail(self, where: str) -> None:
        if where in self.fail:
            self.fail.remove(where)
            raise RuntimeError(f"{where} broke")

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
        """Build a payment."""
        self.prepared.append((anyio.current_time(), attempt_id, amount))
        await anyio.lowlevel.checkpoint()
        self._may_fail("prepare")
        if "unworthy" in self.fail:
            self.fail.remove("unworthy")
            return None
        amount = amount if self.largest is None else min(amount, self.largest)
        return Payment(amount, {"tx": attempt_id})

    async def submit(self, payment: Payment) -> None:
        """Put the payment on the ledger, once."""
        tx = _tx(payment)
        await anyio.lowlevel.checkpoint()
        self._may_fail("submit-before")
        self.ledger.submissions.append((anyio.current_time(), tx))
        if self.ledger.reject_next:
            self.ledger.reject_next -= 1
            self.ledger.refused[tx] = "nonce taken"
        if tx not in self.ledger.refused:
            self.ledger.transactions.setdefault(tx, (anyio.current_time(), payment.amount))
        await anyio.lowlevel.checkpoint()
        self._may_fail("submit-after")

    async def verify(self, payment: Payment) -> Verdict:
        """Look the payment up."""
        tx = _tx(payment)
        await anyio.lowlevel.checkpoint()
        self._may_fail("verify")
        if tx in self.ledger.refused:
            return Rejected(self.ledger.refused[tx])
        if tx not in self.ledger.transactions:
            return Pending(1.0, resubmit=True)
        when, amount = self.ledger.transactions[tx]
        left = when + self.ledger.final_after_s - anyio.current_time()
        return Pending(left) if left > 0 else Settled(amount)


def _tx(payment: Payment) -> str:
    reference = payment.reference
    assert isinstance(reference, dict)
    return str(reference["tx"])


@dataclass
class World:
    """One peer: its store and ears survive restarts of the core, as do the engine's ledger and the connector."""

    engine: Any
    store: Any = field(default_factory=lambda: new_store())  # noqa: PLW0108 - as it is then
    connector: FakeConnector = field(default_factory=FakeConnector)
    config: CoreConfig = field(default_factory=CoreConfig)
    ears: Ears = field(default_factory=Ears)
    services: list[AccountServices] = field(default_factory=list)

    async def connect(self, services: AccountServices) -> Any:
        """Make the engine, as a coroutine does."""
        self.services.append(services)
        return self.engine

    @asynccontextmanager
    async def core(self, **options: Any) -> AsyncIterator[Core]:
        """Run one life of the core."""
        async with open_core(
            self.connect,
            store=self.store,
            connector=self.connector,
            config=self.config,
            observer=self.ears,
            now=lambda: 1_000_000.0 + anyio.current_time(),
            chance=lambda: 0.0,
            **options,
        ) as core:
            yield core

    def account(self, account_id: str = "alice") -> AccountOverview:
        """Return the books of an account, having checked the equation of both directions."""
        (overview,) = self.store.apply([Overview(account_id=account_id)])[0]
        for t in (overview.outgoing, overview.incoming):
            assert t.entered == total([t.queued, t.open, t.settled, t.parked])
        assert isinstance(overview, AccountOverview)
        return overview

    def attempts(self) -> list[Attempt]:
        """Return all attempts, oldest first."""
        found: list[Attempt] = self.store.apply([History(limit=10_000)])[0]
        return found

    def crashed(self) -> World:
        """Return the world as it would be if everything but stores, ledger and connector were gone now."""
        other = copy.deepcopy(World(self.engine, self.store, self.connector, self.config))
        other.connector.answers = []
        return other


async def until(condition: Callable[[], bool], *, within_s: float = 600.0, every_s: float = 0.01) -> None:
    """Wait in virtual time until the condition holds."""
    with anyio.fail_after(within_s):
        while not condition():
            await anyio.sleep(every_s)
