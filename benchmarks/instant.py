"""An engine that settles at once: what is measured is the framework around it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import anyio
import anyio.abc

from settlement_core import (
    AccountServices,
    Core,
    LifespanApp,
    collect_garbage_rarely,
    open_connector,
    open_core,
    open_store,
)

__all__ = ["app", "connect_engine", "connect_slow_engine"]

AT_ONCE = 64

PAID = Decimal("1.5")
"""Every payment that comes in."""


class InstantEngine:
    """Says of everything that it is paid, and on request that payments have come in."""

    def __init__(self, services: AccountServices, tasks: anyio.abc.TaskGroup) -> None:
        self._services = services
        self._tasks = tasks
        self._numbers = itertools.count()
        self._crediting = 0
        self._credited = 0
        self._settled = Decimal(0)

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Return all of it."""
        self._settled += amount
        return amount

    async def handle_message(self, account_id: str, message: Any) -> Any:
        """Begin to credit payments for `credit_s` seconds, if so told; answer how much was done until now."""
        if "credit_s" in message:
            self._crediting = AT_ONCE
            for _ in range(AT_ONCE):
                self._tasks.start_soon(self._credit, message["credit_s"], message["accounts"])
        return {"settled": float(self._settled), "credited": self._credited, "crediting": self._crediting}

    async def _credit(self, seconds: float, accounts: int) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await self._services.credit_settlement(f"account-{next(self._numbers) % accounts}", PAID)
            self._credited += 1
        self._crediting -= 1


@asynccontextmanager
async def connect_engine(services: AccountServices) -> AsyncIterator[InstantEngine]:
    """Give the engine."""
    async with anyio.create_task_group() as tasks:
        yield InstantEngine(services, tasks)
        tasks.cancel_scope.cancel()


class SlowEngine:
    """Takes for ever."""

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Wait to be cut."""
        await anyio.sleep_forever()
        return amount


def connect_slow_engine(services: AccountServices) -> SlowEngine:
    """Return an engine that keeps every account at work."""
    return SlowEngine()


@asynccontextmanager
async def _open_core() -> AsyncIterator[Core]:
    store = open_store(os.environ["SETTLEMENT_STORE"])
    try:
        async with (
            open_connector(os.environ["SETTLEMENT_CONNECTOR_URL"]) as connector,
            open_core(connect_engine, store=store, connector=connector) as core,
        ):
            collect_garbage_rarely()
            yield core
    finally:
        store.close()


app = LifespanApp(_open_core)
"""For uvicorn and other ASGI servers: `uvicorn benchmarks.instant:app`."""
