"""What accounts cost: at rest, at work, and at a start with many that owe."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import anyio

from settlement_core import AccountServices, Acknowledged, Core, CoreConfig, CreditOutcome, open_core, open_sqlite_store
from settlement_core.stores.sqlite import SqliteStore
from settlement_core.values.commands import Enqueue, OpenAccount
from settlement_core.values.records import Direction

__all__ = ["measure_memory", "measure_start"]

PAGE = 4096
BATCH = 500


class Connector:
    """Takes every credit."""

    async def credit(self, account_id: str, amount: Decimal, idempotency_key: str) -> CreditOutcome:
        """Take it."""
        return Acknowledged()

    async def send_message(self, account_id: str, message: bytes) -> bytes:
        """Answer nothing."""
        return b"null"


class Engine:
    """Pays after `takes_s` seconds."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s = takes_s
        self.calls = 0

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay."""
        self.calls += 1
        await anyio.sleep(self.takes_s)
        return amount


def resident() -> int:
    """Return the bytes of memory this process holds."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE


def fill(store: SqliteStore, accounts: int, *, owing: bool) -> None:
    """Open accounts, and have each owe one unit."""
    for first in range(0, accounts, BATCH):
        names = [f"account-{number:07}" for number in range(first, min(first + BATCH, accounts))]
        store.apply([OpenAccount(account_id=name, at=0.0) for name in names])
        if owing:
            store.apply([request(name, "first") for name in names])


def request(name: str, key: str) -> Enqueue:
    """Return a settlement request."""
    return Enqueue(account_id=name, direction=Direction.OUTGOING, entry_id=key, amount=Decimal(1), at=0.0)


def run(backend: str, folder: Path, engine: Engine, work: Callable[[Core], Awaitable[None]], name: str) -> None:
    """Open a core on the store of that name, work, and cut it."""

    async def connect(_: AccountServices) -> Engine:
        return engine

    async def main() -> None:
        config = CoreConfig(shutdown_s=0.01)
        async with open_core(connect, store=store, connector=Connector(), config=config) as core:
            await work(core)

    store = open_sqlite_store(folder / name)
    try:
        anyio.run(main, backend=backend)
    finally:
        store.close()


def measure_memory(backend: str, folder: Path, *, at_rest: int, active: int) -> dict[str, float]:
    """Return tasks and bytes per account at rest, and bytes per account with a settlement under way."""
    figures: dict[str, float] = {}
    name = f"memory-{backend}.db"
    store = open_sqlite_store(folder / name)
    fill(store, at_rest, owing=False)
    store.close()
    engine = Engine(takes_s=3600)

    async def work(core: Core) -> None:
        await anyio.sleep(0.5)
        before = resident()
        figures["tasks of accounts at rest"] = core.statistics().active_lanes
        for number in range(active):
            await core.request_settlement(f"account-{number:07}", Decimal(1), "key")
        while engine.calls < active:
            await anyio.sleep(0.01)
        assert core.statistics().active_lanes == active
        figures["KiB per active account"] = (resident() - before) / active / 1024

    run(backend, folder, engine, work, name)
    return figures


def measure_start(backend: str, folder: Path, *, owing: int) -> dict[str, float]:
    """Return how soon a start with many debts accepts a request, and has settled them all."""
    figures: dict[str, float] = {}
    name = f"start-{backend}-{owing}.db"
    store = open_sqlite_store(folder / name)
    fill(store, owing, owing=True)
    store.close()
    engine = Engine(takes_s=0)
    began = time.perf_counter()

    async def work(core: Core) -> None:
        await core.create_account("newcomer")
        await core.request_settlement("newcomer", Decimal(1), "key")
        figures["s to the first accepted request"] = time.perf_counter() - began
        while engine.calls < owing + 1:
            await anyio.sleep(0.01)
        figures["s until all have settled"] = time.perf_counter() - began
        figures["accounts resumed per s"] = owing / figures["s until all have settled"]

    run(backend, folder, engine, work, name)
    return figures
