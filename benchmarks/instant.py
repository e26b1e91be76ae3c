"""An engine that settles at once: what is measured is the framework around it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from settlement_core import AccountServices, Core, LifespanApp, open_connector, open_core, open_store

__all__ = ["app", "connect_engine"]


class InstantEngine:
    """Says of everything that it is paid."""

    def __init__(self) -> None:
        self.settled = Decimal(0)

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Return all of it."""
        self.settled += amount
        return amount

    async def handle_message(self, account_id: str, message: Any) -> Any:
        """Answer how much was settled."""
        return {"settled": float(self.settled)}


def connect_engine(services: AccountServices) -> InstantEngine:
    """Return the engine; it needs nothing."""
    return InstantEngine()


@asynccontextmanager
async def _open_core() -> AsyncIterator[Core]:
    store = open_store(os.environ["SETTLEMENT_STORE"])
    try:
        async with (
            open_connector("http://127.0.0.1:1") as connector,
            open_core(connect_engine, store=store, connector=connector) as core,
        ):
            yield core
    finally:
        store.close()


app = LifespanApp(_open_core)
"""For uvicorn and other ASGI servers: `uvicorn benchmarks.instant:app`."""
