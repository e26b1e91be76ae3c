"""Embedded: settling within a program, without HTTP, beside a bare loop that gives the same store the same commands.

What counts is when everything that was accepted has been settled and recorded.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio

from benchmarks.bare import open_bare_core
from benchmarks.clients import Clients, TakingConnector, open_accounts
from benchmarks.figures import Row
from benchmarks.turns import Figures, in_fresh_process, in_turn
from settlement_core import collect_garbage_rarely, open_core, open_store
from settlement_core.abc import Store

__all__ = ["BACKENDS", "EMBEDDED_STORES", "live", "live_bare", "measure_embedded"]

BACKENDS = ("trio", "asyncio")

EMBEDDED_STORES = ("sqlite", "memory")


def measure_embedded(
    folder: Path,
    *,
    stores: Sequence[str] = EMBEDDED_STORES,
    backends: Sequence[str] = BACKENDS,
    accounts: Sequence[int] = (1, 100, 10_000),
    seconds: float = 2,
    rounds: int = 3,
) -> Iterator[Row]:
    """Yield rows of the core and the bare loop on each store and loop, among each number of accounts."""
    for store in stores:
        for count in accounts:
            turns = {
                f"{core}, {backend}": partial(
                    in_fresh_process,
                    settle_embedded,
                    folder,
                    store,
                    backend=backend,
                    bare=core == "bare loop",
                    accounts=count,
                    seconds=seconds,
                )
                for backend in backends
                for core in ("bare loop", "core")
            }
            for name, figures in (found := in_turn(turns, rounds=rounds)).items():
                core, _, backend = name.partition(", ")
                floor = found[f"bare loop, {backend}"]
                yield Row(
                    question="embedded",
                    workload=f"without HTTP, {store}, 64 clients, {count:,} account{'s' * (count > 1)}",
                    subject=name,
                    durability="fsync always" if store == "sqlite" else "none",
                    figures=figures,
                    ratios={"bare loop": figures["settlements/s"] / floor["settlements/s"]} if core == "core" else {},
                )


def settle_embedded(folder: Path, store: str, *, backend: str, bare: bool, accounts: int, seconds: float) -> Figures:
    """Open a new store and accounts, have 64 clients ask for `seconds`, and return how fast all was settled."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as books,
        closing(open_store(f"sqlite:{books}/settle.db" if store == "sqlite" else "memory:")) as opened,
    ):
        open_accounts(opened, accounts)
        collect_garbage_rarely()
        return anyio.run(live_bare if bare else live, opened, Clients(accounts), seconds, backend=backend)


async def live(store: Store, clients: Clients, seconds: float) -> Figures:
    """Have a core settle what the clients ask for."""
    async with open_core(lambda _: clients, store=store, connector=TakingConnector()) as core:
        began = time.perf_counter()
        await clients.ask(core.request_settlement, seconds=seconds)
        await clients.wait_settled(lambda: core.statistics().active_lanes)
        return _figures(clients, time.perf_counter() - began)


async def live_bare(store: Store, clients: Clients, seconds: float) -> Figures:
    """Have a bare loop settle what the clients ask for."""
    async with open_bare_core(store, clients) as core:
        began = time.perf_counter()
        await clients.ask(core.request_settlement, seconds=seconds)
        await clients.wait_settled(lambda: core.active)
        return _figures(clients, time.perf_counter() - began)


def _figures(clients: Clients, took_s: float) -> Figures:
    percentiles = statistics.quantiles(clients.took_s, n=100)
    return {
        "settlements/s": clients.settled / took_s,
        "p50 ms": percentiles[49] * 1000,
        "p99 ms": percentiles[98] * 1000,
    }
