"""Engines in every accepted form, as their authors would annotate them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, assert_type

from settlement_core import (
    AccountServices,
    ConnectEngine,
    Core,
    Payment,
    Pending,
    Quantity,
    Rejected,
    Settled,
    Store,
    Verdict,
    create_memory_store,
    open_connector,
    open_core,
    open_sqlite_store,
)
from settlement_core.values.commands import Enqueue, Entered, Overview
from settlement_core.values.records import AccountOverview


class Minimal:
    """Only settles."""

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay."""
        return amount


class Verifiable:
    """Can be asked what became of a payment."""

    async def prepare(self, account_id: str, amount: Decimal, attempt_id: str) -> Payment | None:
        """Build."""
        return Payment(amount, {"id": attempt_id})

    async def submit(self, payment: Payment) -> None:
        """Pay."""

    async def verify(self, payment: Payment) -> Verdict:
        """Look."""
        return Settled(payment.amount) if payment.amount else Rejected("nothing") if False else Pending(1.0)


async def by_coroutine(services: AccountServices) -> Minimal:
    """Return an engine."""
    answer = await services.send_message("alice", {"type": "hello"})
    assert_type(answer, Any)
    return Minimal()


@asynccontextmanager
async def by_context_manager(services: AccountServices) -> AsyncIterator[Verifiable]:
    """Yield an engine."""
    yield Verifiable()


def by_function(services: AccountServices) -> Minimal:
    """Return an engine."""
    return Minimal()


FACTORIES: list[ConnectEngine] = [by_coroutine, by_context_manager, by_function]


async def embed() -> None:
    """Open a core by hand."""
    store: Store = create_memory_store()
    store = open_sqlite_store("settlement.db")
    async with (
        open_connector("http://127.0.0.1:7771") as connector,
        open_core(by_coroutine, store=store, connector=connector) as core,
    ):
        assert_type(core, Core)
        assert_type(await core.request_settlement("alice", Decimal(1), "key"), Decimal)
        assert_type(await core.ask(Overview()), list[AccountOverview])
    assert_type(Quantity("1", 2).to_amount(), Decimal)


def results_are_typed(command: Enqueue) -> Entered | None:
    """A command knows its result."""
    return None
