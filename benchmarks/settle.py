"""Settle: from a request to its record, through the engine, which pays at once.

Over HTTP ours and the original; and the core within a program, beside a bare loop that gives the same store the same
commands. What counts is when everything that was accepted has been settled.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import anyio

from benchmarks.bare import open_bare_core
from benchmarks.embedded import Clients, TakingConnector, open_accounts
from benchmarks.figures import Row
from benchmarks.turns import Figures, in_fresh_process, in_turn
from settlement_core import open_core, open_store
from settlement_core.abc import Store

__all__ = ["BACKENDS", "CORES", "measure_embedded"]

BACKENDS = ("trio", "asyncio")

EMBEDDED_STORES = ("sqlite", "memory")

CORES = ("core", "bare loop")


def measure_embedded(
    folder: Path,
    *,
    stores: Sequence[str] = EMBEDDED_STORES,
    backends: Sequence[str] = BACKENDS,
    accounts: Sequence[int] = (1, 100, 10_000),
    seconds: float = 2,
    rounds: int = 3,
) -> Iterator[Row]:
    """Yield rows of the core without HTTP, beside the bare loop, on each store, among each number of accounts."""
    for store in stores:
        for count in accounts:
            turns = {
                f"{core}, {backend}": partial(
                    in_fresh_process, settle_embedded, core, backend, store, folder, accounts=count, seconds=seconds
                )
                for backend in backends
                for core in CORES
            }
            found = in_turn(turns, rounds=rounds)
            for name, figures in found.items():
                core, _, backend = name.partition(", ")
                floor = found[f"bare loop, {backend}"]["settlements/s"]
                yield Row(
                    question="settle",
                    workload=f"without HTTP, {store}, 64 clients, {count:,} account{'s' * (count > 1)}",
                    subject=name,
                    durability="fsync always" if store == "sqlite" else "none",
                    figures=figures,
                    ratios={"bare loop": figures["settlements/s"] / floor} if core == "core" else {},
                )


def settle_embedded(core: str, backend: str, store: str, folder: Path, *, accounts: int, seconds: float) -> Figures:
    """Have 64 clients ask for `seconds`, wait until all is settled and recorded, and return how fast that went."""
    with tempfile.TemporaryDirectory(dir=folder) as books:
        opened = open_store(f"sqlite:{books}/settle.db" if store == "sqlite" else "memory:")
        try:
            open_accounts(opened, accounts)
            clients = Clients(accounts)
            live = _live_in_core if core == "core" else _live_in_bare_loop
            took_s = anyio.run(live, opened, clients, seconds, backend=backend)
        finally:
            opened.close()
    percentiles = statistics.quantiles(clients.took_s, n=100)
    return {
        "settlements/s": clients.settled / took_s,
        "p50 ms": percentiles[49] * 1000,
        "p99 ms": percentiles[98] * 1000,
    }


async def _live_in_core(store: Store, clients: Clients, seconds: float) -> float:
    async with open_core(lambda _: clients, store=store, connector=TakingConnector()) as core:
        began = time.perf_counter()
        await clients.ask(core.request_settlement, seconds=seconds)
        while clients.settled < clients.accepted or core.statistics().active_lanes:
            await anyio.sleep(0.002)
        return time.perf_counter() - began


async def _live_in_bare_loop(store: Store, clients: Clients, seconds: float) -> float:
    async with open_bare_core(store, clients) as core:
        began = time.perf_counter()
        await clients.ask(core.request_settlement, seconds=seconds)
        while clients.settled < clients.accepted or core.active:
            await anyio.sleep(0.002)
        return time.perf_counter() - began
