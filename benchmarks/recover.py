"""Recover: how soon a core that starts with many debts settles the first one, and has settled them all.

On fsynced SQLite, without HTTP, from the opening of the store. Requests are taken from the first second on. (The
original begins none of this: what is queued waits for the account's next request.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path

import anyio

from benchmarks.clients import TakingConnector
from benchmarks.embedded import BACKENDS
from benchmarks.figures import Row
from benchmarks.filling import fill_accounts
from benchmarks.turns import Figures, in_fresh_process, in_turn
from settlement_core import collect_garbage_rarely, open_core, open_sqlite_store

__all__ = ["measure_recover"]


def measure_recover(
    folder: Path,
    *,
    backends: Sequence[str] = BACKENDS,
    owing: Sequence[int] = (1_000, 10_000, 100_000),
    rounds: int = 1,
) -> Iterator[Row]:
    """Yield rows of each loop, with each number of accounts that owe."""
    for count in owing:
        turns = {backend: partial(in_fresh_process, _recover, folder, count, backend) for backend in backends}
        for backend, figures in in_turn(turns, rounds=rounds).items():
            yield Row(
                question="recover",
                workload=f"start with {count:,} accounts that owe, sqlite",
                subject=f"core, {backend}",
                durability="fsync always",
                figures=figures,
            )


class _Payer:
    """Pays at once, and notes when it was first asked to."""

    def __init__(self) -> None:
        self.calls = 0
        self.first_at = 0.0

    async def settle(self, account_id: str, amount: Decimal) -> Decimal:
        """Pay."""
        self.first_at = self.first_at or time.perf_counter()
        self.calls += 1
        return amount


def _recover(folder: Path, owing: int, backend: str) -> Figures:
    path = folder / f"owing-{owing}-{backend}.db"
    path.unlink(missing_ok=True)
    fill_accounts(path, owing, owing=True)
    payer = _Payer()

    async def settle_all(began: float) -> Figures:
        async with open_core(lambda _: payer, store=store, connector=TakingConnector()) as core:
            collect_garbage_rarely()
            while payer.calls < owing or core.statistics().active_lanes:
                await anyio.sleep(0.005)
            took_s = time.perf_counter() - began
        return {"accounts/s": owing / took_s, "first s": payer.first_at - began, "all s": took_s}

    began = time.perf_counter()
    with closing(open_sqlite_store(path)) as store:
        return anyio.run(settle_all, began, backend=backend)
