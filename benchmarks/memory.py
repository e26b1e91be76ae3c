"""Memory: what an account costs at rest, at work, and for every entry that waits in its queue.

Resident memory of a process of its own, without HTTP, and bytes on the disk; what the same core holds without any
accounts is taken off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import anyio

from benchmarks.clients import ONE, TakingConnector, account_name, open_accounts, resident
from benchmarks.embedded import BACKENDS
from benchmarks.figures import Row
from benchmarks.filling import fill_accounts
from benchmarks.turns import Figures, in_fresh_process
from settlement_core import Core, CoreConfig, open_core, open_store

__all__ = ["measure_memory"]

KIB = 1024

CONFIG = CoreConfig(shutdown_s=0.01)
"""What is under way is to be cut: it would take for ever."""


def measure_memory(
    folder: Path,
    *,
    backends: Sequence[str] = BACKENDS,
    at_rest: int = 1_000_000,
    active: int = 10_000,
    queued: int = 50_000,
) -> Iterator[Row]:
    """Yield rows of accounts at rest in either store, and of accounts at work and their queues on each loop."""
    for store, count in (("sqlite", at_rest), ("memory", at_rest // 10)):
        nothing = in_fresh_process(_hold, folder, store, 0)
        found = in_fresh_process(_hold, folder, store, count)
        each = {what: (found[what] - nothing[what]) / count for what in found}
        yield _row(f"{count:,} accounts at rest", f"core, {store}", each, store)
    for backend in backends:
        for store in ("sqlite", "memory"):
            figures = in_fresh_process(_work, folder, store, backend, active=active, queued=queued)
            workload = f"{active:,} accounts at work, then {queued:,} more requests"
            yield _row(workload, f"core, {backend}, {store}", figures, store)


def _row(workload: str, subject: str, figures: Figures, store: str) -> Row:
    durability = "fsync always" if store == "sqlite" else "none"
    return Row(question="memory", workload=workload, subject=subject, durability=durability, figures=figures)


class _Slow:
    """Never done with a payment."""

    def __init__(self) -> None:
        self.calls = 0

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Wait to be cut."""
        self.calls += 1
        await anyio.sleep_forever()
        return amount


def _hold(folder: Path, store: str, count: int) -> Figures:
    """Open a core on so many accounts, and return what it holds."""
    path = folder / f"at-rest-{count}.db"
    if store == "sqlite":
        fill_accounts(path, count)

    async def rest() -> Figures:
        async with open_core(lambda _: _Slow(), store=opened, connector=TakingConnector()) as core:
            while not core.statistics().recovered:
                await anyio.sleep(0.01)
            return {"memory B": resident(), "disk B": path.stat().st_size if store == "sqlite" else 0}

    with closing(open_store(f"sqlite:{path}" if store == "sqlite" else "memory:")) as opened:
        if store == "memory":
            open_accounts(opened, count)
        return anyio.run(rest, backend="trio")


def _work(folder: Path, store: str, backend: str, *, active: int, queued: int) -> Figures:
    """Have accounts work, then requests queue, and return what each costs."""
    engine = _Slow()

    async def work() -> Figures:
        async with open_core(lambda _: engine, store=opened, connector=TakingConnector(), config=CONFIG) as core:
            before = resident()
            await _ask(core, "first", active, active)
            while engine.calls < active:
                await anyio.sleep(0.01)
            at_work = resident()
            await _ask(core, "then", queued, active)
            return {
                "KiB per active account": (at_work - before) / active / KIB,
                "KiB per queued entry": (resident() - at_work) / queued / KIB,
            }

    with closing(open_store(f"sqlite:{folder}/{backend}.db" if store == "sqlite" else "memory:")) as opened:
        open_accounts(opened, active)
        return anyio.run(work, backend=backend)


async def _ask(core: Core, key: str, requests: int, accounts: int) -> None:
    """Ask one account after the other, from 64 tasks."""
    numbers = iter(range(requests))

    async def ask() -> None:
        for number in numbers:
            await core.request_settlement(account_name(number % accounts), ONE, f"{key}-{number}")

    async with anyio.create_task_group() as tasks:
        for _ in range(64):
            tasks.start_soon(ask)
